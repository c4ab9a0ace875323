"""Command line: arguments in, exit code out. Heavy imports wait until a command runs."""

import signal


def main() -> None:
    """Run the command of this process; Ctrl-C ends it quietly, also while Python still imports it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from flows.cli.app import main as run

    signal.signal(signal.SIGINT, before)
    run()
