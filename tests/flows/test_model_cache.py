import pytest

from flows.adapters.weights import read_card, read_weights, write_model
from flows.model_cache import model_digests, model_name, models_of
from schemas.errors import Misconfigured
from schemas.settings import DetectSettings, MeasureSettings, Settings
from stages import PIPELINE
from tests.flows.model_support import write_cells, write_verdict
from tests.flows.screen_support import write_screen

DETECT, MERGE, MEASURE = (
    next(stage for stage in PIPELINE if stage.name == name) for name in ("detect", "merge", "measure")
)
SHIPPED = Settings(detect=DetectSettings(model="basic_cnn"))


def copied(folder, **changes):
    """Put the shipped network into a folder, with another card."""
    card, arrays = read_weights("detect", "basic_cnn")
    write_model(folder, arrays, card.model_dump() | changes)
    return Settings(detect=DetectSettings(model=str(folder)))


def test_another_threshold_or_other_weights_are_another_model(tmp_path):
    same = copied(tmp_path / "same")
    assert model_digests([DETECT], same) == model_digests([DETECT], SHIPPED)
    assert model_digests([DETECT], copied(tmp_path / "threshold", threshold=0.7)) != model_digests([DETECT], same)
    assert model_digests([DETECT], copied(tmp_path / "version", version="2")) != model_digests([DETECT], same)
    assert model_digests([MERGE], SHIPPED) == {}


def test_a_model_that_changes_in_its_folder_is_loaded_again(tmp_path):
    before = models_of(DETECT, copied(tmp_path))["detect"]
    after = models_of(DETECT, copied(tmp_path, threshold=0.9))["detect"]
    assert (before.card.threshold, after.card.threshold) == (0.5, 0.9)


def test_with_a_screen_the_search_is_another_model_and_so_it_is_with_another_screen(tmp_path):
    plain, card = copied(tmp_path), read_card("detect", "basic_cnn")
    write_screen(tmp_path, card.sha256, level=0.3)
    settings = Settings(detect=plain.detect.model_copy(update={"screen": True}))
    first = model_digests([DETECT], settings)
    assert first != model_digests([DETECT], plain) == model_digests([DETECT], SHIPPED)
    loaded = models_of(DETECT, settings)["detect"]
    write_screen(tmp_path, card.sha256, level=0.2)
    assert model_digests([DETECT], settings) != first
    assert models_of(DETECT, settings)["detect"].screen.level < loaded.screen.level
    assert models_of(DETECT, plain)["detect"].screen is None


def test_each_stage_gets_its_models_loaded_once(tmp_path):
    write_cells(tmp_path)
    write_verdict(tmp_path)
    settings, others = (Settings(detect=DetectSettings(model=str(tmp_path), batch=batch)) for batch in (1024, 7))
    assert models_of(MERGE, settings) == {}
    first, second = models_of(MEASURE, settings), models_of(MEASURE, others)
    assert first.keys() == {"reliability"}
    assert first["reliability"] is second["reliability"]
    assert models_of(DETECT, settings)["detect"] is models_of(DETECT, settings)["detect"]
    assert models_of(DETECT, settings)["detect"].card.stage == "detect"


def test_the_verdict_is_the_detectors_own_unless_another_is_named():
    detect = DetectSettings(model="somewhere")
    assert model_name("reliability", Settings(detect=detect)) == "somewhere"
    assert model_name("detect", Settings(detect=detect, measure=MeasureSettings(model="other"))) == "somewhere"
    assert model_name("reliability", Settings(detect=detect, measure=MeasureSettings(model="other"))) == "other"


def test_a_model_that_is_not_there_is_named():
    settings = Settings(detect=DetectSettings(model="no_such"))
    with pytest.raises(Misconfigured, match="no_such"):
        model_digests(PIPELINE, settings)
    with pytest.raises(Misconfigured, match="no_such"):
        models_of(DETECT, settings)


def test_stars_and_galaxies_have_a_model_of_their_own():
    assert model_name("star_galaxy", Settings()) == "multi_band"
    other = Settings.model_validate({"star_galaxy": {"model": "folder"}})
    assert model_name("star_galaxy", other) == "folder"
