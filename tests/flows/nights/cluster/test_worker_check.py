import shutil
import sys
from importlib.metadata import version
from operator import neg
from pathlib import Path

import numba
import pytest
import torch
from distributed import Client

from flows.nights.cluster.cluster import cluster
from flows.nights.cluster.worker_check import (
    CODE,
    LIBRARIES,
    admitted,
    require_admitted,
    software,
    worker_terms,
)
from schemas.cluster_settings import ClusterSettings
from schemas.errors import Misconfigured
from schemas.settings import Settings, StoreSettings
from tests.support.cluster import ROOT as ROOT_ADMISSION
from tests.support.cluster import scheduler, worker
from tests.support.wait import until


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """Address of a scheduler with a worker that is fit."""
    folder = tmp_path_factory.mktemp("fit")
    with scheduler(folder) as address, worker(address, "fit", folder):
        yield address


@pytest.fixture
def address(fit):
    """The same; the workers of the tests before have left."""
    with Client(fit, set_as_default=False) as client:
        until(lambda: [one["name"] for one in client.scheduler_info(n_workers=-1)["workers"].values()] == ["fit"])
    return fit


@pytest.fixture
def start(address, tmp_path):
    """Settings of a cluster, and how to see whether a run may start on it."""
    settings = Settings(cluster=ClusterSettings(kind="address", address=address))

    def run(out=tmp_path / "out"):
        with cluster(settings, out) as running:
            return running

    return run


def changed_code(folder):
    """A copy of our code with one more line."""
    for name in ("schemas", "kernels", "stages", "flows"):
        shutil.copytree(ROOT_ADMISSION / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "kernels" / "windows.py").open("a") as file:
        file.write("# changed\n")
    return str(folder)


def other_numpy(folder):
    """A folder that says, before the installed one does, that numpy is of another version."""
    metadata = folder / "numpy-1.26.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.0\n")
    return f"{folder}:{ROOT}"


def test_a_fit_worker_may_work_and_leaves_no_trace(address, start, tmp_path):
    with worker_terms(tmp_path / "out", StoreSettings()) as terms:
        with Client(address, set_as_default=False) as client:
            require_admitted(client, terms)
            assert client.submit(admitted, terms, neg, 21).result() == -21
        assert dict(terms.software) == software()
        assert start().workers == 1
    assert list((tmp_path / "out" / "staging").iterdir()) == []


@pytest.mark.filterwarnings("ignore:Mismatched versions found")  # Dask says so too, and goes on
def test_another_version_of_a_library_is_named(address, start, tmp_path):
    here = software()["numpy"]
    says = (
        rf"worker old at tcp://\S+: package numpy is 1\.26\.0 there, {here} here\. "
        r"To fix, install the same version of nightstride with deploy/constraints\.txt"
    )
    with (
        worker(address, "old", tmp_path, PYTHONPATH=other_numpy(tmp_path / "numpy")),
        pytest.raises(Misconfigured, match=says) as caught,
    ):
        start()
    assert caught.value.code == "worker_software"


def test_other_code_of_ours_is_named_at_the_start_and_when_it_comes_late(address, start, tmp_path):
    other = changed_code(tmp_path / "code")
    with (
        worker_terms(tmp_path / "out", StoreSettings()) as terms,
        Client(address, set_as_default=False) as client,
    ):
        require_admitted(client, terms)
        with worker(address, "late", tmp_path, PYTHONPATH=other):
            client.wait_for_workers(2, timeout=60)
            late = client.submit(admitted, terms, neg, 21, workers=["late"])
            with pytest.raises(Misconfigured, match=rf"worker late on \S+: the digest of the {CODE} is"):
                late.result()
            with pytest.raises(Misconfigured, match=r"worker late at tcp://\S+: the digest of the"):
                start()
            assert client.submit(admitted, terms, neg, 21, workers=["fit"], pure=False).result() == -21


def test_a_worker_without_our_code_is_named(address, start, tmp_path):
    (tmp_path / "nothing" / "flows").mkdir(parents=True)
    absent = "raise ModuleNotFoundError(__name__)\n"  # stands before an installed package
    (tmp_path / "nothing" / "flows" / "__init__.py").write_text(absent)
    with (
        worker(address, "bare", tmp_path, PYTHONPATH=str(tmp_path / "nothing")),
        pytest.raises(
            Misconfigured, match=r"worker bare at tcp://\S+: cannot run our code: ModuleNotFoundError.*To fix"
        ),
    ):
        start()


def test_an_output_folder_that_is_not_shared_is_refused(address, start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The same path is another folder in a process that works elsewhere, as /data is on another machine.
    out = Path("/proc/self/cwd/out")
    says = r"worker fit at tcp://\S+: does not see the output folder: .*To fix, put --out"
    with pytest.raises(Misconfigured, match=says):
        start(out)
    assert (tmp_path / "out").is_dir()
    with Client(address, set_as_default=False) as client:
        assert not client.submit(out.exists, pure=False).result()


ROOT = Path(__file__).parents[4]


def test_says_what_runs_here():
    found = software()
    assert list(found) == ["python", *LIBRARIES, CODE]
    assert found["python"] == ".".join(map(str, sys.version_info[:2]))
    assert found["numba"] == numba.__version__
    assert found["torch"] == torch.__version__.split("+")[0]  # a build for GPUs is the same version
    assert "not installed" not in found.values()
    assert version("zarr") == found["zarr"]
