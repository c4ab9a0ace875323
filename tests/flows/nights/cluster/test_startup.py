import pytest

from flows.nights.cluster import startup as module
from flows.nights.cluster.startup import SETTINGS_FILE, likely_packets, start_ahead, start_workers_ahead
from flows.runtime.settings import DEFAULT_FILE
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


def test_workers_start_before_the_settings_only_where_none_can_say_that_they_are_elsewhere(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(module, "start_worker_server", lambda: started.append(True))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert SETTINGS_FILE == DEFAULT_FILE
    DEFAULT_FILE.write_text("[cluster]\nkind = 'slurm'\n")
    start_workers_ahead(out)
    DEFAULT_FILE.unlink()
    with monkeypatch.context() as patch:
        patch.setenv("NIGHTSTRIDE_CLUSTER__KIND", "slurm")
        start_workers_ahead(out)
    assert started == []
    start_workers_ahead(out)
    assert started == [True]
    out.mkdir()  # there may be nothing to do
    start_workers_ahead(out)
    assert started == [True]


@pytest.mark.parametrize(
    ("names", "likely"),
    [
        (["a.avro"], True),
        (["night.TAR.gz"], True),
        (["a.fits.fz"], False),
        (["a.avro", "a.fits"], False),
        ([], False),
    ],
)
def test_packets_are_known_at_a_glance(tmp_path, names, likely):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"")
    assert likely_packets([str(tmp_path / name) for name in names] or [str(tmp_path)]) is likely
    assert likely_packets([str(tmp_path / name / name) for name in names] or [str(tmp_path)]) is likely
