import pytest
from pydantic import ValidationError

from schemas.summary import CauseCount, ExposureCounts, FetchSummary, RunSummary, Trouble

COUNTS = {"seen": 4, "done": 1, "skipped": 1, "quarantined": 1, "failed": 1}


def summary(**change):
    values = {
        "exposures": COUNTS, "windows": 9, "unscored": 1, "detections": 2, "not_run": {}, "seconds": {"wall": 1.5},
        "report": None,
    }  # fmt: skip
    return RunSummary(**{**values, **change})


def test_round_trip():
    one = summary(not_run={"vet": "no science in the input"}, quarantined=(Trouble(uri="a", code="b", message="c"),))
    assert RunSummary.model_validate_json(one.model_dump_json()) == one


def test_worker_time_is_told_from_elapsed_time():
    seconds = {"detect": 4.0, "waiting": 1.0, "startup": 2.0, "search": 2.5, "report": 1.0, "wall": 5.5}
    assert summary(seconds=seconds).worker_seconds == {"detect": 4.0, "waiting": 1.0}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_must_add_up(name):
    with pytest.raises(ValidationError, match="seen must be done"):
        ExposureCounts(**{**COUNTS, name: COUNTS[name] + 1})


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({"seen": 2, "done": 1, "skipped": 1, "quarantined": 0, "failed": 0}, 0),
        ({"seen": 2, "done": 1, "skipped": 0, "quarantined": 1, "failed": 0}, 3),
        ({"seen": 2, "done": 1, "skipped": 0, "quarantined": 0, "failed": 1}, 1),
        ({"seen": 2, "done": 0, "skipped": 0, "quarantined": 1, "failed": 1}, 1),
    ],
)
def test_exit_code(counts, code):
    assert summary(exposures=counts).exit_code == code


def test_counts_add_up():
    assert CauseCount(refused=3, published=1) + CauseCount(published=4) == CauseCount(refused=3, published=5)


def test_is_never_negative():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        CauseCount(refused=-1)


def test_exit_code_says_whether_all_came():
    summary = FetchSummary(nights=1, exposures=3, whole=2, not_in_archive=1)
    assert summary.exit_code == 0
    trouble = Trouble(uri="ztf", code="damaged", message="ztf: damaged.")
    assert summary.model_copy(update={"whole": 1, "failed": (trouble,)}).exit_code == 1
    assert FetchSummary.model_validate_json(summary.model_dump_json()) == summary


def test_exposures_add_up():
    with pytest.raises(ValidationError, match="exposures must be whole"):
        FetchSummary(nights=1, exposures=3, whole=2)
    with pytest.raises(ValidationError):
        FetchSummary(nights=1, exposures=-1, whole=-1)


@pytest.mark.parametrize("name", ["windows", "unscored", "detections"])
def test_a_run_counts_from_nothing(name):
    assert getattr(summary(**{name: 0}), name) == 0
    with pytest.raises(ValidationError, match=name):
        summary(**{name: -1})


@pytest.mark.parametrize("name", COUNTS)
def test_no_outcome_is_counted_below_zero(name):
    nothing = dict.fromkeys(COUNTS, 0)
    assert ExposureCounts(**nothing).seen == 0
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        ExposureCounts(**(nothing | {name: -1}))


@pytest.mark.parametrize(
    "name", ["nights", "exposures", "whole", "not_in_archive", "left", "files", "bytes", "received", "seconds"]
)
def test_a_fetch_counts_from_nothing(name):
    given = {"nights": 0, "exposures": 0}
    assert getattr(FetchSummary(**given), name) == 0
    with pytest.raises(ValidationError, match=name):
        FetchSummary(**(given | {name: -1}))


def test_exposures_of_a_fetch_are_counted_by_all_outcomes():
    trouble = Trouble(uri="ztf", code="damaged", message="m")
    given = {"nights": 1, "exposures": 10, "whole": 4, "not_in_archive": 3, "left": 2, "failed": (trouble,)}
    assert FetchSummary(**given).exposures == 10
    for name in ("whole", "not_in_archive", "left"):
        with pytest.raises(ValidationError, match="exposures must be"):
            FetchSummary(**(given | {name: given[name] + 1}))


def test_anything_that_failed_is_an_exit_code():
    clean = {"seen": 1, "done": 1, "skipped": 0, "quarantined": 0, "failed": 0}
    trouble = (Trouble(uri="a", code="b", message="c"),)
    assert summary(exposures=clean).exit_code == 0
    assert not summary(exposures=clean).stopped
    assert CauseCount() == CauseCount(refused=0, published=0)
    with pytest.raises(ValidationError):
        CauseCount(published=-1)
    for change in ({"night_failed": trouble}, {"quality_failed": trouble}, {"stopped": True}):
        assert summary(exposures=clean, **change).exit_code == 1
