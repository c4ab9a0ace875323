"""Published catalogues in the formats of other programs: VOTable and HATS."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.storage.atomic import write_file
from flows.storage.catalog_store import CatalogStore, read_table
from schemas.dataset import TableOf
from schemas.errors import Misconfigured

ROWS = 1_000_000
"""Most rows of a partition."""


def write_hats(path: Path, dataset: TableOf, files: list[Path]) -> int:
    """Write catalogues as one HATS catalogue with `hats-import`; rows without a sky position are left out.

    Parameters
    ----------
    path
        Folder that is made; there must be none yet.
    dataset, files
        Form of the catalogues, with columns ra and dec; where they are.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    Misconfigured
        The dataset has no position on the sky, no row of it has, the folder is there, or the extra `hats` is missing.
    """
    if not {"ra", "dec"} <= set(dataset.schema.names):
        raise Misconfigured(
            "no_position", "--dataset", f"{dataset.name!r} has no columns ra and dec.", "export it as votable."
        )
    if path.exists():
        raise Misconfigured("folder_exists", str(path), "is there already.", "remove it, or name another --to.")
    try:
        from hats_import import ImportArguments, pipeline_with_client
    except ImportError as error:
        raise Misconfigured(
            "missing_extra", "hats-import", "is not installed.", "pip install 'nightstride[hats]'."
        ) from error
    from distributed import Client

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        rows = _placed(files, Path(folder))
        arguments = ImportArguments(
            ra_column="ra",
            dec_column="dec",
            input_file_list=sorted(str(one) for one in Path(folder).glob("*.parquet")),
            file_reader="parquet",
            output_artifact_name=dataset.name,
            output_path=folder,
            tmp_dir=folder,
            dask_tmp=folder,
            pixel_threshold=ROWS,
            highest_healpix_order=10,
            progress_bar=False,
            resume=False,
        )
        with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as client:
            pipeline_with_client(arguments, client)
        (Path(folder) / dataset.name).rename(path)
    return rows


def _placed(files: list[Path], folder: Path) -> int:
    """Write the rows that have a position to ``folder``, a file for each file; return their number."""
    count = 0
    for number, file in enumerate(files):
        table = pq.read_table(BytesIO(file.read_bytes()))
        table = table.filter(table["ra"].is_valid())
        if len(table):
            pq.write_table(table.replace_schema_metadata(None), folder / f"{number:06d}.parquet")
            count += len(table)
    if not count:
        raise Misconfigured(
            "no_position", str(files[0]), "and all like it have no row with a sky position.", "export it as votable."
        )
    return count


def published_files(out: Path, name: str, tables: Mapping[str, TableOf], night: str | None = None) -> list[Path]:
    """Return the files of a dataset, of one night or of all.

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
    """Read files of a dataset into one table; errors as in `flows.storage.catalog_store.read_table`."""
    return pa.concat_tables([read_table(path, dataset) for path in files])


_UNITS = {"mag(AB)": "mag", "pix": "pixel", "arcsec/pix": "arcsec/pixel", "pixel_unit": "", "pixel_unit**2": ""}
"""Units that the VOUnits standard spells otherwise, or does not know."""


_SHORTEST = 2
"""Characters of a text column: arrays of one were abolished by erratum 3 to VOTable 1.3."""


def write_votable(path: Path, dataset: TableOf, table: pa.Table) -> None:
    """Write a catalogue as one VOTable (1.4, BINARY2), with units, UCDs and descriptions of its columns.

    Nulls are NaN in floating-point columns and marked as null in others. ``mag(AB)`` becomes ``mag``; the description
    says which magnitude.

    Raises
    ------
    Retryable, Misconfigured
        It cannot be written (see `flows.storage.atomic.write_file`), or there is a folder of that name.
    """
    if path.is_dir():
        raise Misconfigured("not_a_file", str(path), "is a folder; a VOTable is one file.", "name a file with --to.")
    from astropy.io.votable import from_table
    from astropy.table import Table

    rows = Table({field.name: _values(table[field.name]) for field in dataset.schema})
    document = from_table(rows, table_id=dataset.name)
    document.version = "1.4"
    resource = document.resources[0].tables[0]
    resource.name = dataset.name
    for field, column in zip(dataset.schema, resource.fields, strict=True):
        unit = field.metadata[b"unit"].decode()
        column.unit = _UNITS.get(unit, unit) or None
        column.ucd = field.metadata[b"ucd"].decode() or None
        column.description = field.metadata[b"doc"].decode()
    content = BytesIO()
    document.to_xml(content, tabledata_format="binary2")
    write_file(path, content.getvalue(), path.parent)


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    values = column.combine_chunks()
    if pa.types.is_fixed_size_list(values.type):
        blank = [np.nan] * values.type.list_size
        rows = [blank if row is None else row for row in values.to_pylist()]
        return np.array(rows, float).reshape(-1, values.type.list_size)
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False)
    if pa.types.is_string(values.type):
        texts = values.fill_null("").to_pylist()
        return np.ma.array(texts, dtype=f"U{max(_SHORTEST, *map(len, texts))}" if texts else f"U{_SHORTEST}")
    plain = values.fill_null(False if pa.types.is_boolean(values.type) else 0).to_numpy(zero_copy_only=False)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return np.ma.array(plain, mask=missing) if missing.any() else plain
