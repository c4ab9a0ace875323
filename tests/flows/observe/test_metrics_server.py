import shutil
import socket
import ssl
import subprocess
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from flows.observe.metrics_server import metrics_server
from schemas.errors import Misconfigured
from schemas.observe_settings import ObserveSettings


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
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for command in (
        ["req", "-x509", *curve, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"],
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


def test_a_certificate_that_is_none_is_told(registry, tmp_path):
    (tmp_path / "no.pem").write_text("nothing")
    bad = ObserveSettings(metrics="0", metrics_cert=tmp_path / "no.pem", metrics_key=tmp_path / "no.pem")
    with pytest.raises(Misconfigured, match="cannot be served"), metrics_server(bad, registry):
        pass
