"""What a run asks of a cluster before it starts, with clusters that only say what they are."""

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from distributed.security import Security

from flows.nights.cluster import cluster as module
from flows.nights.cluster import slurm as jobs
from flows.nights.cluster.cluster import (
    Cluster,
    Warm,
    _joined,
    _memory_limits,
    _no_workers,
    _require_resources,
    _wait_for_resources,
    cluster,
)
from flows.nights.cluster.slurm import queue_state, slurm_cluster
from flows.pipeline.graph import OF_EXPOSURE
from schemas.cluster_settings import ClusterSettings, SlurmSettings
from schemas.errors import BadInput, Misconfigured
from schemas.settings import DetectSettings, Settings
from stages import PIPELINE

GIB = 2**30


class FakeClient:
    """A client of workers that are given as address -> (memory limit, threads, resources)."""

    def __init__(self, workers, host=7 * GIB):
        self.workers, self.host, self.asked, self.waited = workers, host, [], []

    def scheduler_info(self, n_workers):
        assert n_workers == -1
        names = ("memory_limit", "nthreads", "resources")
        return {"workers": {at: dict(zip(names, one, strict=True)) for at, one in self.workers.items()}}

    def run(self, function, workers):
        self.asked.append(workers)
        return dict.fromkeys(workers, self.host)

    def nthreads(self):
        return {at: one[1] for at, one in self.workers.items()}

    def wait_for_workers(self, count, timeout):
        self.waited.append((count, timeout))


@dataclass(frozen=True)
class FakeCluster(Cluster):
    of: FakeClient | None = None

    @contextmanager
    def client(self, **options):
        assert options == {"timeout": "10s"}
        if isinstance(self.of, Exception):
            raise self.of
        yield self.of


def at(**given):
    return Settings(cluster=ClusterSettings(kind="address", address="tcp://there:8786", **given))


def test_memory_is_that_of_each_thread_of_the_worker_or_of_its_host():
    client = FakeClient({"a": (8 * GIB, 4, {}), "b": (0, 2, {}), "c": (3 * GIB, 1, {})})
    assert _memory_limits(client) == [2 * GIB, 7 * GIB // 2, 3 * GIB]
    assert client.asked == [["b"]]
    limited = FakeClient({"a": (8 * GIB, 4, {})})
    assert _memory_limits(limited) == [2 * GIB]
    assert limited.asked == []


@pytest.mark.parametrize("field", ["inference_resource", "other_resource"])
def test_a_resource_must_be_offered_by_some_worker(field):
    client = FakeClient({"a": (GIB, 1, {"CPU": 1.0}), "b": (GIB, 1, {"GPU": 1.0})})
    _require_resources(client, at())
    _require_resources(client, at(**{field: "GPU"}))
    with pytest.raises(Misconfigured, match=rf"cluster\.{field}: no worker offers 'TPU'; offered: CPU, GPU\."):
        _require_resources(client, at(**{field: "TPU"}))
    with pytest.raises(Misconfigured, match="offered: nothing"):
        _require_resources(FakeClient({}), at(**{field: "TPU"}))


@pytest.mark.parametrize(("patience", "looks"), [(0.0, 2), (2.5, 4), (3.0, 5)])
def test_workers_of_another_kind_are_waited_for_until_patience_ends(monkeypatch, patience, looks):
    now, looked = [50.0], []
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "sleep", lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(FakeClient, "scheduler_info", lambda *_, **__: looked.append(now[0]) or {"workers": {}})
    with pytest.raises(Misconfigured, match="no worker offers"):
        _wait_for_resources(FakeClient({}), at(inference_resource="GPU"), patience)
    assert looked == [50.0 + second for second in range(looks)]


def test_a_cluster_is_as_large_as_its_threads_and_as_small_as_its_smallest_worker(monkeypatch):
    terms, admitted = object(), []
    monkeypatch.setattr(module, "require_admitted", lambda *given: admitted.append(given))
    client = FakeClient({"a": (8 * GIB, 4, {}), "b": (3 * GIB, 3, {})})
    running = FakeCluster("tcp://there:1", 0, 0, None, terms, client)
    found = _joined(running, at(), 60.0)
    assert (found.address, found.workers, found.memory_bytes, found.terms) == ("tcp://there:1", 7, GIB, terms)
    assert client.waited == [(1, 60.0)]
    assert admitted == [(client, terms)]
    _joined(FakeCluster("tcp://there:1", 0, 0, None, None, client), at(), 60.0)
    assert len(admitted) == 1


@pytest.mark.parametrize("error", [OSError("refused"), TimeoutError("late")])
def test_a_cluster_that_does_not_answer_is_named(error):
    with pytest.raises(Misconfigured, match=r"tcp://there:1: no Dask scheduler with workers answers: (refused|late)\."):
        _joined(FakeCluster("tcp://there:1", 0, 0, None, None, error), at(), 1.0)


def test_why_there_are_no_workers_depends_on_what_was_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "queue_state", lambda: "PENDING Priority")
    running = Cluster("tls://there:1", 0, 0)
    waiting = Settings(cluster=ClusterSettings(kind="slurm", slurm=SlurmSettings(start_timeout_s=90)))
    assert "within start_timeout_s = 90 s; squeue: PENDING Priority" in str(_no_workers(running, waiting, OSError("x")))
    assert _no_workers(running, at(), OSError("bad certificate")).code == "tls"
    assert _no_workers(running, at(), OSError("closed")).code == "scheduler"


