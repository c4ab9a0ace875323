"""Memory of the process of a test."""

from pathlib import Path


def mapped_mib():
    """Return the memory of this process that is mapped from files, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShmem"))) / 1024
