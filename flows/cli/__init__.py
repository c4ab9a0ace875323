"""Commands: arguments in, exit code out. Heavy imports wait until a command runs."""
