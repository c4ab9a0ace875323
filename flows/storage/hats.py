"""HATS: files beside the patches of a dataset, with which LSDB opens it as a catalogue.

`Hierarchical Adaptive Tiling Scheme <https://www.ivoa.net/documents/Notes/HATS/>`_: one Parquet file for each pixel of
a nested HEALPix grid, and beside them properties, a list of the pixels and the footers of the files.
"""

from collections.abc import Collection, Mapping
from io import BytesIO
from pathlib import Path
from struct import Struct

import pyarrow as pa
import pyarrow.parquet as pq

from flows.storage.atomic import write_file
from flows.storage.bucket_path import BucketPath
from flows.storage.layout import dataset_folder, patch_path, staging_folder
from flows.storage.writing import writing
from schemas.dataset import TableOf
from schemas.patch import PatchKey

PROPERTIES, PARTITIONS, COMMON, FOOTERS = (
    "properties", "partition_info.csv", "dataset/_common_metadata", "dataset/_metadata",
)  # fmt: skip
METADATA = (PROPERTIES, PARTITIONS, COMMON, FOOTERS)
"""Files beside those of the patches, relative to the folder of the dataset and night."""

MOST_FOOTERS = 1000
"""Most patches whose footers are collected in one file: 20 kB each. The list of pixels says as much."""


FOOTER, FOOTER_LENGTH = 1 << 17, Struct("<I")
"""Bytes at the end of a file in which its footer is as a rule, and how a file says its length."""


def write_hats(
    out: Path, night: str, dataset: TableOf, rows: Mapping[PatchKey, int], margin: tuple[str, float] | None = None
) -> None:
    """Describe the patches of a dataset as a HATS catalogue; without any the description is removed.

    Parameters
    ----------
    out, night
        Output folder, and night.
    dataset
        With columns ra, dec and, as its ids, the order-29 nested HEALPix index of the position.
    rows
        Of each patch; those without rows are not part of the catalogue.
    margin
        Of rows around patches: the dataset whose patches they are, and how far around, arcsec.

    Raises
    ------
    Retryable, Misconfigured
        As in `flows.storage.atomic.write_file`.
    """
    folder = dataset_folder(out, dataset.name, night)
    patches = sorted((key for key, count in rows.items() if count), key=lambda key: (key.order, key.pixel))
    if not patches:
        remove_hats(folder)
        return
    pixels = "".join(f"{key.order},{key.pixel}\n" for key in patches)
    contents = {
        PROPERTIES: _properties(dataset, sum(rows.values()), max(rows.values()), margin),
        PARTITIONS: f"Norder,Npix\n{pixels}".encode(),
        COMMON: _schema(dataset),
    }
    if len(patches) <= MOST_FOOTERS:
        contents[FOOTERS] = _footers([patch_path(out, dataset.name, key, ".parquet") for key in patches], folder)
    else:
        remove_hats(folder, (FOOTERS,))
    for name, content in contents.items():
        write_file(folder / name, content, staging_folder(out))


def remove_hats(folder: Path, names: Collection[str] = METADATA) -> None:
    """Remove the description of a catalogue from the folder of a dataset and night; errors as in `write_hats`."""
    for name in names:
        with writing(folder / name):
            (folder / name).unlink(missing_ok=True)


def _properties(dataset: TableOf, count: int, most: int, margin: tuple[str, float] | None) -> bytes:
    lines: dict[str, str | float] = {
        "obs_collection": dataset.name,
        "dataproduct_type": "object" if margin is None else "margin",
        "hats_nrows": count,
        "hats_max_rows": most,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_npix_suffix": ".parquet",
    }
    if margin is not None:
        lines |= {"hats_primary_table_url": margin[0], "hats_margin_threshold": margin[1]}
    return "".join(f"{name}={value}\n" for name, value in lines.items()).encode()


def _schema(dataset: TableOf) -> bytes:
    sink = BytesIO()
    pq.write_metadata(dataset.schema, sink)
    return sink.getvalue()


def _footers(paths: list[Path], folder: Path) -> bytes:
    """Return the footers of Parquet files as one, each row group with the path of its file."""
    whole: pq.FileMetaData | None = None
    for path in paths:
        footer = _footer(path)
        footer.set_file_path(path.relative_to(folder / "dataset").as_posix())
        if whole is None:
            whole = footer
        else:
            whole.append_row_groups(footer)
    sink = pa.BufferOutputStream()
    if whole is not None:
        whole.write_metadata_file(sink)
    return sink.getvalue().to_pybytes()


def _footer(path: Path) -> pq.FileMetaData:
    """Return the footer of a Parquet file; of an object in a bucket only its end is fetched."""
    if not isinstance(path, BucketPath):
        return pq.read_metadata(path)
    _, end = path.read_end(FOOTER)
    if FOOTER_LENGTH.unpack(end[-8:-4])[0] + 8 > len(end):
        end = path.read_bytes()
    return pq.read_metadata(pa.BufferReader(end))
