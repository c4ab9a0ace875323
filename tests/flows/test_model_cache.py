import pytest

from flows.adapters.weights import read_card, read_weights, write_model
from flows.model_cache import model_digests, models_of
from schemas.errors import Misconfigured
from schemas.settings import DetectSettings, Settings
from stages import PIPELINE
from tests.flows.screen_support import write_screen

DETECT, MERGE, MEASURE = (
    next(stage for stage in PIPELINE if stage.name == name) for name in ("detect", "merge", "measure")
)


def copied(folder, **changes):
    """Put the shipped network into a folder, with another card."""
    card, arrays = read_weights("detect", "basic_cnn")
    write_model(folder, arrays, card.model_dump() | changes)
    return Settings(detect=DetectSettings(model=str(folder)))


def test_another_threshold_or_other_weights_are_another_model(tmp_path):
    same = copied(tmp_path / "same")
    assert model_digests([DETECT], same) == model_digests([DETECT], Settings())
    assert model_digests([DETECT], copied(tmp_path / "threshold", threshold=0.7)) != model_digests([DETECT], same)
    assert model_digests([DETECT], copied(tmp_path / "version", version="2")) != model_digests([DETECT], same)
    assert model_digests([MERGE], Settings()) == {}


def test_a_model_that_changes_in_its_folder_is_loaded_again(tmp_path):
    before = models_of(DETECT, copied(tmp_path))["detect"]
    after = models_of(DETECT, copied(tmp_path, threshold=0.9))["detect"]
    assert (before.card.threshold, after.card.threshold) == (0.5, 0.9)


def test_with_a_screen_the_search_is_another_model_and_so_it_is_with_another_screen(tmp_path):
    plain, card = copied(tmp_path), read_card("detect", "basic_cnn")
    write_screen(tmp_path, card.sha256, level=0.3)
    settings = Settings(detect=plain.detect.model_copy(update={"screen": True}))
    first = model_digests([DETECT], settings)
    assert first != model_digests([DETECT], plain) == model_digests([DETECT], Settings())
    loaded = models_of(DETECT, settings)["detect"]
    write_screen(tmp_path, card.sha256, level=0.2)
    assert model_digests([DETECT], settings) != first
    assert models_of(DETECT, settings)["detect"].screen.level < loaded.screen.level
    assert models_of(DETECT, plain)["detect"].screen is None


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
