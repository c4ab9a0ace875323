"""Exposures of which little matters."""

from schemas.exposure import ExposureInfo, PsfModel
from schemas.ledger import ExposureRecord


def exposure_info(shape=(60, 60), fwhm_px=2.0, **known):
    """An exposure of the night 20260101, with what is known of it."""
    usual = {
        "night": "20260101", "visit": 1, "detector": 0, "instrument": "test", "band": "r", "midpoint_mjd_tai": 61000.0,
        "exposure_time_s": 30.0, "psf": PsfModel(fwhm_px=fwhm_px), "background": 0.0, "noise": 1.0,
        "source_uri": "memory://none", "source_sha256": "0" * 64,
    }  # fmt: skip
    return ExposureInfo(**{**usual, "shape": shape, **known})


def exposure_record(key=None, **known):
    """The record of an exposure that was searched, by default the first of the night, with what is known of it."""
    usual = {
        "night": "20260101", "visit": 1, "detector": 0, "source_uri": "1.fits", "source_sha256": "s", "digest": "d",
        "software": "0", "finished_at": "now",
    }  # fmt: skip
    return ExposureRecord(**{**usual, **(key.model_dump() if key else {}), **known})
