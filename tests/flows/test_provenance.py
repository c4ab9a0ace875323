from flows.adapters.ledger import Ledger
from flows.adapters.weights import read_card
from flows.provenance import code_digest, provenance_of
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
