"""Time to open a hundred nights in Python and to look at their detections:

    python -m benchmarks.scale.open_nights --exposures 64 --nights 100
    python -m benchmarks.scale.open_nights --exposures 4096 --nights 100

fakes a night that is done, by the storage code, with random detections on each exposure, and joins its catalogues where
a run would. The nights besides it have the same files under other labels. Each line is the time since `ns.open`, with
the files in the system's cache; the first two lines are those that a limit holds for. Exit code 1: one is slower.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

import nightstride as ns
from benchmarks.scale.years import DETECTORS, FIRST, _unflushed, add_night, make_night
from benchmarks.support.command_line import command_line
from flows.storage.catalog_store import CatalogStore
from flows.storage.compaction import compact
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.settings import Settings

LIMIT_S = 1.0
"""Maximum time for each step before a user's first look, s."""

SIX = ["night", "diaSourceId", "ra", "dec", "magAB", "reliability"]


@dataclass(frozen=True)
class Looked:
    """What was asked for, the rows that came, time and processor time, s, and whether a limit holds for it."""

    what: str
    rows: int
    seconds: float
    cpu: float
    limited: bool

    @property
    def passes(self) -> bool:
        """Return whether it keeps the limit, if there is one."""
        return not self.limited or self.seconds <= LIMIT_S


def detections(key: ExposureKey, rows: int, rng: np.random.Generator) -> pa.Table:
    """Return rows of `dia_source` of an exposure, with random numbers in them."""
    columns = {}
    for field in DIA_SOURCE.schema:
        if pa.types.is_floating(field.type):
            columns[field.name] = pa.array(rng.uniform(0, 1, rows).astype(field.type.to_pandas_dtype()))
        elif pa.types.is_fixed_size_list(field.type):
            values = pa.array(rng.normal(size=rows * field.type.list_size), field.type.value_type)
            columns[field.name] = pa.FixedSizeListArray.from_arrays(values, field.type.list_size).cast(field.type)
        else:
            columns[field.name] = pa.array((["r"] if pa.types.is_string(field.type) else [1]) * rows, field.type)
    ids = (key.visit << 21) | (key.detector << 12) | np.arange(rows)
    own = {"diaSourceId": ids, "visit": [key.visit] * rows, "detector": [key.detector] * rows}
    columns |= {name: pa.array(values, DIA_SOURCE.schema.field(name).type) for name, values in own.items()}
    return pa.table(columns, schema=DIA_SOURCE.schema)


def make_nights(folder: Path, exposures: int, nights: int, rows: int) -> Path:
    """Fill ``folder/out`` with nights of so many exposures with so many detections each; return it."""
    out, rng = folder / "out", np.random.default_rng(1)
    make_night(folder, exposures)
    with _unflushed():
        for number in range(exposures):
            visit, detector = divmod(number, DETECTORS)
            key = ExposureKey(night=str(FIRST), visit=visit, detector=detector)
            CatalogStore(out).publish(DIA_SOURCE, key, detections(key, rows, rng), f"{number:064x}")
        compact(out, str(FIRST), Settings().catalogs.compact_from, lambda fill, one, other: fill(one, other))
        for number in range(1, nights):
            add_night(out, number)
            first = out / "catalogs" / DIA_SOURCE.name / f"night={FIRST}"
            copy = first.with_name(f"night={FIRST - 10000 + number}")
            copy.mkdir()
            for path in first.iterdir():
                os.link(path, copy / path.name)
    return out


def _by_pyarrow(night: ns.Night) -> int:
    """Read all detections as pyarrow alone does, by threads: what no way through our own code can be faster than."""
    files = [str(path) for path in CatalogStore(night.out).list(DIA_SOURCE)]
    return len(ds.dataset(files).to_table())


def looks(out: Path) -> list[Looked]:
    """Open the nights, and look at them in ways that cost more and more."""
    found = []

    def look(what: str, work: Callable[[ns.Night], int], limited: bool = False) -> None:
        start, used = perf_counter(), process_time()
        rows = work(ns.open(out))
        found.append(Looked(what, rows, perf_counter() - start, process_time() - used, limited))

    last = ns.open(out).nights[-1]
    look("detections()", lambda night: len(night.detections().columns), True)
    look("detections().head(10)", lambda night: len(night.detections().head(10)), True)
    look("len(detections())", lambda night: len(night.detections()))
    look("one night, all columns, pandas", lambda night: len(night[last].detections().to_pandas()))
    look(
        'where="reliability > 0.999", all columns',
        lambda night: len(night.detections(where="reliability > 0.999").to_astropy()),
    )
    look("all columns, Arrow", lambda night: len(night.detections().to_arrow()))
    look("the same, by pyarrow's dataset reader alone", _by_pyarrow)
    look("six columns, Arrow", lambda night: len(night.detections(SIX).to_arrow()))
    look("six columns, QTable", lambda night: len(night.detections(SIX).to_astropy()))
    look("exposures by the ledger", lambda night: len(night.exposures(["night", "visit", "status"]).to_arrow()))
    return found


def main() -> int:
    """Measure, print a table, and return the exit code."""
    chosen = command_line(
        __doc__,
        exposures=(64, "of a night"),
        nights=100,
        rows=(30, "detections of an exposure"),
    )
    with tempfile.TemporaryDirectory() as folder:
        out = make_nights(Path(folder), chosen.exposures, chosen.nights, chosen.rows)
        files = sum(1 for _ in out.glob(f"catalogs/{DIA_SOURCE.name}/*/*"))
        looks(out)
        found = looks(out)
    print(f"{chosen.nights} nights of {chosen.exposures} exposures, {files} files\n")
    print("| look | rows | s | CPU s |\n| --- | ---: | ---: | ---: |")
    for one in found:
        print(f"| `{one.what}` | {one.rows:,} | {one.seconds:.2f} | {one.cpu:.2f} |")
    return int(not all(one.passes for one in found))


if __name__ == "__main__":
    sys.exit(main())
