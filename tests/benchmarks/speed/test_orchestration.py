import pytest

from benchmarks.speed.orchestration import measure, shares

pytest_plugins = ("tests.support.night_fixture",)

SECONDS = {
    "read": 2.0, "detect": 5.0, "measure": 2.0, "other": 0.5, "waiting": 0.5, "startup": 3.0, "search": 5.0,
    "objects": 0.25, "report": 1.0, "wall": 9.25,
}  # fmt: skip


def test_the_rest_is_what_nothing_was_done_in():
    found = shares(SECONDS, 12, 2, 6.0)
    assert found.rest == pytest.approx(1.0 / 10.0)
    assert sum(found.worker_s.values()) == pytest.approx(found.workers * found.search_s)
    assert (found.startup_s, found.after_s, found.wall_s, found.services_s) == (3.0, 1.25, 9.25, 6.0)


@pytest.mark.slow
@pytest.mark.services
def test_times_of_a_night_add_up(prefect_api, tmp_path, monkeypatch):
    """Whatever the machine does: shares of small images say nothing about large ones."""
    for name, value in prefect_api.items():
        monkeypatch.setenv(name, value)
    found = measure(tmp_path, 2, 1, (400, 400))
    assert sum(found.worker_s.values()) == pytest.approx(found.search_s, rel=0.01)
    assert {"read", "write tiles", "detect", "measure", "publish", "waiting"} <= found.worker_s.keys()
    assert 0 < found.rest < 1
    assert found.startup_s + found.search_s + found.after_s <= found.wall_s
