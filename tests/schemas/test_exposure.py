import pytest
from pydantic import ValidationError

from schemas.exposure import ExposureInfo, ExposureKey, PsfModel

GIVEN = {
    "night": "20260101", "visit": 7, "detector": 3, "instrument": "test", "band": "r", "midpoint_mjd_tai": 61000.0,
    "exposure_time_s": 30, "shape": (100, 90), "psf": PsfModel(fwhm_px=2.0), "background": 0.0, "noise": 1.0,
    "source_uri": "a", "source_sha256": "b",
}  # fmt: skip


def test_survives_json_unchanged():
    info = ExposureInfo(**GIVEN, noise_correlation=((0.1, 0.5, 0.1),) * 3, flags=("no_wcs",))
    assert ExposureInfo.model_validate_json(info.model_dump_json()) == info
    assert info.name == "7-3"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("night", "2026-01-01"), ("visit", 2**42), ("visit", -1), ("detector", 512), ("noise", 0.0), ("gain", 0.0),
        ("exposure_time_s", -1), ("masked_fraction", 1.1), ("masked_fraction", -0.1), ("zero_point_err", -0.1),
        ("surprise", 1),
    ],
)  # fmt: skip
def test_refuses_what_cannot_be(field, value):
    with pytest.raises(ValidationError, match=field):
        ExposureInfo(**(GIVEN | {field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("visit", 0), ("visit", 2**42 - 1), ("detector", 0), ("detector", 511), ("noise", 5e-324), ("gain", 5e-324),
        ("exposure_time_s", 0.0), ("masked_fraction", 0.0), ("masked_fraction", 1.0), ("zero_point_err", 0.0),
    ],
)  # fmt: skip
def test_takes_what_is_just_possible(field, value):
    assert getattr(ExposureInfo(**(GIVEN | {field: value})), field) == value


def test_is_frozen_and_hashable():
    key = ExposureKey(night="20260101", visit=1, detector=2)
    with pytest.raises(ValidationError, match="frozen"):
        key.visit = 3
    with pytest.raises(ValidationError, match="frozen"):
        PsfModel(fwhm_px=2.0).beta = 2.0
    assert len({key, ExposureKey(night="20260101", visit=1, detector=2)}) == 1


@pytest.mark.parametrize("given", [{"fwhm_px": 0}, {"fwhm_px": 2, "beta": 1.0}])
def test_psf_must_have_a_finite_flux(given):
    with pytest.raises(ValidationError, match="greater than"):
        PsfModel(**given)


def test_psf_takes_any_slope_with_a_finite_flux():
    assert PsfModel(fwhm_px=5e-324, beta=1 + 2**-52).beta > 1


def test_the_zero_point_of_pixels_in_njy_is_known():
    assert ExposureInfo(**GIVEN).ab_zero_point is None
    assert ExposureInfo(**GIVEN, zero_point=26.3).ab_zero_point == 26.3
    assert ExposureInfo(**GIVEN, pixel_unit="nJy").ab_zero_point == 31.4
    assert ExposureInfo(**GIVEN, pixel_unit="nJy", zero_point=31.2).ab_zero_point == 31.2


def test_metadata_are_of_version_1_and_in_pixels_of_no_known_scale():
    info = ExposureInfo(**GIVEN)
    assert (info.schema_version, info.noise_correlation, info.masked_fraction) == (1, ((1.0,),), 0.0)
    assert (info.psf.beta, PsfModel(fwhm_px=5e-324, beta=1 + 2**-52).source) == (3.0, "header")


def test_pixels_in_nanojansky_have_a_zero_point_of_their_own():
    """3631 Jy is magnitude 0: 1 nJy is 2.5 log10(3631e9) = 31.4."""
    for unit, zero_point, expected in (
        ("nJy", None, 31.4),
        ("adu", None, None),
        ("nJy", 30.0, 30.0),
        ("adu", 26.0, 26.0),
    ):
        assert ExposureInfo(**GIVEN, pixel_unit=unit, zero_point=zero_point).ab_zero_point == expected
