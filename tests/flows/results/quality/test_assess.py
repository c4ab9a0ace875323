import shutil

import pytest

from flows.results.quality import assess as module
from flows.results.quality.assess import assess, verdict_on
from flows.results.quality.judge import told
from flows.storage.ledger import Ledger
from schemas.exposure import PsfModel
from schemas.quality import QualitySettings
from tests.flows.results.page.conftest import NIGHT, make_info, make_rows, publish

STRICT = QualitySettings(limits={"all": {"seeing": (0, 1)}})


def put(out, visit=101, night=NIGHT, width=2.2, **given):
    info = make_info((60, 70), visit, night=night, psf=PsfModel(fwhm_px=width))
    return publish(out, info, make_rows(info, 4, visit), visit, **given)


@pytest.fixture
def out(tmp_path):
    put(tmp_path)
    return tmp_path


def test_the_verdict_is_kept_and_can_be_asked_for(out):
    record = assess(out, NIGHT, STRICT)
    assert record == Ledger(out).quality(NIGHT)
    assert verdict_on(out, NIGHT) == verdict_on(out, NIGHT, "r", "ZTF") == "fail"
    assert verdict_on(out, NIGHT, "g") == verdict_on(out, "20300101") == "no_history"
    assert told(record.judged[0])[0].startswith("fail seeing: FWHM of the PSF")


def test_what_is_up_to_date_is_not_done_again(out, monkeypatch):
    first = assess(out, NIGHT, STRICT)
    monkeypatch.setattr(Ledger, "put_quality", lambda self, record: pytest.fail("written again"))
    assert assess(out, NIGHT, STRICT) == first


def test_other_limits_judge_again_what_was_measured_even_without_tiles(out):
    assess(out, NIGHT, STRICT)
    shutil.rmtree(out / "tiles")
    assert assess(out, NIGHT, QualitySettings()).judged[0].verdict == "no_history"


def test_a_measure_is_not_replaced_by_one_of_what_pruning_left(out, monkeypatch):
    for visit in (102, 103):
        put(out, visit)
    whole = assess(out, NIGHT, STRICT)
    shutil.rmtree(out / "tiles")
    put(out, 104, width=9.0)
    kept = assess(out, NIGHT, STRICT)
    assert (kept.measured, kept.digest) == (whole.measured, whole.digest)
    assert kept.judged[0].notes[-1] == "measured before the night changed: of 4 exposures 1 can be read now"
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "put_quality", lambda self, record: pytest.fail("measured again"))
        assert assess(out, NIGHT, STRICT) == kept
    assert assess(out, NIGHT, STRICT, again=True) == kept
    for visit in (101, 102, 103):
        put(out, visit)
    again = assess(out, NIGHT, STRICT)
    assert [one.exposures for one in again.measured] == [4]
    assert not any("before the night changed" in note for note in again.judged[0].notes)


def test_a_night_is_measured_again_once_what_is_left_of_it_can_be_read(out):
    for visit in (102, 103):
        put(out, visit)
    assess(out, NIGHT, STRICT)
    shutil.rmtree(out / "tiles")
    put(out, 104, width=9.0)
    assert "of 4 exposures 1 can be read" in assess(out, NIGHT, STRICT).judged[0].notes[-1]
    for record in list(Ledger(out).records(NIGHT))[:3]:
        Ledger(out).remove(record.key)
    assert [one.exposures for one in assess(out, NIGHT, STRICT).measured] == [1]


def test_more_exposures_than_were_measured_are_measured_even_if_not_all_can_be_read(out):
    assess(out, NIGHT, STRICT)
    for visit in (102, 103, 104):
        put(out, visit)
    shutil.rmtree(next((out / "tiles" / NIGHT).glob("*104*.zarr")))
    assert [one.exposures for one in assess(out, NIGHT, STRICT).measured] == [3]


def test_of_many_earlier_nights_the_latest_are_read(out, monkeypatch):
    monkeypatch.setattr(module, "READ_AT_MOST", 1)
    few = QualitySettings(least_nights=7, history_nights=7)
    for day in range(1, 15):
        put(out, 200 + day, f"202001{day:02}", 2.0 if day < 8 else 4.0)
        assess(out, f"202001{day:02}", few)
    put(out, 300, "20200115", 4.0)
    seeing = next(one for one in assess(out, "20200115", few).judged[0].gates if one.metric == "seeing")
    assert seeing.value == pytest.approx(seeing.median)


def test_a_night_is_judged_by_nights_added_before_it_only_if_asked(out):
    few = QualitySettings(least_nights=7)
    nights = [assess(out, NIGHT, few)]
    for day in range(1, 8):
        put(out, 200 + day, f"2020010{day}")
        assess(out, f"2020010{day}", few)
    nights += [assess(out, NIGHT, few, again=again) for again in (False, True)]
    assert [one.judged[0].gates[0].nights for one in nights] == [0, 0, 7]


def test_a_night_of_fewer_exposures_is_measured_again(out):
    put(out, 102)
    assess(out, NIGHT, STRICT)
    Ledger(out).remove(next(Ledger(out).records(NIGHT)).key)
    assert [one.exposures for one in assess(out, NIGHT, STRICT).measured] == [1]


def test_another_exposure_measures_again(out):
    assess(out, NIGHT, STRICT)
    put(out, 102)
    assert [one.exposures for one in assess(out, NIGHT, STRICT).measured] == [2]


def test_earlier_nights_count_and_later_ones_do_not(out):
    for day in range(10, 31):
        put(out, 1000 + day, f"202610{day}", 2.2 + 0.02 * (day % 4))
        assess(out, f"202610{day}", QualitySettings())
    put(out, 2000, "20261001", 9.0)
    assert assess(out, "20261001", QualitySettings()).judged[0].verdict == "no_history"
    put(out, 3000, "20261201", 4.0)
    record = assess(out, "20261201", QualitySettings())
    seeing = next(one for one in record.judged[0].gates if one.metric == "seeing")
    assert (seeing.verdict, seeing.nights) == ("fail", 22)


def test_a_night_without_exposures_has_no_quality(out):
    record = next(Ledger(out).records(NIGHT))
    assess(out, NIGHT, STRICT)
    Ledger(out).remove(record.key)
    assert assess(out, NIGHT, STRICT) is None
    assert Ledger(out).quality(NIGHT) is None
