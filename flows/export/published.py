"""All that is published of one dataset."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from flows.adapters.catalog_store import CatalogStore, read_table
from schemas.dataset import TableOf
from schemas.errors import Misconfigured


def published_files(out: Path, name: str, tables: Mapping[str, TableOf], night: str | None = None) -> list[Path]:
    """Give the files of a dataset, of one night or of all.

    Parameters
    ----------
    out
        Output folder of a run.
    name, tables
        Of the dataset; declared form of each that can be published.
    night
        YYYYMMDD.

    Raises
    ------
    Misconfigured
        There is no such dataset, or nothing of it is published.
    """
    if name not in tables:
        raise Misconfigured("no_dataset", "--dataset", f"{name!r} is no dataset.", f"choose one of {sorted(tables)}.")
    files = CatalogStore(out).list(tables[name], night)
    if not files:
        there = sorted(path.name for path in (out / "catalogs").glob("*") if path.name in tables)
        raise Misconfigured(
            "nothing_published",
            str(out),
            f"holds no catalogue {name!r}{f' of night {night}' if night else ''}.",
            f"choose one of {there}." if there else "give the --out folder of a `nightstride run` that has finished.",
        )
    return files


def published_table(files: list[Path], dataset: TableOf) -> pa.Table:
    """Read files of a dataset into one table; errors as in `flows.adapters.catalog_store.read_table`."""
    return pa.concat_tables([read_table(path, dataset) for path in files])
