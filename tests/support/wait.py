"""Waiting for what another thread, process or service does."""

import time


def until(condition, seconds=600, every=0.02, process=None):
    """Wait for something; return what it returns. It has to come before the time is over, and before a process ends."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not happen"
        time.sleep(every)
    return found
