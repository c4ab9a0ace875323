"""Objects in the terms of Rubin's alerts: at rest (DiaObject), and known ones of the Solar System (ssSource)."""

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
"""Columns of `dia_object` that are Rubin's under the same names."""

SEEN = (
    "diaSourceId", "ssObjectId", "designation", "elongation", "phaseAngle", "topoRange", "helioRange", "ephRa",
    "ephDec", "ephVmag", "ephRate", "ephOffset", "ephOffsetAlongTrack", "ephOffsetCrossTrack",
)  # fmt: skip
"""Columns of `ss_source` that are Rubin's under the same names."""


def encode_objects(rows: pa.Table, version: str, processed: float) -> list[Encoded]:
    """Return objects as records of DiaObject in Avro.

    Parameters
    ----------
    rows
        Of `DIA_OBJECT`.
    version
        Of the schema.
    processed
        Since when that is known, MJD TAI.
    """
    columns = table_columns(rows, OBJECT) | {"validityStartMjdTai": Column(np.full(len(rows), processed))}
    return encode_rows(record_schema("diaObject", version), columns, len(rows))


def known_records(rows: pa.Table, ra: np.ndarray, dec: np.ndarray) -> list[dict[str, Any]]:
    """Return detections of known objects as records of Rubin's ssSource.

    Parameters
    ----------
    rows
        Of `SS_SOURCE`.
    ra, dec : (n,)
        Of the detections, ICRS, deg.

    Notes
    -----
    Ecliptic longitude and latitude are about the barycentre, by the mean equinox of J2000.
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
    """Orbits of known objects, by the file that exposures were searched with.

    Parameters
    ----------
    provenance
        Of the exposures.
    """

    def __init__(self, provenance: ProvenanceRecord | None) -> None:
        self._path, self._sha256 = "", ""
        if provenance is not None:
            self._path = provenance.settings.get("predict_known", {}).get("orbits") or ""
            self._sha256 = provenance.files.get(ORBITS.name, "")

    def record(self, designation: str) -> dict[str, Any] | None:
        """Return an object as a record of Rubin's mpc_orbits.

        None if its designation is not one of a minor planet. Elements are left out where the file is not there any
        more, or is another one. Of a numbered object, whose provisional designation the file does not tell, the packed
        number stands in its place.
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
    """Return the orbits of a file; None if it is not there, or has other bytes."""
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
    one = catalogue.orbits.take(found[:1])
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
