import pytest

from benchmarks.scale.years import FIRST, GROWTH_MB, LIMITS, Taken, add_night, growth_mb, make_night, run
from flows.inputs.sources import list_sources
from flows.nights.association import associate
from flows.nights.run import planner
from flows.pipeline.graph import declared_tables
from flows.results.status import read_status
from flows.results.verify import verify_output
from flows.storage.ledger import Ledger
from schemas.night_range import NightRange
from schemas.settings import Settings


def test_faked_nights_are_done_and_whole(tmp_path):
    out, sources = tmp_path / "out", 66  # more than a visit
    make_night(tmp_path, sources)
    assert associate(out, Settings().association, None).summary.exposures == sources
    for number in (1, 2):
        add_night(out, number)
    listed = list_sources([str(tmp_path / "raw")], Settings())
    plan = planner(out, Settings()).plan(listed)
    assert (len(listed), plan.todo, plan.skipped, plan.quarantined) == (sources, (), sources, ())
    assert {plane for plane, _ in listed[0].siblings} == {"science", "mask", "psf"}
    assert verify_output(out, declared_tables(), NightRange.of(str(FIRST))).problems == ()
    nights = read_status(out).nights
    assert [(one.night, one.exposures) for one in nights] == [
        (label, {"done": sources}) for label in (str(FIRST - 9999), str(FIRST - 9998), str(FIRST))
    ]
    association = associate(out, Settings().association, None)
    assert (association.summary.nights, association.summary.failed) == ((), ())  # copies are associated, too
    assert list(association.digests) == [one.night for one in nights]
    ledger = Ledger(out)
    for one in nights:
        record = next(ledger.records(one.night))
        assert [found.key for found in ledger.from_source(record.source_uri)] == [record.key]
    taken = run("status", 3, "status", out)
    assert (taken.nights, 0.1 < taken.seconds < 60, 50 < taken.megabytes < 2000) == (3, True, True)
    with pytest.raises(RuntimeError, match="not an output folder"):
        run("status", 3, "status", tmp_path / "none")


def test_growth_is_from_the_fewest_nights_to_the_most():
    taken = [Taken("start", nights, 1.0, 100 + 2 * nights) for nights in (1, 10, 30)]
    assert growth_mb(taken) == 2 > GROWTH_MB
    assert growth_mb(taken[:1]) == 0
    limit = LIMITS["start"]
    assert Taken("start", 1, limit.seconds, limit.megabytes).passes
    assert not Taken("start", 1, limit.seconds, limit.megabytes + 1).passes
    assert not Taken("start", 1, limit.seconds + 0.01, limit.megabytes).passes
