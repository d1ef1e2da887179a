"""What people reach: the command line, the run's configuration, live progress and the report."""