def test_each_kind_of_cluster_is_started_in_its_own_way(monkeypatch, tmp_path):
    security, terms, patience = Security(), object(), []

    @contextmanager
    def started(settings):
        yield "tls://here:1", security

    @contextmanager
    def admitted(out, store):
        assert out == tmp_path
        yield terms

    def joined(running, settings, patience_s):
        patience.append(patience_s)
        return Cluster(running.address, 3, 5, running.security, running.terms)

    for name, what in (("local_cluster", started), ("slurm_cluster", started), ("worker_terms", admitted)):
        monkeypatch.setattr(module, name, what)
    monkeypatch.setattr(module, "_joined", joined)
    monkeypatch.setattr(module, "security_of", lambda settings: None)
    own = Settings(execution={"workers": 2, "worker_memory_gib": 1.25})
    with cluster(own, tmp_path) as running:
        assert running == Cluster("tls://here:1", 2, 5 * GIB // 4, security)
    batch = ClusterSettings(kind="slurm", slurm=SlurmSettings(maximum_jobs=6, cores=4, start_timeout_s=30))
    with cluster(Settings(cluster=batch), tmp_path) as running:
        assert running == Cluster("tls://here:1", 24, 5, security, terms)
    with cluster(at(), tmp_path) as running:
        assert running == Cluster("tcp://there:8786", 3, 5, None, terms)
    assert patience == [30.0, 60.0]


@pytest.fixture
def warmed(monkeypatch):
    """What is done as a worker starts, by name."""
    done = {}
    names = ("log_as_json", "without_failures_of_tasks", "start_traces", "tell_gpu_memory", "configure", "models_of")
    for name in (*names, "warm"):
        monkeypatch.setattr(module, name, lambda *given, name=name: done.setdefault(name, []).append(given))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: done.setdefault("threads", []).append(count))
    return done


def worker(**resources):
    return SimpleNamespace(state=SimpleNamespace(total_resources=resources))


def test_a_worker_logs_and_traces_only_as_it_is_told(warmed, monkeypatch):
    Warm(Settings()).setup(worker())
    assert {"log_as_json", "start_traces"}.isdisjoint(warmed)
    assert warmed["threads"] == [1]
    assert len(warmed["without_failures_of_tasks"]) == len(warmed["warm"]) == 1
    loaded = [stage.name for stage, _ in warmed["models_of"]]
    assert loaded == [stage.name for stage in PIPELINE if stage.per in OF_EXPOSURE]
    warmed.clear()
    Warm(at(), "run 1", True).setup(worker())
    assert warmed["log_as_json"] == [("run 1",)]
    assert len(warmed["start_traces"]) == 1
    assert "without_failures_of_tasks" not in warmed

    def cannot(settings):
        raise BadInput("a", "b", "c.", "d.")

    monkeypatch.setattr(module, "warm", cannot)
    Warm(at()).setup(worker())


