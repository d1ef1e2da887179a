"""What must outlive the process: API keys, jobs, answers to repeated requests, the index of files."""
