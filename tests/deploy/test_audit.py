import json
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = [line for line in (ROOT / "deploy/constraints.txt").read_text().splitlines() if not line.startswith("#")]


class Advisories(BaseHTTPRequestHandler):
    """Answers like https://google.github.io/osv.dev/post-v1-query/; packages in ``bad`` have a vulnerability."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, version = asked["package"]["name"], asked["version"]
        self.server.asked.append(f"{name}=={version}")
        found = {"vulns": [advisory(name, version)]} if name in self.server.bad else {}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def advisory(name, version):
    span = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": f"{version}.1"}]}
    of = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [span], "versions": [version]}
    return {
        "id": "PYSEC-0-1",
        "summary": "bad",
        "details": "bad",
        "published": "2026-01-01T00:00:00Z",
        "affected": [of],
    }


@pytest.fixture
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    server.asked, server.bad = [], set()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def audit(url):
    command = ["make", "--old-file=setup", "audit", f"BIN={Path(sys.executable).parent}", f"ADVISORIES={url}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_every_pin_is_asked_for_and_a_known_vulnerability_fails(service):
    url = f"http://127.0.0.1:{service.server_port}/v1/query"
    clean = audit(url)
    assert clean.returncode == 0, clean.stderr
    assert set(service.asked) == {f"{canonicalize_name(one.name)}{one.specifier}" for one in map(Requirement, PINS)}
    service.bad = {"astropy"}
    bad = audit(url)
    assert bad.returncode != 0
    assert "PYSEC-0-1" in bad.stdout + bad.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_no_answer_is_no_pass():
    assert audit("http://127.0.0.1:9/v1/query").returncode != 0
