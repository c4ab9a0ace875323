import shutil
from datetime import date

import pytest

from flows.results.prune import (
    Room,
    kept_tiles,
    nights_to_prune,
    prune_by_policy,
    removals,
    room_of,
    take_out,
    total,
)
from flows.results.verify import verify_output
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.injection import INJECTION
from schemas.ledger import ExposureRecord, NightRecord, ProvenanceRecord
from schemas.negative import NEGATIVE
from schemas.settings import PruneSettings, Settings
from tests.support.exposure import exposure_record
from tests.support.night import DETECTORS, VISITS, catalogues, settings_of

pytest_plugins = ("tests.support.night_fixture",)


ALL = VISITS * DETECTORS
TABLES = {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}


@pytest.fixture
def out(uninterrupted, tmp_path):
    """A copy of a finished night."""
    return shutil.copytree(uninterrupted[1], tmp_path / "out")


@pytest.fixture
def night(uninterrupted):
    return uninterrupted[0].summary["nights"][0]


@pytest.fixture
def settings(night_models):
    return settings_of(night_models)


def stores(out):
    return sorted(path.name for path in (out / "tiles").glob("*/*.zarr"))


def test_tiles_go_and_all_else_stays(out, night, settings):
    before = catalogues(out), list(Ledger(out).records())
    (out / "staging" / "left").write_text("by a killed run")
    listed = removals(out, [night], settings, irreplaceable=False)
    assert [one.kind for one in listed] == ["leftover"] + ["tiles"] * ALL
    assert all(one.reproducible for one in listed)
    assert len(stores(out)) == ALL  # listing changes nothing
    take_out(out, listed)
    assert stores(out) == []
    assert not (out / "tiles" / night).exists()
    assert (catalogues(out), list(Ledger(out).records())) == before
    (out / "staging" / "left").unlink()
    assert verify_output(out, TABLES).problems == ()
    assert removals(out, [night], settings, irreplaceable=False) == []


def test_pruned_tiles_are_made_again_when_they_are_needed(
    nightstride_run, raw_night, uninterrupted, out, night, settings
):
    take_out(out, removals(out, [night], settings, irreplaceable=False))
    assert nightstride_run.here(raw_night, "--out", out).counts == (ALL, 0, ALL, 0, 0)
    shutil.rmtree(out / "catalogs" / "dia_source")
    again = nightstride_run.here(raw_night, "--out", out)
    assert again.counts == (ALL, ALL, 0, 0, 0), again.stderr
    assert catalogues(out) == catalogues(uninterrupted[1])
    assert len(stores(out)) == ALL


def test_tiles_whose_source_is_gone_are_kept(out, night, settings, tmp_path):
    record = next(Ledger(out).records())
    Ledger(out).put(record.model_copy(update={"source_uri": str(tmp_path / "gone.fits"), "source_files": {}}))
    (kept,) = kept_tiles(out, [night], settings)
    assert kept.path == f"tiles/{night}/{record.name}.zarr"
    assert kept.why.endswith("gone.fits is unreachable")
    take_out(out, removals(out, [night], settings, irreplaceable=False))
    assert stores(out) == [f"{record.name}.zarr"]


def test_tiles_of_an_exposure_in_quarantine_are_of_the_source_that_they_name(out, night, settings, tmp_path):
    record = next(Ledger(out).records())
    verdict = {"status": "quarantined", "reason": "flood: too many", "source_files": {}}
    Ledger(out).put(record.model_copy(update=verdict | {"source_uri": str(tmp_path / "gone.fits")}))
    assert kept_tiles(out, [night], settings) == []


def test_with_consent_nothing_is_left_of_the_night(out, night, settings):
    key = next(Ledger(out).records()).key
    Quarantine(out).put(BadInput("conflict", "other.fits", "differs.", "choose."), "other.fits", key)
    listed = removals(out, [night], settings, irreplaceable=True)
    kinds = [one.kind for one in listed]
    counts = {"night": 1, "exposure": ALL, "quarantine": 1, "report": 1, "memory": 1}
    assert {kind: kinds.count(kind) for kind in kinds} == counts
    assert not any(one.reproducible for one in listed)
    take_out(out, listed)
    assert (stores(out), catalogues(out), Ledger(out).nights(), Ledger(out).named_nights()) == ([], {}, [], [])
    assert Quarantine(out).list() == []
    assert list((out / "reports").iterdir()) == []
    assert verify_output(out, TABLES).problems == ()


