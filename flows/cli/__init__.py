"""Command line: arguments in, exit code out. Heavy imports wait until a command runs."""

import signal
from importlib import import_module


def main() -> None:
    """Run the command of this process; Ctrl-C ends it quietly, also while Python still imports it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = import_module("flows.cli.app")  # by its name: it imports all commands, which import this package
    signal.signal(signal.SIGINT, before)
    command.main()
