"""Command line: parses arguments, sets the exit code. Heavy imports wait until a command runs."""

import signal
from importlib import import_module


def main() -> None:
    """Run the command of this process; Ctrl-C ends it quietly, even during imports."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = import_module("flows.cli.app")  # by name: it imports all commands, which import this package
    signal.signal(signal.SIGINT, before)
    command.main()
