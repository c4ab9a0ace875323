import pytest

from flows.pipeline.models import model_digests, recorded_digests
from flows.pipeline.provenance import provenance_of, recorded_settings
from flows.pipeline.weights import read_card
from flows.results.model_use import model_uses, searched_with
from flows.results.status import read_status
from flows.storage.digest import our_code
from flows.storage.ledger import Ledger
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, NightRecord
from schemas.settings import MergeSettings, Settings, StarGalaxySettings
from stages import PIPELINE


def test_it_holds_settings_cards_and_versions():
    settings = Settings(merge=MergeSettings(min_snr=6))
    made = provenance_of(PIPELINE, settings)
    assert Settings.model_validate(made.settings) == settings
    assert made.models["detect"] == read_card("detect", settings.detect.model)
    assert made.stages == {stage.name: stage.version for stage in PIPELINE}
    assert len(made.code) == 64
    assert made.code == our_code()


def test_it_is_kept_once_for_all_that_have_it_in_common(tmp_path):
    ledger = Ledger(tmp_path)
    first = ledger.put_provenance(provenance_of(PIPELINE, Settings()))
    assert ledger.put_provenance(provenance_of(PIPELINE, Settings())) == first
    other = ledger.put_provenance(provenance_of(PIPELINE, Settings(merge=MergeSettings(min_snr=6))))
    assert other != first
    assert ledger.provenance(first) == provenance_of(PIPELINE, Settings())
    assert ledger.provenance("0" * 64) is None
    assert ledger.provenance(None) is None


def test_settings_of_before_are_read_as_far_as_they_are_known():
    made = provenance_of(PIPELINE, Settings(merge={"min_snr": 6.5}))
    old = {**made.settings, "invented": {"a": 1}, "execution": {"scheduler": None, "retries": 2}}
    found = recorded_settings(made.model_copy(update={"settings": old}))
    assert (found.merge.min_snr, found.execution.retries) == (6.5, 2)
    refused = {**made.settings, "merge": {"min_snr": -1}}
    assert recorded_settings(made.model_copy(update={"settings": refused})) == Settings()


def test_models_of_whole_nights_are_those_of_the_last_run(tmp_path):
    """Exposures keep what they were searched with; another model of stars and galaxies judges the night again."""
    ledger, made = Ledger(tmp_path), provenance_of(PIPELINE, Settings())
    other = provenance_of(PIPELINE, Settings(star_galaxy=StarGalaxySettings(model="basic_cnn")))
    first, last = (ledger.put_provenance(one) for one in (made, other))
    key = ExposureKey(night="20260101", visit=1, detector=0)
    told = {"source_uri": "a", "source_sha256": "s", "digest": "d", "software": "1", "finished_at": "now"}
    ledger.put(ExposureRecord(**key.model_dump(), **told, provenance=first))
    night = NightRecord(night="20260101", exposures=1, provenance=last, software="1", finished_at="now")
    ledger.put_night(night.model_copy(update={"rows": {"object": 1, "star_galaxy": 1, "morphology": 0}}))
    uses = {use.model: use for use in model_uses(tmp_path)}
    assert made.models.keys() - uses.keys() == {"anomaly", "superclass", "star_subclass"}  # their stages did not run
    assert uses["detect"].sha256 == made.models["detect"].sha256
    assert uses["star_galaxy"].sha256 == other.models["star_galaxy"].sha256
    assert (uses["star_galaxy"].nights, uses["star_galaxy"].exposures) == ({"20260101"}, 1)
    with pytest.raises(Misconfigured, match=r"no exposure of .* was last searched with it"):
        searched_with(tmp_path, "basic_cnn 1")
    (shown,) = read_status(tmp_path).nights
    assert shown.models["star_galaxy: basic_cnn 1"] == 1
    assert not any(name.startswith("star_galaxy: multi_band") for name in shown.models)


@pytest.mark.parametrize("model", ["streak_net", "basic_cnn"])
def test_the_digests_can_be_had_again_from_the_record_screens_too(model):
    settings = Settings.model_validate({"detect": {"model": model}})
    made = provenance_of(PIPELINE, settings)
    assert ("screen" in made.models) == (model == "basic_cnn")
    assert recorded_digests(made.models, PIPELINE) == model_digests(PIPELINE, settings)
