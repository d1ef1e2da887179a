"""`onlinevpo serve`: the parts of a scoring service, put together, started, watched and ended."""
