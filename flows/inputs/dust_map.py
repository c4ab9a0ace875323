"""Maps of the Milky Way's dust: E(B-V) over the sky, in HEALPix FITS files."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.storage.digest import file_digest
from schemas.errors import Misconfigured
from schemas.settings import Settings
from schemas.stage import Stage

_COLUMNS = ("EBV", "E(B-V)", "E_B_V", "REDDENING")
_REMEDY = "give a HEALPix FITS file with a column EBV (mag), ORDERING and NSIDE, or set gather_objects.dust_map = null."


class DustMap:
    """Function of (ra, dec), deg, ICRS, that returns E(B-V), mag, interpolated between the four nearest pixels."""

    def __init__(self, values: NDArray[np.float32], order: str, galactic: bool) -> None:
        from astropy_healpix import HEALPix

        self._values, self._galactic = values, galactic
        self._grid = HEALPix(nside=round((len(values) / 12) ** 0.5), order=order)

    def __call__(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return E(B-V) at positions, (n,)."""
        from astropy.coordinates import SkyCoord

        place = SkyCoord(ra, dec, unit="deg", frame="icrs")
        lon, lat = (place.galactic.l, place.galactic.b) if self._galactic else (place.ra, place.dec)
        return np.asarray(self._grid.interpolate_bilinear_lonlat(lon, lat, self._values), np.float64)


def read_dust_map(path: Path) -> DustMap:
    """Read a HEALPix map of E(B-V).

    Parameters
    ----------
    path
        Table in the first extension: a column EBV, or a single column; ``ORDERING`` NESTED or RING; ``COORDSYS`` G
        (galactic) or C (equatorial).

    Raises
    ------
    Misconfigured
        The file is missing, or is no such map.
    """
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            header, table = hdus[1].header, hdus[1].data
            names = [name for name in table.names if name.upper() in _COLUMNS] or list(table.names)
            if len(names) != 1:
                raise ValueError(f"columns {table.names}, none of them {_COLUMNS}")
            values = np.asarray(table[names[0]], np.float32).ravel()
            order, system = str(header["ORDERING"]).lower(), str(header.get("COORDSYS", "G")).upper()[:1]
        side = (len(values) / 12) ** 0.5
        if order not in ("nested", "ring") or system not in ("G", "C") or side != int(side):
            raise ValueError(f"ORDERING {order!r}, COORDSYS {system!r}, {len(values)} pixels")
    except (OSError, IndexError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise Misconfigured("bad_dust_map", str(path), f"cannot be used as a dust map: {error}.", _REMEDY) from error
    return DustMap(values, order, system == "G")


def dust_digest(stage: Stage, settings: Settings) -> tuple[str, ...]:
    """Return the digest of the dust map that a stage uses, if any.

    Raises
    ------
    Misconfigured
        The file is missing.
    """
    path = _path(stage, settings)
    try:
        return () if path is None else (file_digest(path),)
    except OSError as error:
        raise Misconfigured("bad_dust_map", str(path), f"cannot be read: {error}.", _REMEDY) from error


def dust_of(stage: Stage, settings: Settings) -> Mapping[str, Callable[..., Any]]:
    """Return the dust map for a stage's context, if it uses one. Errors as in `read_dust_map`."""
    path = _path(stage, settings)
    return {} if path is None else {"dust_map": _loaded(path, file_digest(path))}


def _path(stage: Stage, settings: Settings) -> Path | None:
    path = getattr(getattr(settings, stage.name, None), "dust_map", None)
    return None if path is None else Path(path)


@lru_cache(1)
def _loaded(path: Path, digest: str) -> DustMap:
    return read_dust_map(path)
