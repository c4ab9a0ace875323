"""Two million catalogue rows in bounded memory:
``python -m benchmarks.catalogues.spectral_rows [--rows 2000000] [--models …]``.

Writes generated rows as SkyServer would give them (CSV), reads them, fits and scores each classifier as `nightstride
train spectral-class` does, one process each, so that its peak of resident memory is its own. The rows are made:
colours of each class are normal about means like those of SDSS, so the accuracies say nothing of the sky.
"""

import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.support.command_line import command_line
from benchmarks.support.page import machine, table
from flows.training.spectral_compare import MODELS, compare
from flows.training.spectral_sample import archive_sample
from schemas.archive_columns import FEATURE_SETS

MEANS = {"STAR": (1.3, 0.5, 0.2, 0.1), "GALAXY": (1.6, 0.8, 0.35, 0.25), "QSO": (0.3, 0.2, 0.15, 0.1)}
SPREADS = {"STAR": (0.4, 0.3, 0.2, 0.1), "GALAXY": (0.3, 0.2, 0.1, 0.1), "QSO": (0.3, 0.2, 0.1, 0.1)}
SHARES = {"STAR": 0.35, "GALAXY": 0.5, "QSO": 0.15}
CHUNK = 200_000
LIMIT_GIB = 8
FEATURES = FEATURE_SETS["photometry-redshift"]


def write_rows(path, rows, seed):
    """Write rows of three classes, with a redshift, an id and now and then a sentinel."""
    rng = np.random.default_rng(seed)
    names = np.array(list(MEANS))
    with path.open("w") as file:
        file.write("#Table1\nobjid,u,g,r,i,z,class,redshift\n")
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            kind = rng.choice(3, count, p=list(SHARES.values()))
            ug, gr, ri, iz = (np.array(list(MEANS.values()))[kind] + _noise(rng, kind)).T
            r = rng.uniform(15, 20, count)
            shift = np.select([kind == 0, kind == 1], [rng.normal(0, 3e-4, count), rng.gamma(3, 0.05, count)])
            shift = np.where(kind == 2, rng.gamma(4, 0.4, count), shift)
            u = np.where(rng.random(count) < 0.002, -9999, r + gr + ug)
            columns = (u, r + gr, r, r - ri, r - ri - iz)
            text = [[f"{value:.5f}" for value in column.tolist()] for column in columns]
            ids = range(10**18 + first, 10**18 + first + count)
            rest = zip(ids, *text, names[kind].tolist(), shift.tolist(), strict=True)
            file.writelines(f"{i},{','.join(row)},{name},{z:.6f}\n" for i, *row, name, z in rest)


def _noise(rng, kind):
    return rng.normal(0, 1, (len(kind), 4)) * np.array(list(SPREADS.values()))[kind]


def run(path, name, rebalance, out):
    """Read the rows, fit and score one classifier; send times, scores and the peak of memory."""
    started = perf_counter()
    sample = archive_sample(path, "superclass", FEATURES)
    read = perf_counter() - started
    after_reading = _peak()
    (found,) = compare(sample, FEATURES, rebalance, 1, lambda _: None, (name,))
    out.put((len(sample.code), read, after_reading, found.seconds, _peak(), found.validation.accuracy))


def _peak():
    """Return the peak of resident memory of this process, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "linux" else 1 << 30)


def main():
    options = command_line(__doc__, rows=2_000_000, models=",".join(MODELS), rebalance="none")
    context = multiprocessing.get_context("spawn")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write_rows(path, options.rows, 1)
        for name in options.models.split(","):
            queue = context.Queue()
            process = context.Process(target=run, args=(path, name, options.rebalance, queue))
            process.start()
            rows, read, first, seconds, peak, accuracy = queue.get()
            process.join()
            lines.append([name, f"{read:.0f}", f"{seconds:.0f}", f"{first:.2f}", f"{peak:.2f}", f"{accuracy:.4f}"])
            print(lines[-1], file=sys.stderr, flush=True)
            assert peak < LIMIT_GIB, f"{name} took {peak:.1f} GiB"
    header = ["model", "reading, s", "fit and scores, s", "peak after reading, GiB", "peak, GiB", "accuracy"]
    print(f"{rows} rows, rebalancing {options.rebalance}; {machine(1)}\n")
    print(table(header, lines))


if __name__ == "__main__":
    main()
