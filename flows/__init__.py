"""Commands, runs and their input and output: the only code that touches files, networks and processes."""
