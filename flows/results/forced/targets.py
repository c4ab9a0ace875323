"""Targets: objects to measure, and their positions at any time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.results.forced.target_file import Cells, TargetFile
from flows.storage.digest import digest
from kernels.sky.positions import along_great_circle
from schemas.errors import BadInput, Misconfigured

Floats = NDArray[np.float64]

RATES = (("rate_ra_cosdec", "rate_dec"), ("rate", "position_angle"))
"""Two ways to state the motion."""

EPOCHS = ("epoch", "epoch_utc")
"""Two ways to state the epoch of the position: MJD TAI and MJD UTC."""


@dataclass(frozen=True)
class Sky:
    """Positions of targets at one time; arrays with one entry per target.

    Attributes
    ----------
    ra, dec
        ICRS, deg.
    angle
        Position angle of the motion at the time, from north through east, deg.
    """

    ra: Floats
    dec: Floats
    angle: Floats


@dataclass(frozen=True)
class ForcedTargets:
    """Objects on great circles at constant rates; arrays with one entry per target, by name.

    Attributes
    ----------
    name
        Unique names.
    ra, dec
        Position (ICRS) at ``epoch``, deg.
    epoch
        MJD TAI.
    rate, angle
        arcsec / h; position angle at ``epoch``, from north through east, deg.
    """

    name: NDArray[np.str_]
    ra: Floats
    dec: Floats
    epoch: Floats
    rate: Floats
    angle: Floats

    def __len__(self) -> int:
        return len(self.name)

    @property
    def digest(self) -> str:
        """Return the digest of all values, which does not depend on the file that they came from."""
        return digest("targets", {field.name: getattr(self, field.name).tolist() for field in fields(self)})

    def at(self, mjd_tai: float) -> Sky:
        """Return their positions at a time, MJD TAI."""
        hours = np.where(self.rate > 0, (mjd_tai - self.epoch) * 24, 0.0)
        return Sky(*along_great_circle(self.ra, self.dec, self.angle, self.rate / 3600 * hours))


def forced_targets(file: TargetFile) -> tuple[ForcedTargets, tuple[BadInput, ...]]:
    """Return the targets in a file, sorted by name, and the errors of rows that are left out.

    Raises
    ------
    Misconfigured
        A column is missing or redundant, or has a unit that cannot be converted.
    """
    _require_columns(file)
    cells = Cells(file)
    values, bad = {}, []
    for row in range(file.rows):
        try:
            one = _target(cells, row)
            if one[0] in values:
                raise cells.bad(row, "name", one[0], "must differ from all others", "give each target its own name.")
            values[one[0]] = one
        except BadInput as error:
            bad.append(error)
    return sorted_targets(values), tuple(bad)


def placed_target(name: str, ra: float, dec: float) -> ForcedTargets:
    """Return a single stationary target.

    Parameters
    ----------
    name
        Name of the target.
    ra, dec
        Position, ICRS, deg.
    """
    return sorted_targets({name: (name, ra % 360, dec, np.nan, 0.0, 0.0)})


def sorted_targets(values: Mapping[str, tuple[Any, ...]]) -> ForcedTargets:
    """Return targets sorted by name, from name -> values for the columns of `ForcedTargets`."""
    rows = [values[name] for name in sorted(values)]
    names = np.array([row[0] for row in rows], str)
    return ForcedTargets(names, *(np.array([row[k] for row in rows], float) for k in range(1, 6)))


def _target(cells: Cells, row: int) -> tuple[str, float, float, float, float, float]:
    """Return the name, ra, dec, epoch, rate and angle in a row."""
    name = cells.text(row, "name")
    ra, dec = cells.number(row, "ra", 0, 360), cells.number(row, "dec", -90, 90)
    rate, angle = _motion(cells, row)
    return name, ra % 360, dec, cells.epoch(row, needed=rate > 0), rate, angle


def _motion(cells: Cells, row: int) -> tuple[float, float]:
    if cells.has("rate"):
        rate = cells.number(row, "rate", 0, np.inf)
        return rate, cells.number(row, "position_angle", -360, 360) % 360 if rate > 0 else 0.0
    if cells.has("rate_dec"):
        east, north = (cells.number(row, name, -np.inf, np.inf) for name in RATES[0])
        return float(np.hypot(east, north)), float(np.degrees(np.arctan2(east, north)) % 360)
    return 0.0, 0.0


def _require_columns(file: TargetFile) -> None:
    present = set(file.columns)
    missing = [name for name in ("name", "ra", "dec") if name not in present]
    for pair in RATES:
        missing += [name for name in pair if name not in present] if present & set(pair) else []
    moving = any(present & set(pair) for pair in RATES)
    if moving and not present & set(EPOCHS):
        missing.append("epoch")
    if missing:
        raise Misconfigured(
            "missing_column",
            str(file.path),
            f"has no column {', '.join(missing)}; its columns are {', '.join(file.columns)}.",
            "name the columns name, ra, dec and, for what moves, epoch or epoch_utc with rate_ra_cosdec and rate_dec, "
            "or rate and position_angle.",
        )
    for ways in (RATES, [(name,) for name in EPOCHS]):
        _refuse_both(file, ways)


def _refuse_both(file: TargetFile, ways: Sequence[tuple[str, ...]]) -> None:
    if all(set(way) <= set(file.columns) for way in ways):
        stated = " and ".join("/".join(way) for way in ways)
        raise Misconfigured(
            "stated_twice", str(file.path), f"has both {stated}, which may contradict each other.", "leave one out."
        )
