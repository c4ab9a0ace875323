import json
import tomllib

import pytest
from pydantic import ValidationError

from schemas.quality_settings import QualitySettings
from schemas.settings import Settings


def test_a_bands_own_limits_go_first():
    text = "[limits.all]\nseeing = [0, 4.0]\ndepth = [20.0, inf]\n[limits.g]\ndepth = [20.5, inf]\n"
    settings = QualitySettings.model_validate(tomllib.loads(text))
    assert settings.bounds("g", "depth") == (20.5, None)
    assert settings.bounds("r", "depth") == (20.0, None)
    assert settings.bounds("g", "seeing") == (0, 4.0)
    assert settings.bounds("g", "noise") == (None, None)


def test_infinite_limits_survive_json():
    settings = Settings(quality={"limits": {"all": {"depth": [20.0, float("inf")]}}})
    again = Settings.model_validate(json.loads(json.dumps(settings.model_dump(mode="json"), allow_nan=False)))
    assert again.quality == settings.quality


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"all": {"colour": [0, 1]}}, "all.colour is not measured; what is: seeing"),
        ({"r": {"seeing": [4, 2]}}, "the least value 4.0 is above the largest 2.0"),
        ({"r": {"seeing": 4}}, "limits.r.seeing"),
        ({"r": 4}, "limits.r"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits, words):
    with pytest.raises(ValidationError, match=words):
        QualitySettings(limits=limits)
