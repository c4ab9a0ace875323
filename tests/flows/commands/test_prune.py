import json

import pytest
from typer.testing import CliRunner

from flows.adapters.ledger import Ledger
from flows.cli import app
from schemas.ledger import ExposureRecord


@pytest.fixture
def out(tmp_path):
    record = ExposureRecord(
        night="20200101", visit=1, detector=0, source_uri="1.fits", source_sha256="s", digest="d", software="0",
        finished_at="2020-01-02T03:00:00+00:00",
    )  # fmt: skip
    Ledger(tmp_path).put(record)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["prune", *map(str, arguments)])


def test_without_a_choice_of_nights_it_is_bad_usage(out):
    assert run(out).exit_code == 2
    assert run(out / "none", "--keep", "1").exit_code == 2


def test_what_cannot_be_made_again_needs_consent(out):
    listed = run(out, "--keep", "0", "--irreplaceable", "--json")
    assert listed.exit_code == 2
    assert "add --yes-really" in listed.stderr
    size = Ledger(out).files()[0].stat().st_size
    assert f"Nothing was removed of 1 item of 1 night: 1 files, {size / 1e6:.1f} MB" in listed.stderr
    assert json.loads(listed.stdout)["listed"][0]["bytes"] == json.loads(listed.stdout)["bytes"] == size
    assert "exposure" in listed.stderr
    assert json.loads(listed.stdout)["removed"] is False
    assert len(Ledger(out).files()) == 1
    assert run(out, "--keep", "0").exit_code == 0
    dry = run(out, "--keep", "0", "--irreplaceable", "--dry-run")
    assert dry.exit_code == 0
    assert "Dry run: nothing was removed. Without --dry-run it would remove 1 item of 1 night: 1 files" in dry.stderr
    assert len(Ledger(out).files()) == 1
    done = run(out, "--keep", "0", "--irreplaceable", "--yes-really", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["removed"] is True
    assert Ledger(out).files() == []
    assert "Removed 1 item of 1 night: 1 files" in done.stderr
    assert "Removed 0 items of 0 nights: 0 files, 0.0 MB." in run(out, "--keep", "0").stderr
