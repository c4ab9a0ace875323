import pytest
from pydantic import BaseModel, ValidationError

from schemas.settings import FetchSettings, InjectSettings, Settings


def sections(model):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


@pytest.mark.parametrize("section", [name for name, _ in sections(Settings)])
def test_unknown_key_is_refused_at_every_level(section):
    with pytest.raises(ValidationError, match="surprise"):
        Settings(**{section: {"surprise": 1}})
    with pytest.raises(ValidationError, match="surprise"):
        Settings(surprise=1)


def test_every_setting_says_what_it_is():
    for name, section in sections(Settings):
        for key, field in section.model_fields.items():
            nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            assert field.description or nested or name == "fits", f"{name}.{key}"


@pytest.mark.parametrize("key", ["snr", "length"])
@pytest.mark.parametrize("value", [(5.0, 3.0), (0.0, 3.0), (-1.0, 3.0), (3.0, float("inf")), (float("nan"), 3.0)])
def test_a_range_of_what_is_injected_goes_up_from_above_zero(key, value):
    with pytest.raises(ValidationError, match="must be two positive numbers, the smaller first"):
        InjectSettings(**{key: value})
    assert InjectSettings(**{key: (3.0, 3.0)})


@pytest.mark.parametrize(
    "url", ["ftp://host/ibe", "irsa.ipac.caltech.edu", "https://", "https://host/ibe?x=1", "https://a b"]
)
def test_an_archive_has_a_plain_address(url):
    with pytest.raises(ValidationError, match="must be http"):
        FetchSettings(url=url)
    assert FetchSettings(url="http://127.0.0.1:8000/ibe/").url == "http://127.0.0.1:8000/ibe"


def test_environment(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__BATCH", "64")
    monkeypatch.setenv("NIGHTSTRIDE_DATA", "/somewhere")
    assert Settings().detect.batch == 64


def test_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().detect.batch = 3
