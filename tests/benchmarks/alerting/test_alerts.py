from benchmarks.alerting.alerts import make_visits
from tests.support.alert_night import visit_of
from tests.support.cli import nightstride


def test_the_last_visit_has_pixels_and_a_history(tmp_path):
    make_visits(tmp_path / "out", alerts=25, detectors=2, size=140, earlier=2)
    to = tmp_path / "alerts"
    done = nightstride("alerts", "publish", tmp_path / "out", "--to", to, "--visit", visit_of(2), "--json")
    assert (done.summary["alerts"], done.summary["dead"]) == (25, 0)
    shown = nightstride("alerts", "show", to / f"{visit_of(2)}.avro", "--limit", "25", "--json").summary["alerts"]
    assert {len(one["prvDiaSources"]) for one in shown} == {2}
    assert all("nJy" in one[name] for one in shown for name in ("cutoutDifference", "cutoutScience", "cutoutTemplate"))
