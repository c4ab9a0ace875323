"""HATS metadata: files beside the patches of a dataset, so that LSDB can open it as a catalogue.

`Hierarchical Adaptive Tiling Scheme <https://www.ivoa.net/documents/Notes/HATS/>`_: one Parquet file for each pixel of
a nested HEALPix grid, with properties, a list of the pixels and the collected footers of the files.
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
"""Metadata files, relative to the folder of the dataset and night."""

MOST_FOOTERS = 1000
"""Largest number of patches whose footers, 20 kB each, are collected; the list of pixels is enough otherwise."""


FOOTER, FOOTER_LENGTH = 1 << 17, Struct("<I")
"""Size of the end of a file, bytes, that normally contains its footer; format of the footer's length in it."""


def write_hats(
    out: Path, night: str, dataset: TableOf, rows: Mapping[PatchKey, int], margin: tuple[str, float] | None = None
) -> None:
    """Write the HATS metadata of a dataset's patches; without any rows the metadata are removed.

    Parameters
    ----------
    out, night
        Output folder, and label of the night.
    dataset
        Dataset with columns ra and dec, whose ids are order-29 nested HEALPix indices of the positions.
    rows
        Number of rows of each patch; patches without rows are left out of the catalogue.
    margin
        For rows around patches: the dataset of these patches, and the width of the margin, arcsec.

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
    """Remove the metadata of a catalogue from the folder of a dataset and night; errors as in `write_hats`."""
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
    """Return the combined footers of Parquet files, with the path of the file in each row group."""
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
    """Return the footer of a Parquet file; for an object in a bucket usually only its end is fetched."""
    if not isinstance(path, BucketPath):
        return pq.read_metadata(path)
    _, end = path.read_end(FOOTER)
    if FOOTER_LENGTH.unpack(end[-8:-4])[0] + 8 > len(end):
        end = path.read_bytes()
    return pq.read_metadata(pa.BufferReader(end))
