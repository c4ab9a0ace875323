import shutil

from flows.adapters.ledger import Ledger
from flows.provenance import provenance_of
from flows.quality import exposures
from flows.quality.exposures import look
from schemas.settings import Settings
from stages import PIPELINE
from tests.flows.report.conftest import NIGHT, make_info, make_rows, publish


def night(out, **given):
    for visit in range(101, 107):
        info = make_info((60, 70), visit)
        publish(out, info, make_rows(info, 3, visit), visit, **given)
    return Ledger(out).records(NIGHT)


def test_a_large_night_is_looked_at_in_part_evenly(tmp_path, monkeypatch):
    records = night(tmp_path)
    monkeypatch.setattr(exposures, "MOST", 3)
    assert [one.record.visit for one in look(tmp_path, records)] == [101, 103, 105]


def test_exposures_without_tiles_are_left_out(tmp_path):
    records = night(tmp_path)
    shutil.rmtree(tmp_path / "tiles" / NIGHT / "102-3.zarr")
    assert len(look(tmp_path, records)) == 5


def test_search_is_known_by_models_settings_and_stages(tmp_path):
    def search(**settings):
        ledger = Ledger(tmp_path)
        made = ledger.put_provenance(provenance_of(PIPELINE, Settings(**settings)))
        return look(tmp_path, night(tmp_path, provenance=made))[0]

    first, same, other = search(), search(tiles={"chunk": 126}), search(measure={"min_snr": 7})
    assert first.search == same.search != other.search
    assert first.models[0].startswith("detect streak_net 1 (")