def test_one_step_after_the_other_leaves_a_true_folder(out, night, settings):
    """As a kill between any two steps would: what is listed again is what is left."""
    listed = removals(out, [night], settings, irreplaceable=True)
    for number, one in enumerate(listed):
        assert removals(out, [night], settings, irreplaceable=True) == listed[number:]
        assert verify_output(out, TABLES).problems == ()
        take_out(out, [one])


def test_reasons_of_files_that_are_gone_are_removed_with_the_verdict(tmp_path, settings):
    out, key = tmp_path / "out", ExposureKey(night="20260101", visit=1, detector=0)
    bad = tmp_path / "bad.fits"
    bad.touch()
    Quarantine(out).put(BadInput("flood", "bad.fits", "too many.", "look."), str(bad), key)
    made = ProvenanceRecord(settings={}, models={}, stages={}, software="1", code="c")
    spoilt = {"status": "quarantined", "reason": "flood: too many", "finished_at": "2026-01-02T00:00:00+00:00"}
    spoilt["provenance"] = Ledger(out).put_provenance(made)
    record = exposure_record(key, source_uri=str(bad), **spoilt)
    Ledger(out).put(record)
    assert removals(out, [], settings, irreplaceable=False) == []
    bad.unlink()
    (one,) = removals(out, [], settings, irreplaceable=False)
    assert (one.kind, one.night, one.reproducible) == ("quarantine", "20260101", True)
    assert [each.kind for each in removals(out, ["20260101"], settings, irreplaceable=True)].count("quarantine") == 1
    take_out(out, [one])
    assert (Quarantine(out).list(), Ledger(out).count(), Ledger(out).provenances()) == ([], 0, [])


@pytest.mark.parametrize(("status", "source"), [("done", "bad.fits"), ("quarantined", "other.fits")])
def test_a_reason_is_removed_alone_if_the_record_is_not_its_verdict(tmp_path, status, source):
    out, key = tmp_path / "out", ExposureKey(night="20260101", visit=1, detector=0)
    bad = str(tmp_path / "bad.fits")
    Quarantine(out).put(BadInput("flood", bad, "too many.", "look."), bad, key)
    record = exposure_record(key, source_uri=str(tmp_path / source), status=status, reason="flood: too many")
    Ledger(out).put(record)
    (one,) = removals(out, [], Settings(), irreplaceable=False)
    take_out(out, [one])
    assert (Quarantine(out).list(), list(Ledger(out).records())) == ([], [record])


def test_nights_are_chosen_by_number_and_by_age(out, night):
    for label in ("20200101", "20200110", "20200120"):
        (out / "tiles" / label).mkdir(parents=True)
    labels = sorted({night, "20200101", "20200110", "20200120"})
    today = date(2020, 1, 20)
    assert nights_to_prune(out, 1, None, today) == tuple(labels[:-1])
    assert nights_to_prune(out, 0, None, today) == tuple(labels)
    assert nights_to_prune(out, 9, None, today) == ()
    assert nights_to_prune(out, None, 10, today) == ("20200101",)
    assert nights_to_prune(out, None, 9, today) == ("20200101", "20200110")
    assert nights_to_prune(out, len(labels) - 1, 9, today) == ("20200101",)
    with pytest.raises(Misconfigured, match="not an output folder"):
        nights_to_prune(out / "none", 1, None, today)


DAYS = ("20200227", "20200228", "20200229", "20200301")


@pytest.mark.parametrize(
    ("keep", "older_than", "chosen"),
    [
        (None, None, DAYS), (0, None, DAYS), (1, None, DAYS[:3]), (3, None, DAYS[:1]), (4, None, ()), (5, None, ()),
        (None, 0, DAYS[:3]), (None, 1, DAYS[:2]), (None, 2, DAYS[:1]), (None, 3, ()),
        (2, 2, DAYS[:1]), (3, 0, DAYS[:1]),
    ],
)  # fmt: skip
def test_the_latest_are_kept_and_those_of_so_many_days(tmp_path, keep, older_than, chosen):
    """2020 is a leap year: on 1 March 29 February is one day ago, and not more."""
    for day in DAYS[:2]:
        (tmp_path / "tiles" / day).mkdir(parents=True)
    (tmp_path / "tiles/.hidden").mkdir()
    values = {"source_uri": "1.fits", "source_sha256": "s", "digest": "d"}
    made = {"software": "0", "finished_at": "now"}
    Ledger(tmp_path).put(ExposureRecord(night=DAYS[2], visit=1, detector=0, **values, **made))
    Ledger(tmp_path).put_night(NightRecord(night=DAYS[3], exposures=1, **made))
    assert nights_to_prune(tmp_path, keep, older_than, date(2020, 3, 1)) == chosen


