"""Fields that a manifest gives in place of the header."""

from typing import Any

from flows.adapters.fits_format import Calibration, Identity
from flows.adapters.keywords import as_integer, as_number
from flows.adapters.sources import Source
from schemas.exposure import PsfModel

_LEAST = {"zero_point": -100.0, "gain": 1e-9, "saturation": 0.0, "psf_fwhm_px": 1e-3}


def changed_identity(identity: Identity, source: Source) -> Identity:
    """Give the identity with visit, detector and band of the manifest.

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    given = dict(source.overrides)
    limits = {"visit": 2**42, "detector": 2**9}
    numbers = {
        name: as_integer(given[name], name, source.uri, below) for name, below in limits.items() if name in given
    }
    return identity._replace(key=identity.key.model_copy(update=numbers), band=given.get("band", identity.band))


def changed_calibration(calibration: Calibration, source: Source) -> Calibration:
    """Give the calibration with zero point, gain, saturation and PSF of the manifest.

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    given: dict[str, Any] = {
        name: as_number(value, name, source.uri, _LEAST[name]) for name, value in source.overrides if name in _LEAST
    }
    if "psf_fwhm_px" in given:
        given["psf"] = PsfModel(fwhm_px=given.pop("psf_fwhm_px"), source="header")
    return calibration._replace(**given)
