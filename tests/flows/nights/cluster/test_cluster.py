import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster, SchedulerPlugin, get_worker
from distributed.system import MEMORY_LIMIT

from flows.nights.cluster import local
from flows.nights.cluster.cluster import Warm, cluster, on_workers, warm_up_workers
from flows.nights.cluster.local import MALLOC, THREADS
from flows.nights.cluster.security import security_of
from flows.pipeline.weights import write_model
from flows.storage import object_store
from flows.storage.object_store import configured
from schemas.cluster_settings import ClusterSettings
from schemas.errors import Misconfigured
from schemas.settings import DetectSettings, ExecutionSettings, Settings, StoreSettings
from tests.support.cluster import commands, make_certificates, scheduler, worker
from tests.support.models import CARD
from tests.support.night import DETECTORS, VISITS, catalogues

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = pytest.mark.slow
ALL = VISITS * DETECTORS


def looks():
    """What a task sees of its worker: threads, and whether models are loaded."""
    import os

    import numba
    import torch

    from flows.pipeline.models import _loaded

    given = {name: os.environ.get(name) for name in THREADS | MALLOC}
    return given, torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, _loaded.cache_info().currsize


@dataclass(frozen=True)
class Asked:
    """Task that says how its process reaches object stores."""

    name: str = "patch 5-1"
    labels: Mapping[str, str] = field(default_factory=lambda: {"night": "20250121"})

    def __call__(self, out, settings):
        return configured().endpoint


def test_workers_that_nobody_warmed_up_know_the_stores_of_the_settings(tmp_path, monkeypatch):
    """Where nothing is searched, and much of the sky is to be made again, they are started for that alone."""
    monkeypatch.setattr(object_store, "_current", None)
    settings = Settings(store=StoreSettings(endpoint="http://127.0.0.1:9"), execution=ExecutionSettings(workers=1))
    with cluster(settings, tmp_path) as running:
        assert [found for _, found in on_workers([Asked()], tmp_path, settings, running)] == ["http://127.0.0.1:9"]


def at(address, **files):
    return Settings(cluster=ClusterSettings(kind="address", address=address, **files))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def encrypted(certificates, tmp_path_factory):
    """Address of a cluster of two workers, with a resource each, that asks for certificates."""
    folder = tmp_path_factory.mktemp("encrypted")
    with (
        scheduler(folder, certificates) as address,
        worker(address, "processor", folder, "--resources", "CPU=1", files=certificates),
        worker(address, "accelerator", folder, "--resources", "GPU=1", files=certificates),
    ):
        yield address


@pytest.fixture
def client(encrypted, certificates):
    """A client of it."""
    security = security_of(at(encrypted, **certificates).cluster)
    with Client(encrypted, security=security, set_as_default=False) as client:
        yield client


def test_a_worker_has_one_thread_of_everything_and_warm_models(tmp_path):
    settings = Settings(execution=ExecutionSettings(workers=1, worker_memory_gib=1.25))
    with cluster(settings, tmp_path) as running, running.client() as client:
        assert (running.workers, running.memory_bytes) == (1, 1.25 * 2**30)
        client.register_plugin(Warm(settings))
        given, torch_threads, numba_threads, models = client.submit(looks).result()
        assert given == THREADS | MALLOC
        # Detector and verdict of these settings, and the detector that was there before they were known.
        assert (torch_threads, numba_threads, models) == (1, 1, 3)
        other = {"stage": "detect", "input": {"kind": "cells", "channels": 4, "dilations": [1, 1], "grid": {}}}
        write_model(tmp_path / "bad", {"a": np.zeros(2, np.float32)}, CARD | {"threshold": 0.5} | other)
        unfit = settings.model_copy(update={"detect": DetectSettings(model=str(tmp_path / "bad"))})
        with pytest.raises(Misconfigured, match=r"bad/detect: cannot be built: RuntimeError: .*Missing key.*To fix"):
            warm_up_workers(running, unfit)
        made = running.security.get_tls_config_for_role("client")
        files = {f"tls_{kind}": tmp_path / f"{kind}.pem" for kind in ("ca", "cert", "key")}
        for kind, name in (("ca", "ca_file"), ("cert", "cert"), ("key", "key")):
            files[f"tls_{kind}"].write_text(made[name])
        with cluster(at(running.address, **files), tmp_path) as existing:
            assert (existing.address, existing.workers) == (running.address, 1)
            assert existing.memory_bytes >= 1.25 * 2**30


