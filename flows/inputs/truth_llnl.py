"""Truth table of the asteroids injected into the LLNL challenge's images."""

import re
import zipfile
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from flows.inputs.files import open_part
from flows.inputs.npz_llnl import stack_key, zip_damage
from flows.inputs.restricted_pickle import load_restricted
from schemas.errors import BadInput
from schemas.truth import TRUTH

_COLUMNS = ("magnitude", "length", "angle", "box")
_LARGEST = 2**28  # maximum bytes of a pickled table; the challenge's have some 2,000 rows


def read_llnl_truth(uri: str) -> pa.Table:
    """Read ``asteroid_injected_information_<i>.npz``, from a path or a URL.

    Its array ``data`` has two entries per image; the second of each (1, 3, 5, ...) is a table of magnitude, length,
    angle and box (`galsim.BoundsI`). Visits are numbered as when reading ``asteroid_difference_images_<i>.npz``.

    Returns
    -------
    pyarrow.Table
        Schema `TRUTH`. The files lack flux, S/N, PSF and visibility: these are NaN, but visible is 1. Centres are those
        of the boxes, converted from FITS's 1-based pixels to ours.

    Raises
    ------
    BadInput
        The file cannot be read, holds other objects, or a table has the wrong columns.
    Retryable
        Reading failed, perhaps temporarily.
    """
    images = re.sub("injected_information", "difference_images", uri)
    tables = _entries(uri)[1::2]
    rows = [
        _row(cells, stack_key(images, index).visit, uri)
        for index, table in enumerate(tables)
        for cells in _records(table, uri)
    ]
    return pa.Table.from_pylist(rows, schema=TRUTH.schema)


def _entries(uri: str) -> list[Any]:
    with open_part(uri) as file, zip_damage(uri), zipfile.ZipFile(file) as archive, archive.open("data.npy") as member:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        if not read(member)[2].hasobject:
            raise _bad(uri, "its array 'data' holds numbers, not tables")
        pickled = member.read(_LARGEST + 1)
    if len(pickled) > _LARGEST:
        raise _bad(uri, f"its tables take more than {_LARGEST} bytes")
    loaded = load_restricted(pickled, uri)
    if not isinstance(loaded, np.ndarray):
        raise _bad(uri, f"its array 'data' is {type(loaded).__name__}")
    return list(loaded)


def _records(table: Any, uri: str) -> list[dict[str, Any]]:
    """Return the rows of one image's table: a DataFrame, a mapping of columns, or ordered rows."""
    if hasattr(table, "columns"):
        records = table.to_dict("records")
    elif isinstance(table, dict):
        records = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    elif isinstance(table, np.ndarray | list | tuple) and all(len(cells) == len(_COLUMNS) for cells in table):
        records = [dict(zip(_COLUMNS, cells, strict=True)) for cells in table]
    else:
        raise _bad(uri, f"a table of {type(table).__name__} has no columns {', '.join(_COLUMNS)}")
    for record in records:
        if missing := [name for name in _COLUMNS if name not in record]:
            raise _bad(uri, f"a table has no column {', '.join(missing)}, only {', '.join(map(str, record))}")
    return records


def _row(cells: dict[str, Any], visit: int, uri: str) -> dict[str, Any]:
    box = cells["box"]
    try:
        edges = [int(getattr(box, name)) - 1 for name in ("xmin", "xmax", "ymin", "ymax")]
        magnitude, length, angle = (float(cells[name]) for name in ("magnitude", "length", "angle"))
    except (AttributeError, TypeError, ValueError) as error:
        raise _bad(uri, f"a row {cells} is not an asteroid ({error})") from error
    nan = float("nan")
    return {
        "kind": "streak",
        "objectName": "",
        "visit": visit,
        "detector": 0,
        "x": (edges[0] + edges[1]) / 2,
        "y": (edges[2] + edges[3]) / 2,
        "ra": None,
        "dec": None,
        "magnitude": magnitude,
        "flux": nan,
        "snr": nan,
        "length_px": length,
        "angle_deg": angle % 180,
        "visible": 1.0,
        "fwhm_px": nan,
        "beta": nan,
        **dict(zip(("box_xmin", "box_xmax", "box_ymin", "box_ymax"), edges, strict=True)),
    }


def _bad(uri: str, problem: str) -> BadInput:
    return BadInput("bad_truth", uri, f"{problem}.", "use the challenge's own file, or a truth table in Parquet.")
