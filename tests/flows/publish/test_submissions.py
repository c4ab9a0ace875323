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
