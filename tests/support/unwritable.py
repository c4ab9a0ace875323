"""Folders that cannot be written to."""

import os
from contextlib import contextmanager


@contextmanager
def nobody_may_write(folder):
    """Within the block this process may not write to a folder, even where it is that of root."""
    was = os.geteuid()
    folder.chmod(0o555)
    try:
        os.seteuid(was or 65534)
        yield
    finally:
        os.seteuid(was)
        folder.chmod(0o755)
