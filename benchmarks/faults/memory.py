"""Task that takes all memory."""

import threading
import time

STEP = 2**26


def swallow(size: int) -> None:
    """Start allocating ``size`` bytes beside whatever else this process does, and keep them."""
    threading.Thread(target=_swallow, args=(size,), daemon=True).start()


def _swallow(size: int) -> None:
    kept = []
    for _ in range(0, size, STEP):
        kept.append(b"\1" * STEP)
        time.sleep(0.01)  # the rest of the process goes on
    threading.Event().wait()
