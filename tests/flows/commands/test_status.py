import json

import pytest
from typer.testing import CliRunner

from flows.adapters.ledger import Ledger
from flows.cli import app
from schemas.ledger import ExposureRecord


@pytest.fixture
def out(tmp_path):
    record = ExposureRecord(
        night="20260101", visit=1, detector=0, source_uri="1.fits", source_sha256="s", digest="d", software="0",
        finished_at="2026-01-02T03:00:00+00:00",
    )  # fmt: skip
    Ledger(tmp_path).put(record)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["status", *map(str, arguments)])


def test_all_well_is_0(out):
    ended = run(out, "20260101", "--json")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout.splitlines()[-1])["nights"][0]["exposures"] == {"done": 1}


def test_something_failed_is_1(out):
    record = Ledger(out).records()[0]
    Ledger(out).put(record.model_copy(update={"visit": 2, "status": "failed", "reason": "deadline: late"}))
    ended = run(out)
    assert ended.exit_code == 1
    assert "deadline: late" in ended.stdout


def test_no_such_folder_or_night_is_2(out):
    assert run(out / "none").exit_code == 2
    assert run(out, "20300101").exit_code == 2
