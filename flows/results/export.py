"""Published catalogues as one HATS catalogue; other formats: `flows.results.export_formats`."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from flows.results.catalogue_rows import night_of
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import catalogs_folder
from schemas.dataset import TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured, missing_extra
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.objects import OBJECT

ROWS = 1_000_000
"""Maximum number of rows in a partition."""


def export_hats(path: Path, dataset: TableOf, files: list[Path]) -> int:
    """Write catalogues as one HATS catalogue with `hats-import`; rows without a sky position are left out.

    Parameters
    ----------
    path
        New folder in an existing one.
    dataset, files
        Schema of the catalogues, with columns ra and dec, and their files.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    Misconfigured
        The dataset, or every row of it, has no position on the sky; the folder exists; or the extra `hats` is missing.
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
        raise missing_extra("hats-import", "hats") from error
    from distributed import Client

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
    """Write the rows with a position to ``folder``, one file per input file; return the number of rows."""
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


def published_files(
    out: Path, name: str, tables: Mapping[str, TableOf], nights: NightRange = EVERY_NIGHT
) -> list[Path]:
    """Return the files of a dataset for a range of nights.

    Parameters
    ----------
    out
        Output folder of a run.
    name, tables
        Name of the dataset; declared schema of each dataset that can be published.
    nights
        Range of nights.

    Raises
    ------
    Misconfigured
        There is no such dataset, or no file of it is published.
    """
    if name not in tables:
        raise Misconfigured(
            "no_dataset", "--dataset", f"{name!r} is not a dataset.", f"choose one of {', '.join(sorted(tables))}."
        )
    only = nights.first if nights.first == nights.last else None
    store = CatalogStore(out)
    files = [one for one in store.list(tables[name], only) if night_of(one) in nights]
    if not files:
        named = {path.name for path in catalogs_folder(out).glob("*")} & tables.keys()
        there = sorted(one for one in named if store.list(tables[one]))  # a folder may be empty
        if nights and name in there:
            there = sorted({night_of(one) for one in store.list(tables[name])})
        choose = f"choose one of {', '.join(there)}."
        raise Misconfigured(
            "nothing_published",
            str(out),
            f"holds no catalogue {name!r}{f' of {nights}' if nights else ''}.",
            choose if there else "give the --out folder of a `nightstride run` that has finished.",
        )
    return files


def usual_dataset(out: Path) -> str:
    """Return the default dataset of an export: objects, or detections if there are only difference images."""
    return OBJECT.name if any((catalogs_folder(out) / OBJECT.name).glob("night=*")) else DIA_SOURCE.name


def nights_of_files(files: Iterable[Path]) -> tuple[str, ...]:
    """Return the nights of published files, sorted."""
    return tuple(sorted(set(map(night_of, files))))
