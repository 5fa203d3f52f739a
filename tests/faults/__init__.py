"""What goes wrong on real machines, done on purpose and counted: `python -m tests.faults --help`."""
