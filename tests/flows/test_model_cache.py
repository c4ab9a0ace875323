import pytest

from flows.adapters.weights import read_card
from flows.model_cache import model_digests, models_of
from schemas.errors import Misconfigured
from schemas.settings import DetectSettings, Settings
from stages import PIPELINE

DETECT, MERGE, MEASURE = PIPELINE


def test_digests_are_those_of_the_cards_in_use():
    settings = Settings()
    digests = model_digests(PIPELINE, settings)
    assert digests == {
        "detect": read_card("detect", settings.detect.model).sha256,
        "reliability": read_card("reliability", settings.measure.model).sha256,
    }
    assert model_digests([MERGE], settings) == {}


def test_each_stage_gets_its_models_loaded_once():
    assert models_of(MERGE, Settings()) == {}
    first, second = models_of(MEASURE, Settings()), models_of(MEASURE, Settings(detect=DetectSettings(batch=7)))
    assert first.keys() == {"reliability"}
    assert first["reliability"] is second["reliability"]
    assert models_of(DETECT, Settings())["detect"].card.stage == "detect"


def test_a_model_that_is_not_there_is_named():
    settings = Settings(detect=DetectSettings(model="no_such"))
    with pytest.raises(Misconfigured, match="no_such"):
        model_digests(PIPELINE, settings)
    with pytest.raises(Misconfigured, match="no_such"):
        models_of(DETECT, settings)
