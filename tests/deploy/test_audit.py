import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.http import Handler, serving

ROOT = Path(__file__).parents[2]
PINS = [line for line in (ROOT / "deploy/constraints.txt").read_text().splitlines() if not line.startswith("#")]


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
    """Answers like https://google.github.io/osv.dev/post-v1-query/; packages in ``bad`` have a vulnerability."""
    made = SimpleNamespace(asked=[], bad=set())

    class Advisories(Handler):
        def post(self):
            asked = json.loads(self.body())
            name, version = asked["package"]["name"], asked["version"]
            made.asked.append(f"{name}=={version}")
            self.answer(200, json.dumps({"vulns": [advisory(name, version)]} if name in made.bad else {}).encode())

    with serving(Advisories) as made.url:
        yield made


def audit(url):
    command = ["make", "--old-file=setup", "audit", f"BIN={Path(sys.executable).parent}", f"ADVISORIES={url}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_every_pin_is_asked_for_and_a_known_vulnerability_fails(service):
    url = f"{service.url}/v1/query"
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
