import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from types import SimpleNamespace
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from flows.nights.totals import NightTotals, summarise_run
from flows.pipeline.outcome import Plan
from flows.pipeline.provenance import provenance_of
from flows.runtime.metrics import (
    GPU,
    WorkerMemory,
    add_build_info,
    families,
    metrics_server,
    require_writable,
    run_figures,
    token_in,
    write_figures,
)
from schemas.errors import Misconfigured
from schemas.ledger import Percentiles
from schemas.observe_settings import ObserveSettings
from schemas.settings import Settings
from schemas.summary import Trouble
from stages import PIPELINE
from tests.flows.nights.test_observation import outcome


def test_each_model_is_named_with_its_version():
    made, registry = provenance_of(PIPELINE, Settings()), CollectorRegistry()
    add_build_info(registry, made)
    assert {"detect", "reliability"} <= made.models.keys()
    for role, card in made.models.items():
        labels = {"role": role, "name": card.name, "version": card.version}
        assert registry.get_sample_value("nightstride_model_info", labels) == 1
    build = {"version": made.software, "code": made.code[:12]}
    assert registry.get_sample_value("nightstride_build_info", build) == 1


@pytest.fixture
def registry():
    made = CollectorRegistry()
    Gauge("nightstride_answer", "Of everything.", registry=made).set(42)
    return made


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """An authority, and a certificate of it for this machine."""
    folder = tmp_path_factory.mktemp("keys")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for command in (
        ["req", "-x509", *curve, "-days", "2", "-subj", "/CN=authority", *usage, "-keyout", "ca.key",
         "-out", "ca.pem"],
        ["req", *curve, "-subj", "/CN=node", "-keyout", "node.key", "-out", "node.csr"],
        ["x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
         "-extfile", "names", "-out", "node.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


def answer(url, context=None):
    with urlopen(url, timeout=30, context=context) as reply:
        return {
            family.name: family.samples[0].value for family in text_string_to_metric_families(reply.read().decode())
        }


def test_figures_are_there_as_long_as_the_block_lasts(registry):
    with metrics_server(ObserveSettings(metrics="0"), registry) as port:
        assert answer(f"http://127.0.0.1:{port}/metrics") == {"nightstride_answer": 42}
    with pytest.raises(URLError):
        answer(f"http://127.0.0.1:{port}/metrics")


def test_a_port_that_is_taken_is_told(registry):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(Misconfigured, match=rf"observe.metrics: .*127.0.0.1:{port}: .*in use"),
            metrics_server(ObserveSettings(metrics=str(port)), registry),
        ):
            pass


def test_with_an_authority_nobody_gets_in_without_a_certificate(registry, keys):
    files = {"metrics_cert": keys / "node.pem", "metrics_key": keys / "node.key", "metrics_ca": keys / "ca.pem"}
    with metrics_server(ObserveSettings(metrics="0", **files), registry) as port:
        context = ssl.create_default_context(cafile=keys / "ca.pem")
        with pytest.raises((URLError, ssl.SSLError, ConnectionError)):
            answer(f"https://127.0.0.1:{port}/metrics", context)
        context.load_cert_chain(keys / "node.pem", keys / "node.key")
        assert answer(f"https://127.0.0.1:{port}/metrics", context) == {"nightstride_answer": 42}


def test_without_an_authority_whoever_trusts_the_certificate_gets_in(registry, keys):
    settings = ObserveSettings(metrics="0", metrics_cert=keys / "node.pem", metrics_key=keys / "node.key")
    with metrics_server(settings, registry) as port:
        context = ssl.create_default_context(cafile=keys / "ca.pem")
        assert answer(f"https://127.0.0.1:{port}/metrics", context) == {"nightstride_answer": 42}


def test_with_a_token_nobody_gets_in_without_it(registry, tmp_path):
    path = tmp_path / "token"
    settings = ObserveSettings(metrics="127.0.0.1:0", metrics_token_file=path)
    with metrics_server(settings, registry) as port:
        token, url = path.read_text().strip(), f"http://127.0.0.1:{port}/metrics"
        assert answer(Request(url, headers={"Authorization": f"Bearer {token}"}))["nightstride_answer"] == 42
        for given in (
            {},
            {"Authorization": token},
            {"Authorization": f"Bearer {token[:-1]}"},
            {"Authorization": "Bearer"},
        ):
            with pytest.raises(HTTPError) as caught:
                answer(Request(url, headers=given))
            assert (caught.value.code, caught.value.read()) == (401, b"")
    assert (len(token), path.stat().st_mode & 0o777) == (43, 0o600)
    with metrics_server(settings, registry):
        assert path.read_text().strip() == token


@pytest.mark.parametrize(
    ("content", "mode", "says"), [("abc", 0o640, "others than its owner"), (" \n", 0o600, "holds no token")]
)
def test_a_token_that_protects_nothing_is_refused(tmp_path, content, mode, says):
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(Misconfigured, match=says) as caught:
        token_in(path)
    assert caught.value.code == "metrics_token"
    with pytest.raises(Misconfigured, match="cannot be read or made"):
        token_in(tmp_path / "nowhere" / "token")


def test_a_certificate_that_is_none_is_told(registry, tmp_path):
    (tmp_path / "no.pem").write_text("nothing")
    bad = ObserveSettings(metrics="0", metrics_cert=tmp_path / "no.pem", metrics_key=tmp_path / "no.pem")
    with pytest.raises(Misconfigured, match="cannot be served"), metrics_server(bad, registry):
        pass


def test_nobody_is_asked_for_the_passphrase_of_a_key(keys, tmp_path):
    """A stream begins where there is no terminal; elsewhere OpenSSL would wait for what somebody types."""
    key = tmp_path / "locked.key"
    words = ["-in", keys / "node.key", "-aes256", "-passout", "pass:geheim", "-out", key]
    subprocess.run(["openssl", "ec", *words], check=True, capture_output=True)
    code = (
        "import sys\nfrom prometheus_client import CollectorRegistry as Registry\n"
        "from flows.runtime.metrics import metrics_server\n"
        "from schemas.observe_settings import ObserveSettings\n"
        "given = ObserveSettings(metrics='0', metrics_cert=sys.argv[1], metrics_key=sys.argv[2])\n"
        "with metrics_server(given, Registry()): print('served')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, keys / "node.pem", key], input="geheim\n" * 4, capture_output=True, text=True,
        start_new_session=True, check=False,
    )  # fmt: skip
    assert run.stdout == ""
    assert "figures cannot be served at 127.0.0.1:0" in run.stderr
    assert "(without a passphrase)" in run.stderr
    assert "Enter PEM" not in run.stderr


WORKERS = {
    "tcp://a": {"name": 0, "metrics": {"memory": 5, GPU: 7}, "memory_limit": 9},
    "tcp://b": {"name": 1, "metrics": {"memory": 6, GPU: None}, "memory_limit": 0},
}
"""As a scheduler describes them: the second has neither a limit nor a GPU."""


def test_memory_of_each_worker_as_far_as_it_is_known():
    found = {
        family.name: {one.labels.get("worker"): one.value for one in family.samples} for family in families(WORKERS)
    }
    assert found == {
        "nightstride_workers": {None: 2},
        "nightstride_worker_memory_bytes": {"0": 5, "1": 6},
        "nightstride_worker_memory_limit_bytes": {"0": 9},
        "nightstride_worker_gpu_memory_bytes": {"0": 7},
    }
    assert "nightstride_worker_gpu_memory_bytes" not in {one.name for one in families({"tcp://b": WORKERS["tcp://b"]})}


def test_a_scheduler_that_does_not_answer_tells_nothing():
    def sync(identity, **_):
        return identity()

    def silent():
        raise OSError("closed")

    for scheduler, count in (
        (None, 0),
        (SimpleNamespace(identity=silent), 0),
        (SimpleNamespace(identity=lambda: {"workers": {}}), 3),
    ):
        assert len(list(WorkerMemory(SimpleNamespace(scheduler=scheduler, sync=sync)).collect())) == count


TROUBLE = Trouble(uri="a.fits", code="nan", message="a.fits: all pixels are NaN.")


def summary_of(done):
    outcomes = [outcome(visit, windows=1000, detections=3, seconds={"detect": 2.0}) for visit in range(done)]
    made = summarise_run(
        Plan(tuple(one.item for one in outcomes), (), 0, quarantined=(TROUBLE,)), NightTotals(outcomes)
    )
    return made.model_copy(update={"seconds": {**made.seconds, "wall": 9.5}, "catalogues": {"tracklet": 3}})


def read(path):
    families = text_string_to_metric_families(path.read_text())
    return {
        (sample.name.removeprefix("nightstride_run_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_file_holds_what_the_summary_holds(tmp_path):
    path, made = tmp_path / "night.prom", provenance_of(PIPELINE, Settings())
    write_figures(path, run_figures(summary_of(4), 1, made, Percentiles(n=4, p50=30.5, p99=80.25)))
    found = read(path)
    assert found.pop(("end_timestamp_seconds",)) == pytest.approx(time.time(), abs=60)
    infos = [name for name in found if name[0].startswith("nightstride_")]
    assert len(infos) == 1 + len(made.models)
    assert {name: value for name, value in found.items() if name not in infos} == {
        ("exit_code",): 1, ("exposures", "done"): 4, ("exposures", "skipped"): 0, ("exposures", "quarantined"): 1,
        ("exposures", "failed"): 0, ("windows",): 4000, ("windows_unscored",): 0, ("detections",): 12,
        ("night_failed",): 0, ("catalogue_rows", "tracklet"): 3, ("worker_seconds", "detect"): 8,
        ("duration_seconds",): 9.5, ("lag_seconds", "0.5"): 30.5, ("lag_seconds", "0.99"): 80.25,
    }  # fmt: skip


def test_of_a_run_that_an_error_ended_only_that_is_known(tmp_path):
    write_figures(tmp_path / "a.prom", run_figures(None, 2, None, None))
    assert {name for name, *_ in read(tmp_path / "a.prom")} == {"end_timestamp_seconds", "exit_code"}


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "a.prom"
    write_figures(path, run_figures(summary_of(1), 0, None, None))
    with path.open() as before:
        write_figures(path, run_figures(summary_of(2), 0, None, None))
        assert 'state="done"} 1.0' in before.read()
    assert read(path)["exposures", "done"] == 2
    monkeypatch.setattr(os, "rename", _full)
    with pytest.raises(OSError, match="full"):
        write_figures(path, run_figures(summary_of(3), 0, None, None))
    assert read(path)["exposures", "done"] == 2
    assert os.listdir(tmp_path) == ["a.prom"]  # noqa: PTH208


def _full(*_):
    raise OSError("full")


def test_a_folder_that_is_not_there_is_told_before_any_work(tmp_path):
    require_writable(tmp_path / "a.prom")
    with pytest.raises(Misconfigured, match=r"no folder .*nowhere.*--collector.textfile.directory"):
        require_writable(tmp_path / "nowhere" / "a.prom")
