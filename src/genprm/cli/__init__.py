"""The command line: parses, builds, calls; nothing else."""
