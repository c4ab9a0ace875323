import pytest
from pydantic import BaseModel, ValidationError

from schemas.settings import Settings


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


def test_environment(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__BATCH", "64")
    monkeypatch.setenv("NIGHTSTRIDE_DATA", "/somewhere")
    assert Settings().detect.batch == 64


def test_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().detect.batch = 3