@pytest.mark.parametrize(("resource", "device"), [(None, "cuda"), ("GPU", "cuda"), ("TPU", "cpu")])
def test_a_worker_that_runs_no_networks_needs_no_gpu(warmed, resource, device):
    settings = at(inference_resource=resource).model_copy(update={"detect": DetectSettings(device="cuda")})
    Warm(settings).setup(worker(GPU=1))
    ((given,),) = warmed["warm"]
    assert given.detect.device == device


class FakeJobs:
    """Jobs that are never started."""

    scheduler_address = "tls://here:1"

    def __init__(self):
        self.adapted, self.closed = None, 0

    def job_script(self):
        return "#!/bin/sh"

    def adapt(self, **given):
        self.adapted = given

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("given", [None, Security()])
def test_jobs_get_the_given_keys_or_some_made_for_the_run(monkeypatch, tmp_path, given):
    made, fake, seen = Security(), FakeJobs(), []

    @contextmanager
    def made_for_a_run(folder):
        yield made

    monkeypatch.setattr(jobs, "security_of", lambda settings: given)
    monkeypatch.setattr(jobs, "made_for_a_run", made_for_a_run)
    monkeypatch.setattr(jobs, "_jobs", lambda slurm, folder, security: seen.append((folder, security)) or fake)
    monkeypatch.setattr(jobs, "_require_accepted", lambda script: seen.append(script))
    settings = ClusterSettings(kind="slurm", slurm=SlurmSettings(folder=tmp_path / "shared", minimum_jobs=2))
    with slurm_cluster(settings) as (address, security):
        assert (address, security) == ("tls://here:1", made if given is None else given)
        assert fake.adapted == {"minimum_jobs": 2, "maximum_jobs": 8}
        assert fake.closed == 0
    assert fake.closed == 1
    assert seen == [((tmp_path / "shared").resolve(), security), "#!/bin/sh"]
    assert (tmp_path / "shared/logs").is_dir()


def answering(folder, monkeypatch, name, text, code=0):
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{text}'\necho 'no such queue' >&2\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_queue_is_told_in_a_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queue_state() == "no answer (FileNotFoundError)"
    answering(tmp_path, monkeypatch, "squeue", "RUNNING None\nPENDING Priority\nRUNNING None")
    assert queue_state() == "PENDING Priority; RUNNING None"
    answering(tmp_path, monkeypatch, "squeue", "")
    assert queue_state() == "no job in the queue"


def test_a_job_is_refused_before_any_work(monkeypatch, tmp_path):
    answering(tmp_path, monkeypatch, "sbatch", "")
    jobs._require_accepted("#!/bin/sh")
    answering(tmp_path, monkeypatch, "sbatch", "", code=1)
    with pytest.raises(Misconfigured, match=r"sbatch refuses the job: no such queue\."):
        jobs._require_accepted("#!/bin/sh")


def test_folder_of_the_keys_is_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jobs.default_folder() == tmp_path / "nightstride/slurm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jobs.default_folder() == tmp_path / ".cache/nightstride/slurm"


def test_a_job_is_asked_for_as_the_settings_say(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr("dask_jobqueue.SLURMCluster", lambda **options: given.update(options))
    slurm = SlurmSettings(cores=3, memory_gib=2.5, prologue=("module load x",), directives=("--qos=low",), queue="q")
    jobs._jobs(slurm, tmp_path, Security())
    assert (given["cores"], given["processes"], given["memory"], given["queue"]) == (3, 3, "2.5GiB", "q")
    assert given["job_script_prologue"][-2:] == ["export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'", "module load x"]
    assert given["scheduler_options"] == {"dashboard_address": "127.0.0.1:0", "dashboard": False}
    assert given["log_directory"] == str(tmp_path / "logs")


def test_infos_of_dask_are_kept_back_while_jobs_run():
    assert logging.getLogger("distributed").level != logging.CRITICAL
