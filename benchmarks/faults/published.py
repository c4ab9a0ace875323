"""Published results of a run, and the differences between two runs."""

import io
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from flows.results.verify import verify_output
from flows.storage.association_tables import FILE
from flows.storage.association_tables import TABLES as ASSOCIATED
from flows.storage.atomic import leftovers
from flows.storage.ledger import Ledger
from schemas.dataset import TableOf
from stages import PIPELINE

Exposure = tuple[int, int]
"""Visit and detector."""

TABLES = {stage.gives.name: stage.gives for stage in PIPELINE if isinstance(stage.gives, TableOf)}
TIMES = {"associatedAt", "at", "stamp"}
"""Columns of the association's store with the time of an operation."""

LEAVING_S = 300.0
"""How long processes may take to end after the command, s: freeing imports takes long on a busy machine."""


@dataclass(frozen=True)
class Published:
    """Catalogues, the exposures that are done by the ledger, and what the association's store holds.

    Attributes
    ----------
    files
        Name below ``catalogs/`` -> bytes.
    rows
        diaSourceId -> how often it is there.
    exposures
        Exposure -> how often the ledger has it, or there are files of it, whichever is more.
    associated
        Table and row of the association's store, without times -> how often it is there.
    """

    files: Mapping[str, bytes]
    rows: Counter[int]
    exposures: Counter[Exposure]
    associated: Counter[tuple[Any, ...]] = field(default_factory=Counter)


def published(out: Path, store: sa.URL | None = None) -> Published:
    """Read what is published under an output folder, in a bucket or not; ``store``: of its association if not there."""
    root = out / "catalogs"
    paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
    files = {str(path).removeprefix(f"{root}/"): path.read_bytes() for path in paths}
    found = {name: content for name, content in files.items() if name.startswith("dia_source/")}
    recorded = Counter((record.visit, record.detector) for record in Ledger(out).records() if record.status == "done")
    of_files = Counter(_exposure(name) for name in found)
    rows = Counter(one for content in found.values() for one in _ids(content))
    store = store or sa.URL.create("sqlite", database=str(out / FILE))
    return Published(files, rows, recorded | of_files, associated(store))


def associated(store: sa.URL) -> Counter[tuple[Any, ...]]:
    """Return the rows of an association's store, whose tables may not be there yet."""
    if store.database is None or (store.drivername == "sqlite" and not Path(store.database).exists()):
        return Counter()
    engine = sa.create_engine(store, poolclass=sa.NullPool)
    with engine.connect() as connection:
        there = set(sa.inspect(connection).get_table_names())
        return Counter(
            (table.name, *row)
            for table in ASSOCIATED.sorted_tables
            if table.name in there
            for row in connection.execute(sa.select(*(one for one in table.columns if one.name not in TIMES)))
        )


def _ids(content: bytes) -> list[int]:
    """Return the rows of a catalogue; one that cannot be read has none."""
    try:
        return list(pq.read_table(io.BytesIO(content))["diaSourceId"].to_pylist())
    except pa.ArrowException:
        return []


def _exposure(name: str) -> Exposure:
    found = re.search(r"(\d+)-(\d+)\.parquet$", name)
    if found is None:
        raise ValueError(f"{name} is not the name of an exposure's catalogue")
    return int(found[1]), int(found[2])


def differences(expected: Published, found: Published) -> dict[str, int]:
    """Count what is lost, what is double, and files that are not the same to the byte."""
    names = expected.files.keys() | found.files.keys()
    return {
        "rows_lost": (expected.rows - found.rows).total(),
        "rows_duplicated": found.rows.total() - len(found.rows),
        "exposures_lost": (expected.exposures - found.exposures).total(),
        "exposures_duplicated": found.exposures.total() - len(found.exposures),
        "files_differing": sum(expected.files.get(name) != found.files.get(name) for name in names),
        "associated_differing": (
            (expected.associated - found.associated) | (found.associated - expected.associated)
        ).total(),
    }


def problems(out: Path) -> int:
    """Count what `nightstride verify` finds."""
    return len(verify_output(out, TABLES).problems)


def left_behind(out: Path, tmp: Path) -> tuple[str, ...]:
    """Return temporary files, and the processes that keep theirs in this folder; these get a while to end."""
    found = [*leftovers(out), *(path for path in [out / "lease.json"] if path.exists())]
    # Dask keeps two empty lock files there, however it ends, and one of each worker that was killed.
    found += [path for path in tmp.rglob("*") if path.is_file() and path.suffix not in (".lock", ".dirlock")]
    _, living = psutil.wait_procs(using(tmp), LEAVING_S)
    return (*map(str, found), *(name for name in map(_named, living) if name))


def _named(process: psutil.Process) -> str | None:
    """Return number and command line of a process; None if it has ended and its parent has not asked for that."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return f"process {process.pid}: {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        pass
    return None


def using(tmp: Path) -> list[psutil.Process]:
    """Return the processes whose temporary files are there."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("TMPDIR") == str(tmp):
                found.append(process)
        except psutil.Error:
            continue
    return found
