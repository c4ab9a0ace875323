import pytest
from pydantic import ValidationError

from schemas.keyword_mapping import FromHeader, KeywordMapping
from schemas.settings import Settings


def test_keyword_and_value_exclude_each_other():
    with pytest.raises(ValidationError, match="not both"):
        FromHeader(keyword="GAIN", value=1.0)


@pytest.mark.parametrize("section", ["visit", "band", "time", "psf_fwhm"])
def test_unknown_keys_are_refused_at_every_level(section):
    with pytest.raises(ValidationError, match="Extra inputs"):
        KeywordMapping.model_validate({section: {"keywrd": "X"}})


def test_is_a_section_of_the_settings():
    settings = Settings(fits={"psf_fwhm": {"keywords": ["A", "B"]}, "longitude_deg": 20.8})
    assert settings.fits.psf_fwhm.keywords == ("A", "B")
    assert settings.fits.detector.value == 0


def test_can_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_FITS__GAIN__KEYWORD", "EGAIN")
    assert Settings().fits.gain.keyword == "EGAIN"
