from datetime import UTC, datetime, timedelta

from flows.shutter import shutter_closed
from schemas.exposure import ExposureInfo, PsfModel


def test_it_is_half_an_exposure_after_the_middle_in_utc():
    """MJD 58748 is 2019-09-22T00:00; since 2017 TAI has been 37 s ahead of UTC (IERS Bulletin C 52)."""
    info = ExposureInfo(
        night="20190921", visit=1, detector=0, instrument="x", band="r", midpoint_mjd_tai=58748.0, exposure_time_s=30,
        shape=(9, 9), psf=PsfModel(fwhm_px=2.0), background=0, noise=1, source_uri="a", source_sha256="s",
    )  # fmt: skip
    expected = datetime(2019, 9, 22, tzinfo=UTC) - timedelta(seconds=37) + timedelta(seconds=15)
    assert abs(shutter_closed(info) - expected) < timedelta(milliseconds=1)
