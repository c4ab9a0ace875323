import os
import re
import subprocess
import time
import tomllib

import psutil
import pytest

from flows.nights.cluster.cluster import cluster
from flows.nights.cluster.slurm import queue_state
from schemas.errors import Misconfigured
from schemas.settings import Settings
from tests.support.cluster import PAGE, ask, require_slurm, slurm
from tests.support.intruder import attacked, listening, targets
from tests.support.night import DETECTORS, VISITS, catalogues
from tests.support.services import place

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = pytest.mark.services
ALL = VISITS * DETECTORS

BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SETTINGS = next(block for block in BLOCKS if 'kind = "slurm"' in block)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Environment of a SLURM of this machine alone."""
    require_slurm()
    with slurm(tmp_path_factory.mktemp("slurm") / "slurm") as environment:
        yield environment


@pytest.fixture
def here(batch, monkeypatch):
    for name, value in batch.items():
        monkeypatch.setenv(name, value)


def configured(folder, **changed):
    given = tomllib.loads(SETTINGS)["cluster"]
    return Settings(cluster={**given, "slurm": {**given["slurm"], "interface": "lo", "folder": folder, **changed}})


def test_a_night_in_jobs_is_that_of_our_own_workers(nightstride_run, raw_night, uninterrupted, batch, tmp_path):
    (tmp_path / "night.toml").write_text(f'{SETTINGS}\ninterface = "lo"\nfolder = "{tmp_path / "shared"}"\n')
    run = nightstride_run(raw_night, "--out", tmp_path / "out", "--config", tmp_path / "night.toml", **batch)
    assert run.counts == (ALL, ALL, 0, 0, 0), run.stderr
    assert catalogues(tmp_path / "out") == catalogues(uninterrupted[1])
    logs = [path.read_text() for path in (tmp_path / "shared" / "logs").iterdir()]
    assert any("Registered to:" in text and "tls://" in text for text in logs)
    assert not [path for path in (tmp_path / "shared").iterdir() if path.name != "logs"]  # no key is left
    assert _states(batch) == set()


def test_jobs_are_added_while_there_is_work_and_replaced_when_killed(here, batch, tmp_path):
    settings = configured(tmp_path / "shared", maximum_jobs=2)
    with cluster(settings, tmp_path / "out") as running, running.client() as client:
        assert running.workers == 2
        assert running.address.startswith("tls://")
        (keys,) = (tmp_path / "shared").glob("keys-*")
        assert keys.stat().st_mode & 0o777 == 0o700
        first = _jobs(batch)
        assert len(first) == 1
        futures = client.map(_slow, range(60), pure=False)
        _until(lambda: len(_jobs(batch)) == 2)
        ask(batch, "scancel", "--signal=KILL", "--full", first.pop())
        assert sorted(client.gather(futures)) == list(range(60))
    _until(lambda: _states(batch) == set())


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root")
def test_another_user_gets_nothing_of_jobs(here, batch):
    """Scheduler, and workers and their nannies in jobs: ports, pages and files; logs may be read."""
    with place() as path:
        settings = configured(path / "shared", maximum_jobs=1)
        others = listening([psutil.Process()])  # of other tests: some serve as long as this process lives
        with cluster(settings, path / "out") as running, running.client() as client:
            pids = [*client.run(os.getpid).values(), *client.run(os.getppid).values()]
            ports = {int(address.rpartition(":")[2]) for address in [running.address, *client.run(_nothing)]}
            aims = targets([psutil.Process(), *map(psutil.Process, pids)], [path], others=others)
            got = attacked(aims)
            assert client.submit(sum, [1, 2]).result() == 3
        assert ports < {port for _, port in aims.ports}  # and that of a nanny
        assert {host for host, _ in aims.ports} == {"127.0.0.1"}
        assert any("/keys-" in one for one in aims.files)
        public = tuple(f"{path / name}/" for name in ("shared/logs", "out/staging"))
        assert {name: what for name, what in got.items() if not name.startswith(public)} == {}
        assert {one for what in got.values() for one in what} <= {"read", "lock"}
    _until(lambda: _states(batch) == set())


def test_a_job_that_cannot_be_is_refused_before_any_work(here, tmp_path):
    with (
        pytest.raises(Misconfigured, match=r"sbatch refuses the job: .*invalid partition.*To fix, correct queue"),
        cluster(configured(tmp_path / "shared", queue="nowhere"), tmp_path / "out"),
    ):
        pass


def test_jobs_that_do_not_start_are_told_of_with_what_slurm_says(here, batch, tmp_path):
    waiting = configured(tmp_path / "shared", directives=["--begin=now+1hour"], start_timeout_s=6.0)
    with (
        pytest.raises(Misconfigured, match=r"no worker within start_timeout_s = 6 s; squeue: PENDING BeginTime"),
        cluster(waiting, tmp_path / "out"),
    ):
        pass
    _until(lambda: _states(batch) == set())


def test_an_interface_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with (
        pytest.raises(Misconfigured, match=r"cluster\.slurm\.interface: 'ib9' is not a valid .*'lo'.*To fix, name one"),
        cluster(configured(tmp_path / "shared", interface="ib9"), tmp_path / "out"),
    ):
        pass


def test_without_slurm_there_is_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(Misconfigured, match=r"cannot run sbatch: .*To fix, run where jobs can be submitted"),
        cluster(configured(tmp_path / "shared"), tmp_path / "out"),
    ):
        pass


def test_a_queue_that_cannot_be_asked_is_not_told_as_empty(monkeypatch, tmp_path):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error:  Unable to contact slurm controller' >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queue_state() == "no answer (slurm_load_jobs error: Unable to contact slurm controller)"
    squeue.write_text("#!/bin/sh\n")
    assert queue_state() == "no job in the queue"


def _nothing():
    return None


def _slow(value):
    time.sleep(0.5)
    return value


def _jobs(batch):
    return set(ask(batch, "squeue", "--noheader", "--format=%i", "--states=PENDING,RUNNING").split())


def _states(batch):
    told = subprocess.run(
        ["squeue", "--noheader", "--format=%T"], capture_output=True, text=True, env={**os.environ, **batch}, check=True
    )
    return set(told.stdout.split()) - {"COMPLETING"}


def _until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen")