def test_a_worker_without_a_limit_has_the_memory_of_its_host(tmp_path):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0") as made,
        cluster(at(made.scheduler_address), tmp_path) as existing,
    ):
        assert existing.memory_bytes == MEMORY_LIMIT > 2**30


def test_a_scheduler_that_does_not_answer_is_named(tmp_path):
    silent = at("tcp://127.0.0.1:9")
    with (
        pytest.raises(Misconfigured, match=r"tcp://127.0.0.1:9: no Dask scheduler.*To fix"),
        cluster(silent, tmp_path),
    ):
        pass


def test_workers_started_as_the_page_says_are_set_like_ours(encrypted, certificates, tmp_path):
    settings = at(encrypted, **certificates)
    with cluster(settings, tmp_path) as running, running.client() as client:
        assert (running.workers, running.memory_bytes) == (2, 2 * 2**30)
        warm_up_workers(running, settings)
        given, torch_threads, numba_threads, models = client.submit(looks).result()
        assert given == THREADS | MALLOC
        assert (torch_threads, numba_threads, models) == (1, 1, 2)
        assert client.run(lambda dask_worker: dask_worker.memory_manager.memory_pause_fraction) == dict.fromkeys(
            client.nthreads(), False
        )
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_client_without_a_certificate_is_refused(encrypted, tmp_path):
    plain = encrypted.replace("tls://", "tcp://")
    with pytest.raises(OSError, match=r"in <TCP \(closed\)"):
        Client(plain, set_as_default=False, timeout="10s")
    with (
        pytest.raises(Misconfigured, match=r"no Dask scheduler with workers answers: .*correct --scheduler \(tls://"),
        cluster(at(plain), tmp_path),
    ):
        pass


def test_a_scheduler_of_another_authority_is_not_believed(encrypted, tmp_path):
    others = make_certificates(tmp_path / "others")
    says = rf"cluster\.tls_ca: the certificate of {encrypted} is not of the authority in {others['tls_ca']}"
    with pytest.raises(Misconfigured, match=says), cluster(at(encrypted, **others), tmp_path):
        pass


def test_a_client_of_another_authority_is_refused(encrypted, certificates, tmp_path):
    others = make_certificates(tmp_path / "others")
    mixed = at(encrypted, **{**others, "tls_ca": certificates["tls_ca"]})
    with pytest.raises(Misconfigured, match="no Dask scheduler with workers answers"), cluster(mixed, tmp_path):
        pass


def test_a_night_on_it_is_that_of_our_own_workers(
    nightstride_run, raw_night, uninterrupted, encrypted, certificates, tmp_path
):
    files = {f"NIGHTSTRIDE_CLUSTER__{name.upper()}": path for name, path in certificates.items()}
    run = nightstride_run.here(raw_night, "--out", tmp_path / "out", "--scheduler", encrypted, **files)
    assert run.counts == (ALL, ALL, 0, 0, 0), run.stderr
    assert catalogues(tmp_path / "out") == catalogues(uninterrupted[1])
    assert list((tmp_path / "out" / "staging").iterdir()) == []


