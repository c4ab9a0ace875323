"""Exposures written as the LLNL challenge's npz pairs."""

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib import format as npy
from numpy.typing import NDArray

from flows.simulation.presets import random_stream
from schemas.errors import Misconfigured

PER_FILE = 100
_BOX = 100  # px, beside the length: side of the box around an asteroid
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's earliest: the time of day is no part of the data


def write_llnl(
    exposures: Iterator[tuple[NDArray[np.float32], pa.Table]], count: int, folder: Path
) -> Iterator[tuple[tuple[Path, ...], pa.Table]]:
    """Write pairs of ``asteroid_difference_images_<i>.npz`` and ``asteroid_injected_information_<i>.npz``.

    A hundred images go into a pair. The first file's ``data`` is (n, ny, nx) float32, stored; the second's is a
    pickled object array with two entries for each image: its number, and a pandas DataFrame with the columns
    magnitude, length (px), angle (deg, 0 to 360) and box (`galsim.BoundsI`, FITS pixels from 1; length + 100 wide).

    Parameters
    ----------
    exposures
        Pixels and truth of each exposure.
    count
        How many there are.
    folder
        Where to.

    Yields
    ------
    files, truth
        After each exposure: the files that it completed, none or two; its truth, with ``visit`` 1000 i + its place
        in file i and ``detector`` 0, as the format itself names no exposure.

    Raises
    ------
    Misconfigured
        pandas is not installed.
    """
    for number in range(-(-count // PER_FILE)):
        size = min(PER_FILE, count - number * PER_FILE)
        yield from _write_pair(exposures, number, size, folder)


def _write_pair(
    exposures: Iterator[tuple[NDArray[np.float32], pa.Table]], number: int, size: int, folder: Path
) -> Iterator[tuple[tuple[Path, ...], pa.Table]]:
    images = folder / f"asteroid_difference_images_{number}.npz"
    tables = folder / f"asteroid_injected_information_{number}.npz"
    entries: list[Any] = []
    with zipfile.ZipFile(images, "w") as archive, archive.open(_member("data.npy"), "w", force_zip64=True) as member:
        for place in range(size):
            pixels, truth = next(exposures)
            if place == 0:
                form = {"descr": "<f4", "fortran_order": False, "shape": (size, *pixels.shape)}
                npy.write_array_header_1_0(member, form)
            member.write(np.ascontiguousarray(pixels, "<f4").tobytes())
            truth = _renamed(truth, 1000 * number + place)
            entries += [place, _injected(truth)]
            if place < size - 1:
                yield (), truth
    _write_objects(tables, entries)
    yield (images, tables), truth


def _renamed(truth: pa.Table, visit: int) -> pa.Table:
    for name, value in (("visit", visit), ("detector", 0)):
        field = truth.schema.field(name)
        values = pa.array(np.full(len(truth), value), field.type)
        truth = truth.set_column(truth.schema.get_field_index(name), field, values)
    return truth


def _injected(truth: pa.Table) -> Any:
    """Return the table of injected asteroids of one image."""
    try:
        import pandas as pd
    except ImportError as error:
        raise Misconfigured(
            "no_pandas", "--format npz", "the tables of this format are pandas DataFrames.", "install pandas."
        ) from error
    from galsim import BoundsI

    streaks = truth.filter(pc.field("kind") == "streak").to_pylist()
    rows = []
    for place, row in enumerate(streaks):
        # Which way it moves along its trail shows in the challenge's angles, and nowhere on the image.
        turned = 180.0 * int(random_stream("llnl/direction", row["visit"], place).integers(2))
        length = round(row["length_px"])
        side = length + _BOX
        left, low = (round(row[axis] + 1 - side / 2) for axis in "xy")
        box = BoundsI(left, left + side, low, low + side)
        rows.append((row["magnitude"], length, row["angle_deg"] + turned, box))
    return pd.DataFrame(rows, columns=["magnitude", "length", "angle", "box"])


def _write_objects(path: Path, entries: list[Any]) -> None:
    column = np.empty(len(entries), object)
    column[:] = entries
    content = io.BytesIO()
    npy.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": column.shape})
    pickle.dump(column, content, protocol=3)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(_member("data.npy"), content.getvalue())


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _EPOCH)
