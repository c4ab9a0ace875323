"""Search one tile store in a fresh process and say what it took: ``python -m benchmarks.size_pass STORE THREADS``."""

import json
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.exposure_pass import Clock, finish, search
from flows.bench.threads import use_threads


def peak_mib():
    """Peak resident memory of this process so far; `getrusage` would give the parent's where that was greater."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def main(small, store, threads):
    """Warm up on a small store, then time; peaks are before, after the search, and at the end."""
    use_threads(threads)
    finish(small, search(small, Clock()), Clock())
    peaks = [peak_mib()]
    start = perf_counter()
    hits = search(store, Clock())
    searched = perf_counter()
    peaks.append(peak_mib())
    finish(store, hits, Clock())
    finished = perf_counter()
    peaks.append(peak_mib())
    print(json.dumps({"search": searched - start, "finish": finished - searched, "peaks": peaks}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
