"""Cost of the search of one tile store in a fresh process:
``python -m benchmarks.speed.size_pass SMALL STORE THREADS``."""

import json
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.speed.exposure_pass import Clock, finish, search
from flows.training.bench.exposure import use_threads


def peak_mib():
    """Return the peak resident memory of this process so far; `getrusage` gives the parent's if that was greater."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def main(small, store, threads):
    """Warm up on a small store, then time the second pass; peaks are before, after the searches, and at the end."""
    use_threads(threads)
    finish(small, search(small, Clock()), Clock())
    peaks = [peak_mib()]
    searched, hits = _second(search, store)
    peaks.append(peak_mib())
    finished, _ = _second(finish, store, hits)
    peaks.append(peak_mib())
    print(json.dumps({"search": searched, "finish": finished, "peaks": peaks}))


def _second(function, *arguments):
    """Call a function twice; return the seconds of the second call, and its result."""
    function(*arguments, Clock())
    start = perf_counter()
    result = function(*arguments, Clock())
    return perf_counter() - start, result


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
