import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from flows import explain as module
from flows.cli import app
from flows.explain import Explanation, cutout_of
from flows.provenance import provenance_of
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from stages import PIPELINE


def run(*arguments):
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


@pytest.fixture
def explained(monkeypatch):
    known = SimpleNamespace(state="unchanged")
    record = ExposureRecord(
        night="20260101", visit=1, detector=2, source_uri="1.fits", source_sha256="s", digest="d", software="0",
        finished_at="now",
    )  # fmt: skip
    row = {"diaSourceId": 7, "x": 10.0, "y": 20.0, "snr": 9.0, "reliability": 0.5}

    def explain(out, source_id):
        made = provenance_of(PIPELINE, Settings(detect={"stride": 5}))
        catalogues = {"dia_source": ("a.parquet", "d")}
        return Explanation(row, "1.fits", "s", known.state, cutout_of(10, 20, 5), "t", None, catalogues, record, made)

    monkeypatch.setattr(module, "explain", explain)
    return known


def test_everything_is_told(explained):
    ended = run("out", 7)
    assert ended.exit_code == 0
    for text in ("FITS section [9:13,19:23]", "1.fits (unchanged)", "streak_net 1", "none: not there", "detect 3"):
        assert text in ended.stdout
    assert "setting detect.stride 5\n" in ended.stdout
    assert "settings              all others are the defaults of this version; --json has them\n" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) < 200
    assert json.loads(run("out", 7, "--json").stdout.splitlines()[-1])["detection"]["diaSourceId"] == 7


def test_a_changed_file_is_1(explained):
    explained.state = "changed"
    assert run("out", 7).exit_code == 1


def test_no_such_detection_is_2(tmp_path):
    ended = run(tmp_path, 12345)
    assert ended.exit_code == 2
    assert "holds no detection 12345" in ended.stderr
