"""Process that takes all memory when it is told to."""

import signal
import threading
import time

STEP = 2**26


def swallow_on_signal(size: int) -> None:
    """Have SIGUSR1 start allocating ``size`` bytes beside whatever else this process and its forks do."""
    signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=_swallow, args=(size,), daemon=True).start())


def _swallow(size: int) -> None:
    kept = []
    for _ in range(0, size, STEP):
        kept.append(b"\1" * STEP)
        time.sleep(0.01)  # the rest of the process goes on
    threading.Event().wait()
