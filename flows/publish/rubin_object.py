"""Objects in Rubin's format: stationary ones (DiaObject), and known ones of the Solar System (ssSource)."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flows.publish.avro_rows import Column, Encoded, encode_rows, table_columns
from flows.publish.rubin_schema import record_schema
from kernels.orbits.designations import packed_designation
from kernels.orbits.motion import GAUSS
from kernels.sky.projection import tangent_offsets
from schemas.errors import NightstrideError
from schemas.known_object import ORBITS
from schemas.ledger import ProvenanceRecord
from schemas.objects import BANDS

if TYPE_CHECKING:
    from kernels.orbits.ephemeris import OrbitCatalogue

OBJECT = (
    "diaObjectId", "ra", "dec", "raErr", "decErr", "nDiaSources", "firstDiaSourceMjdTai", "lastDiaSourceMjdTai",
    *(f"{band}_psfFlux{end}" for band in BANDS for end in ("Ndata", "Mean", "MeanErr", "Sigma", "Min", "Max")),
)  # fmt: skip
"""Columns of `dia_object` that have Rubin's names."""

SEEN = (
    "diaSourceId", "ssObjectId", "designation", "elongation", "phaseAngle", "topoRange", "helioRange", "ephRa",
    "ephDec", "ephVmag", "ephRate", "ephOffset", "ephOffsetAlongTrack", "ephOffsetCrossTrack",
)  # fmt: skip
"""Columns of `ss_source` that have Rubin's names."""


def encode_objects(rows: pa.Table, version: str, processed: float) -> list[Encoded]:
    """Return objects as Avro records of DiaObject.

    Parameters
    ----------
    rows
        Rows of `DIA_OBJECT`.
    version
        Version of the schema.
    processed
        Time from which they are valid, MJD TAI.
    """
    columns = table_columns(rows, OBJECT) | {"validityStartMjdTai": Column(np.full(len(rows), processed))}
    return encode_rows(record_schema("diaObject", version), columns, len(rows))


def known_records(rows: pa.Table, ra: np.ndarray, dec: np.ndarray) -> list[dict[str, Any]]:
    """Return detections of known objects as records of Rubin's ssSource.

    Parameters
    ----------
    rows
        Rows of `SS_SOURCE`.
    ra, dec : (n,)
        Positions of the detections, ICRS, deg.

    Notes
    -----
    Ecliptic coordinates are barycentric, with the mean ecliptic and equinox of J2000.
    """
    if not len(rows):
        return []
    from astropy.coordinates import SkyCoord

    columns: dict[str, list[Any]] = {name: rows[name].to_pylist() for name in SEEN}
    place = SkyCoord(ra, dec, unit="deg", frame="icrs")
    ecliptic, galactic = place.barycentricmeanecliptic, place.galactic
    east, north = tangent_offsets(ra, dec, rows["ephRa"].to_numpy(), rows["ephDec"].to_numpy())
    rate = rows["ephRate"].to_numpy().astype(float)
    angle = np.radians(rows["ephRateAngle"].to_numpy().astype(float))
    numbers = {
        "eclLambda": ecliptic.lon.deg,
        "eclBeta": ecliptic.lat.deg,
        "galLon": galactic.l.deg,
        "galLat": galactic.b.deg,
        "ephRateRa": rate * np.sin(angle),
        "ephRateDec": rate * np.cos(angle),
        "ephOffsetRa": 3600 * east,
        "ephOffsetDec": 3600 * north,
    }
    columns |= {name: values.tolist() for name, values in numbers.items()}
    return [dict(zip(columns, one, strict=True)) for one in zip(*columns.values(), strict=True)]


class KnownOrbits:
    """Orbits of known objects, from the file that exposures were searched with.

    Parameters
    ----------
    provenance
        Provenance of the exposures; None: no orbits are known.
    """

    def __init__(self, provenance: ProvenanceRecord | None) -> None:
        self._path, self._sha256 = "", ""
        if provenance is not None:
            self._path = provenance.settings.get("predict_known", {}).get("orbits") or ""
            self._sha256 = provenance.files.get(ORBITS.name, "")

    def record(self, designation: str) -> dict[str, Any] | None:
        """Return an object as a record of Rubin's mpc_orbits; None if its designation cannot be packed.

        Elements are left out if the file is missing or was replaced. For a numbered object, whose provisional
        designation is not in the file, the packed number stands in its place.
        """
        packed = packed_designation(designation)
        if packed is None:
            return None
        record: dict[str, Any] = {
            "id": int.from_bytes(packed.encode()[-4:], "big") & 0x7FFFFFFF,
            "designation": designation,
            "packed_primary_provisional_designation": packed,
            "unpacked_primary_provisional_designation": designation,
        }
        catalogue = _catalogue(self._path, self._sha256) if self._path and self._sha256 else None
        return record if catalogue is None else record | _elements(catalogue, designation)


@lru_cache(2)
def _catalogue(path: str, sha256: str) -> "OrbitCatalogue | None":
    """Return the orbits in a file; None if it is missing, unreadable, or has other bytes."""
    from flows.inputs.orbit_file import read_orbits
    from flows.storage.digest import file_digest

    try:
        return read_orbits(Path(path)) if file_digest(Path(path)) == sha256 else None
    except (OSError, NightstrideError):
        return None


def _elements(catalogue: "OrbitCatalogue", designation: str) -> dict[str, Any]:
    found = np.flatnonzero(catalogue.orbits.designation == designation.encode())
    if not len(found):
        return {}
    one = catalogue.orbits.take(found[-1:])
    (q,), (e,), (axis,), (u,) = one.nearest, one.eccentricity, one.axis, one.uncertainty
    numbers = {
        "a": axis, "e": e, "q": q, "i": one.inclination[0], "node": one.node[0], "argperi": one.perihelion[0],
        "epoch_mjd": one.epoch[0], "h": one.magnitude[0], "g": one.slope[0],
    }  # fmt: skip
    if e < 1:
        period = 2 * np.pi / GAUSS * float(axis) ** 1.5
        numbers |= {"mean_anomaly": one.anomaly[0], "period": period, "mean_motion": 360 / period}
    known = {name: float(value) for name, value in numbers.items() if np.isfinite(value)}
    return known | ({"u_param": int(u)} if np.isfinite(u) else {})
