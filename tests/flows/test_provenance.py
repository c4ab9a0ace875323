from flows.adapters.ledger import Ledger
from flows.adapters.weights import read_card
from flows.provenance import code_digest, provenance_of, recorded_settings
from schemas.settings import MergeSettings, Settings
from stages import PIPELINE


def test_it_holds_settings_cards_and_versions():
    settings = Settings(merge=MergeSettings(min_snr=6))
    made = provenance_of(PIPELINE, settings)
    assert Settings.model_validate(made.settings) == settings
    assert made.models["detect"] == read_card("detect", settings.detect.model)
    assert made.stages == {stage.name: stage.version for stage in PIPELINE}
    assert len(made.code) == 64
    assert made.code == code_digest()


def test_it_is_kept_once_for_all_that_have_it_in_common(tmp_path):
    ledger = Ledger(tmp_path)
    first = ledger.put_provenance(provenance_of(PIPELINE, Settings()))
    assert ledger.put_provenance(provenance_of(PIPELINE, Settings())) == first
    other = ledger.put_provenance(provenance_of(PIPELINE, Settings(merge=MergeSettings(min_snr=6))))
    assert other != first
    assert ledger.provenance(first) == provenance_of(PIPELINE, Settings())
    assert ledger.provenance("0" * 64) is None
    assert len(list((tmp_path / "ledger" / "provenance").iterdir())) == 2


def test_settings_of_before_are_read_as_far_as_they_are_known():
    made = provenance_of(PIPELINE, Settings(merge={"min_snr": 6.5}))
    old = {**made.settings, "invented": {"a": 1}, "execution": {"scheduler": None, "retries": 2}}
    found = recorded_settings(made.model_copy(update={"settings": old}))
    assert (found.merge.min_snr, found.execution.retries) == (6.5, 2)
    refused = {**made.settings, "merge": {"min_snr": -1}}
    assert recorded_settings(made.model_copy(update={"settings": refused})) == Settings()
