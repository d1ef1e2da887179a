"""Where and when it happens: processes, the run directory, commits and recovery. Built on Ray; no HTTP of its own."""