def test_a_resource_that_nobody_offers_stops_the_run(encrypted, certificates, tmp_path, monkeypatch):
    monkeypatch.setattr("flows.nights.cluster.cluster.ANSWER_S", 5.0)
    wanted = ClusterSettings(kind="address", address=encrypted, inference_resource="TPU", **certificates)
    says = r"cluster\.inference_resource: no worker offers 'TPU'; offered: CPU, GPU\..*--resources 'TPU=1'"
    with (
        pytest.raises(Misconfigured, match=says),
        cluster(Settings(cluster=wanted), tmp_path),
    ):
        pass


def test_networks_run_where_they_should_and_nothing_else_does(
    nightstride_run, raw_night, uninterrupted, encrypted, certificates, client, tmp_path
):
    files = {f"NIGHTSTRIDE_CLUSTER__{name.upper()}": path for name, path in certificates.items()}
    client.register_plugin(Recorder())
    run = nightstride_run.here(
        raw_night, "--out", tmp_path / "out", "--scheduler", encrypted,
        NIGHTSTRIDE_CLUSTER__INFERENCE_RESOURCE="GPU", NIGHTSTRIDE_CLUSTER__OTHER_RESOURCE="CPU", **files,
    )  # fmt: skip
    assert run.counts == (ALL, ALL, 0, 0, 0), run.stderr
    ran = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins[Recorder.name].ran)
    assert ran == {
        "store": {"processor"},
        "search": {"accelerator"},
        "finish": {"processor"},
        "inject": {"accelerator"},
        "patch": {"processor"},
        "night": {"processor"},
    }
    assert catalogues(tmp_path / "out") == catalogues(uninterrupted[1])
    assert run.summary["injection"] == uninterrupted[0].summary["injection"]


def warmed(settings):
    """How many models a worker holds that began with none."""
    from flows.pipeline.models import _loaded

    _loaded.cache_clear()
    plugin = Warm(settings)
    plugin.setup(get_worker())
    if plugin.trouble is not None:
        raise plugin.trouble
    return _loaded.cache_info().currsize


def test_a_worker_that_runs_no_networks_needs_no_gpu(client):
    settings = Settings(
        cluster=ClusterSettings(kind="address", address="tcp://h:1", inference_resource="GPU"),
        detect=DetectSettings(device="cuda"),
    )
    assert client.submit(warmed, settings, workers="processor", pure=False).result() == 2
    if not torch.cuda.is_available():
        with pytest.raises(Misconfigured, match=r'detect.device = "cuda": finds no GPU: .*(CUDA|NVIDIA)'):
            client.submit(warmed, settings, workers="accelerator", pure=False).result()


def test_the_page_starts_workers_with_what_they_need():
    lines = commands("eval").splitlines()
    assert lines[0] == 'eval "$(python -m flows.nights.cluster.local)"'
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where the page's python is
    asked = ["bash", "-c", f"set -e; {lines[0]}; env"]
    told = subprocess.run(
        asked, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
    ).stdout.splitlines()
    assert {f"{name}={value}" for name, value in (THREADS | MALLOC).items()} <= set(told)


class Recorder(SchedulerPlugin):
    """Notes which worker does which kind of task."""

    name = "recorder"

    def start(self, scheduler):
        self.ran, self.scheduler = {}, scheduler

    def transition(self, key, start, finish, *args, worker=None, **kwargs):
        if start == "processing" and finish == "memory":
            self.ran.setdefault(key.rpartition("-")[0], set()).add(self.scheduler.workers[worker].name)


def test_scratch_files_lie_in_one_folder_where_files_have_the_group_of_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o2777)
    assert local._scratch() == local._scratch() == tmp_path / f"nightstride-{os.getuid()}"


def test_scratch_files_lie_in_a_folder_of_ours_and_of_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = tmp_path / f"nightstride-{os.getuid()}"
    assert local._scratch() == ours == local._scratch()
    assert ours.stat().st_mode & 0o777 == 0o700
    ours.chmod(0o777)
    other = local._scratch()
    assert other != ours
    assert other.stat().st_mode & 0o777 == 0o700
    ours.rmdir()
    ours.symlink_to(other)
    assert local._scratch() not in (ours, other)
