"""Waiting for what another thread, process or service does."""

import time


def until(condition, seconds=600, every=0.02, process=None):
    """Wait for something; return what it returns. It has to come before the time is over, and before a process ends.

    Looking takes a quarter of a core at most: what is waited for needs the others.
    """
    end, busy = time.monotonic() + seconds, time.thread_time()
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not happen"
        time.sleep(max(every, 3 * (time.thread_time() - busy)))
        busy = time.thread_time()
    return found