def test_a_night_of_which_only_a_reason_is_left_is_chosen(tmp_path):
    (tmp_path / "ledger").mkdir()
    put = Quarantine(tmp_path).put
    for night, name in (("20260101", "1.fits"), ("20260102", "2.fits")):
        put(BadInput("flood", name, "too many.", "look."), name, ExposureKey(night=night, visit=1, detector=0))
    put(BadInput("no_header", "3.fits", "says no night.", "look."), "3.fits")
    assert nights_to_prune(tmp_path, 1, None, date(2026, 1, 2)) == ("20260101",)


def test_room_adds_up():
    assert total([Room(1, 10), Room(2, 5)]) == Room(3, 15)
    assert total([]) == Room(0, 0)
    assert str(Room(1234, 5_678_900_000)) == "1,234 files, 5,678.9 MB"


def weighed(folder):
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and "ledger" not in path.parts]
    return Room(len(sizes), sum(sizes))


@pytest.mark.parametrize("irreplaceable", [False, True])
def test_what_is_told_is_what_becomes_free(uninterrupted, night_models, tmp_path, irreplaceable):
    out = shutil.copytree(uninterrupted[1], tmp_path / "out")
    (out / "staging").mkdir(exist_ok=True)
    (out / "staging/left").write_bytes(b"by a killed run")
    night = next(Ledger(out).records()).night
    listed = removals(out, [night], settings_of(night_models), irreplaceable)
    told = total(room_of(out, one) for one in listed)
    before = weighed(out)
    take_out(out, listed)
    (out / "staging/left").unlink()  # by the lease that a prune holds
    after = weighed(out)
    assert told == Room(before.files - after.files, before.bytes - after.bytes)
    assert told.bytes > 100_000


def test_room_is_told_in_megabytes_and_added_up():
    assert str(Room(1234, 5_678_900_000)) == "1,234 files, 5,678.9 MB"
    assert total([Room(1, 2), Room(10, 20), Room()]) == Room(11, 22)
    assert total([]) == Room(0, 0)


def policy(night_models, **limits):
    return settings_of(night_models).model_copy(update={"prune": PruneSettings(**limits)})


@pytest.fixture
def nights(out, night, tmp_path):
    """Three nights, of which only the one that was searched has tiles that can be made again."""
    for label in ("20200101", "20200102"):
        shutil.copytree(out / "tiles" / night, out / "tiles" / label)
    return ["20200101", "20200102", night]


def left(out):
    return sorted(path.name for path in (out / "tiles").iterdir() if any(path.glob("*.zarr")))


def test_a_run_without_a_policy_removes_nothing(out, night_models, nights):
    assert prune_by_policy(out, policy(night_models), date(2030, 1, 1)) == Room()
    assert left(out) == sorted(nights)


@pytest.mark.parametrize(
    ("limits", "stay"),
    [
        ({"keep_nights": 1}, 1), ({"keep_nights": 2}, 2), ({"older_than_days": 0}, 0), ({"older_than_days": 20_000}, 3),
        ({"max_files": 3}, 0), ({"max_gib": 1000}, 3), ({"keep_nights": 2, "older_than_days": 0}, 2),
        ({"keep_nights": 2, "max_files": 3}, 0),
    ],
)  # fmt: skip
def test_a_policy_removes_the_earliest_nights(out, night_models, nights, limits, stay):
    before = weighed(out)
    freed = prune_by_policy(out, policy(night_models, **limits), date(2030, 1, 1))
    assert left(out) == sorted(nights)[len(nights) - stay :]
    after = weighed(out)
    assert freed == Room(before.files - after.files, before.bytes - after.bytes)
    assert prune_by_policy(out, policy(night_models, **limits), date(2030, 1, 1)) == Room()


def test_no_more_nights_than_must_go_for_files_and_bytes(out, night_models, nights):
    a_night = weighed(out / "tiles" / nights[0])
    for limits in ({"max_files": 2 * a_night.files}, {"max_gib": 2 * a_night.bytes / 2**30}):
        assert prune_by_policy(out, policy(night_models, **limits), date(2030, 1, 1)) in (a_night, Room())
        assert left(out) == nights[1:]
    prune_by_policy(out, policy(night_models, max_files=2 * a_night.files - 1), date(2030, 1, 1))
    assert left(out) == nights[2:]


def test_tiles_that_cannot_be_made_again_stay_whatever_the_policy(out, night_models, night, tmp_path):
    record = next(Ledger(out).records())
    Ledger(out).put(record.model_copy(update={"source_uri": str(tmp_path / "gone.fits"), "source_files": {}}))
    prune_by_policy(out, policy(night_models, older_than_days=0), date(2030, 1, 1))
    assert stores(out) == [f"{record.name}.zarr"]
