import pytest

from flows.nights.cluster import startup as module
from flows.nights.cluster.startup import start_ahead
from schemas.settings import Settings


@pytest.mark.parametrize("part", ["ledger", "catalogs", "quarantine"])
def test_services_start_ahead_only_where_nothing_is_done_yet(tmp_path, monkeypatch, part):
    started = []
    monkeypatch.setattr(module, "start_services", started.append)
    start_ahead(tmp_path / "out", Settings())
    assert started == [Settings()]
    (tmp_path / "out" / part).mkdir(parents=True)
    start_ahead(tmp_path / "out", Settings())
    assert len(started) == 1
