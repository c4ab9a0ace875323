from types import SimpleNamespace

from flows.publish.submissions import Submitted


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
