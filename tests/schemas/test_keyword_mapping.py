import pytest
from pydantic import ValidationError

from schemas.keyword_mapping import FromHeader, FwhmFromHeader, KeywordMapping
from schemas.settings import Settings


def test_keyword_and_value_exclude_each_other():
    with pytest.raises(ValidationError, match="not both"):
        FromHeader(keyword="GAIN", value=1.0)


@pytest.mark.parametrize("value", [0.0, "", 1.0, "r"])
@pytest.mark.parametrize("keyword", ["", "GAIN"])
def test_each_alone_may_be_anything(keyword, value):
    assert FromHeader(keyword=keyword).value is None
    assert FromHeader(value=value).keyword is None
    with pytest.raises(ValidationError, match="not both"):
        FromHeader(keyword=keyword, value=value)


@pytest.mark.parametrize(("last", "beyond"), [(-180.0, -180.001), (360.0, 360.001)])
def test_longitudes_are_counted_either_way(last, beyond):
    assert KeywordMapping(longitude_deg=last).longitude_deg == last
    with pytest.raises(ValidationError, match="longitude_deg"):
        KeywordMapping(longitude_deg=beyond)


def test_a_width_is_more_than_nothing():
    assert FwhmFromHeader(value=5e-324).value == 5e-324
    with pytest.raises(ValidationError, match="greater than 0"):
        FwhmFromHeader(value=0.0)


@pytest.mark.parametrize("part", [FromHeader(), FwhmFromHeader(), KeywordMapping()])
def test_a_mapping_does_not_change_and_knows_its_keys(part):
    name = next(iter(type(part).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(part, name, None)
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(part)(surprise=1)


@pytest.mark.parametrize("section", ["visit", "band", "time", "psf_fwhm"])
def test_unknown_keys_are_refused_at_every_level(section):
    with pytest.raises(ValidationError, match="Extra inputs"):
        KeywordMapping.model_validate({section: {"keywrd": "X"}})


def test_is_a_section_of_the_settings():
    settings = Settings(fits={"psf_fwhm": {"keywords": ["A", "B"]}, "longitude_deg": 20.8})
    assert settings.fits.psf_fwhm.keywords == ("A", "B")
    assert settings.fits.detector == FromHeader()


def test_can_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_FITS__GAIN__KEYWORD", "EGAIN")
    assert Settings().fits.gain.keyword == "EGAIN"


@pytest.mark.parametrize(
    ("section", "entry", "usual"),
    [
        ("time", {"scale": "utc"}, "DATE-OBS"), ("time", {"at": "end"}, "DATE-OBS"),
        ("time", {"clock": "UT"}, "DATE-OBS"), ("time", {"contradictions": "ignore"}, "DATE-OBS"),
        ("exposure_time", {"unit": "ms"}, "EXPTIME"), ("band", {"aliases": {"r_prime": "r"}}, "FILTER"),
    ],
)  # fmt: skip
def test_other_entries_alone_are_of_the_usual_keyword(section, entry, usual):
    (name,) = entry
    found = getattr(KeywordMapping.model_validate({section: entry}), section)
    assert (found.keyword, found.value, getattr(found, name)) == (usual, None, entry[name])
    given = getattr(KeywordMapping.model_validate({section: {"value": 1.0, **entry}}), section)
    assert (given.keyword, given.value) == (None, 1.0)
    assert getattr(KeywordMapping.model_validate({section: {"keyword": "X", **entry}}), section).keyword == "X"
