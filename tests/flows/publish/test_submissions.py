from types import SimpleNamespace

import numpy as np
import pytest

from flows.pipeline.graph import declared_tables
from flows.publish import submissions
from flows.publish.ades_report import submit_report
from flows.publish.submissions import Submissions, Submitted
from flows.results.backup import backup_output, restore_output
from flows.results.prune import removals, take_out
from flows.storage.ledger import Ledger
from schemas.ades import ReportedDetection, SubmissionRecord
from schemas.errors import Retryable
from schemas.settings import Settings
from tests.support.ades import NIGHT, SETTINGS, publish_rows, two_movers


def test_each_observation_that_was_given_is_one_detection_and_the_nearest():
    given = [SimpleNamespace(ra=150.0, dec=20.0), SimpleNamespace(ra=150.0, dec=20.0 + 1 / 3600)]
    submitted = Submitted({(1, 2): given, (1, 3): []})
    rows = [
        {"visit": visit, "detector": 2, "ra": 150.0, "dec": 20.0 + off / 3600, "trailLength": 40.0}
        for visit, off in ((1, 0.3), (1, 0.1), (1, 0.2), (7, 0.0))
    ]
    assert submitted.match(rows) == {1: given[0], 0: given[1]}


def test_one_that_is_trailed_may_have_moved_by_a_quarter_of_its_trail():
    submitted = Submitted({(1, 2): [SimpleNamespace(ra=150.0, dec=20.0)]})
    row = {"visit": 1, "detector": 2, "ra": 150.0, "dec": 20.0 + 10 / 3600}
    for length, known in ((None, False), (39.9, False), (40.1, True)):
        assert bool(submitted.match([row | {"trailLength": length}])) == known


def test_places_are_as_far_apart_as_on_the_sky():
    """Seconds of arc, also across 0 h; a degree of right ascension is half of one at 60 degrees."""
    places = np.array([[359.9995, 60.0], [0.0005, 60.0], [0.0005, 60.001], [0.5005, 60.0]])
    assert submissions._apart(places, 0.0005, 60.0) == pytest.approx([1.8, 0, 3.6, 900], rel=1e-6)


def test_submissions_are_backed_up_and_not_pruned(tmp_path):
    out, copy = tmp_path / "out", tmp_path / "copy"
    publish_rows(out, two_movers()[0])
    _, path = submit_report(out, NIGHT, SETTINGS, "psv")
    backup_output(out, copy)
    for one in (path, path.with_suffix(".json")):
        assert (copy / one.relative_to(out)).read_bytes() == one.read_bytes()
    take_out(out, removals(out, (NIGHT,), Settings(), irreplaceable=True))
    assert Ledger(out).nights() == []
    assert [one.number for one in Submissions(out).records(NIGHT)] == [1]
    restore_output(copy, tmp_path / "again", declared_tables())
    assert submit_report(tmp_path / "again", NIGHT, SETTINGS, "xml")[1] is None


def submission(number, *places, night=NIGHT, correction=False, value="1"):
    detections = tuple(
        ReportedDetection(visit=visit, detector=2, ra=ra, dec=20.0, trkSub=f"N{number}", values={"mag": value})
        for visit, ra in places
    )
    return SubmissionRecord(
        night=night, number=number, form="psv", correction=correction, detections=detections, text=f"{night} {number}",
        submitted_at="2026-11-04T00:00:00+00:00", software="1",
    )  # fmt: skip


def test_a_correction_takes_the_place_of_what_it_repeats():
    first = submission(1, (1, 150.0), (1, 151.0), (2, 150.0), value="20.1")
    second = submission(2, (1, 150.0), correction=True, value="20.2")
    third = submission(3, (1, 150.0), (3, 150.0), value="20.3")
    found = Submitted.of([first, second])
    told = {key: [(one.ra, one.values["mag"]) for one in known] for key, known in found.by_exposure.items()}
    assert told == {(1, 2): [(151.0, "20.1"), (150.0, "20.2")], (2, 2): [(150.0, "20.1")]}
    assert found.names() == {"N1", "N2"}
    assert len(Submitted.of([first, third]).by_exposure[1, 2]) == 3  # which is none


def test_a_detection_that_has_moved_exactly_a_quarter_of_its_trail_is_known():
    submitted = Submitted({(1, 2): [SimpleNamespace(ra=150.0, dec=20.0)]})
    row = {"visit": 1, "detector": 2, "ra": 150.0, "dec": 20.0 + 10 / 3600}
    (apart,) = submissions._apart(np.array([[150.0, 20.0]]), row["ra"], row["dec"])
    assert submitted.match([row | {"trailLength": 4 * apart}])
    assert not submitted.match([row | {"trailLength": np.nextafter(4 * apart, 0)}])


def test_what_was_submitted_is_read_of_one_night_of_those_beside_it_or_of_all(tmp_path):
    store = Submissions(tmp_path)
    given = [("20261103", 1), ("20261103", 2), ("20261104", 1), ("20261201", 1), ("20261201", 999), ("20261201", 1000)]
    for night, number in given:
        assert store.add(submission(number, (1, 150.0), night=night), "psv").read_text() == f"{night} {number}"
    assert [(one.night, one.number) for one in store.all()] == given
    assert [one.night for one in store.all("20261104")] == ["20261104"]
    assert [one.night for one in store.records("20261104")] == ["20261103", "20261103", "20261104"]
    assert [one.number for one in store.records("20261130")] == [1, 999, 1000]
    with pytest.raises(Retryable) as caught:
        store.add(submission(1, (1, 150.0)), "psv")
    assert caught.value.code == "submitted_meanwhile"
