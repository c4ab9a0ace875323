import pytest

from flows.results.page.night import chosen_nights, known_nights, read_night
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.night_range import NightRange
from tests.support.ades import known_table


def test_tells_what_is_published(kit, tmp_path):
    kit.night(tmp_path, visits=2, detectors=2, each=5)
    night = read_night(tmp_path, kit.NIGHT, None)
    assert [exposure.record.key.name for exposure in night.exposures] == ["101-3", "101-4", "102-3", "102-4"]
    assert len(night.sources) == 20
    assert night.seconds == pytest.approx({"ingest": 3.2, "detect": 16.4, "merge": 1.2, "measure": 4.8})
    assert night.made_at == "2026-11-04T03:12:42+00:00"
    assert night.reliability_versions == ["basic_cnn 1 + reliability 1"]
    assert night.sources["exposure"].to_pylist() == [place for place in range(4) for _ in range(5)]


def test_leaves_out_other_nights_and_what_is_not_published(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    kit.publish(tmp_path, kit.info(night="20261104", visit=200), [], 1)
    record = next(Ledger(tmp_path).records(kit.NIGHT))
    Ledger(tmp_path).put(record.model_copy(update={"visit": 150, "status": "quarantined", "reason": "x"}))
    assert len(read_night(tmp_path, kit.NIGHT, None).exposures) == 1


def test_quarantine_of_this_night_and_of_no_known_night(kit, tmp_path):
    for name, night in (("here", kit.NIGHT), ("elsewhere", "20200101"), ("unknown", None)):
        key = ExposureKey(night=night, visit=1, detector=1) if night else None
        Quarantine(tmp_path).put(BadInput("code", "where", "problem.", "remedy."), f"file:///{name}", key)
    night = read_night(tmp_path, kit.NIGHT, None)
    assert [record.source_uri for record in night.quarantined] == ["file:///here", "file:///unknown"]
    assert known_nights(tmp_path) == ("20200101", kit.NIGHT)


def test_a_damaged_catalogue_is_told_and_does_not_end_the_page(kit, tmp_path):
    kit.night(tmp_path, visits=2)
    path = CatalogStore(tmp_path).path(DIA_SOURCE, ExposureKey(night=kit.NIGHT, visit=102, detector=3))
    path.write_bytes(path.read_bytes()[:500])
    night = read_night(tmp_path, kit.NIGHT, None)
    assert [len(night.sources_of(place)) for place in range(len(night.exposures))] == [9, 0]
    assert str(path) in night.damaged[0]


def test_known_objects_are_those_of_the_exposures_that_were_compared(kit, tmp_path):
    kit.night(tmp_path, visits=3, each=2)
    ledger, store = Ledger(tmp_path), CatalogStore(tmp_path)
    plain, none, some = ledger.records(kit.NIGHT)
    one = some.visit << 21 | some.detector << 12
    for record, known in ((none, {}), (some, {one: "(433) Eros"})):
        path = store.publish(SS_SOURCE, record.key, known_table([*known], known), "d" * 64)
        ledger.put(record.model_copy(update={"datasets": {**record.datasets, "ss_source": store.record(path)}}))
        assert read_night(tmp_path, kit.NIGHT, None).compared
    night = read_night(tmp_path, kit.NIGHT, None)
    assert [exposure.compared for exposure in night.exposures] == [False, True, True]
    assert night.known == {one: "(433) Eros"}
    ledger.remove(some.key)
    ledger.put(none.model_copy(update={"datasets": plain.datasets}))
    assert not read_night(tmp_path, kit.NIGHT, None).compared


def test_an_empty_folder(tmp_path, kit):
    night = read_night(tmp_path, kit.NIGHT, None)
    assert (night.exposures, len(night.sources), night.made_at, dict(night.seconds)) == ((), 0, "", {})
    assert known_nights(tmp_path) == ()


def test_a_night_that_is_not_there_is_told_with_those_that_are(kit, tmp_path):
    with pytest.raises(Misconfigured, match="no folder of this name"):
        chosen_nights(tmp_path / "absent")
    (tmp_path / "ledger").mkdir()
    with pytest.raises(Misconfigured, match=r"holds no night\."):
        chosen_nights(tmp_path)
    kit.night(tmp_path, visits=1)
    assert chosen_nights(tmp_path) == (kit.NIGHT,)
    with pytest.raises(Misconfigured, match=f"holds nothing of night 19991231.*{kit.NIGHT}"):
        NightRange.of("19991231").among(chosen_nights(tmp_path), str(tmp_path))
