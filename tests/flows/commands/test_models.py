import json

from typer.testing import CliRunner

from flows.adapters.ledger import Ledger
from flows.cli import app
from flows.provenance import provenance_of
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from stages import PIPELINE


def run(*arguments):
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def test_models_are_listed(tmp_path):
    ledger = Ledger(tmp_path)
    made = ledger.put_provenance(provenance_of(PIPELINE, Settings()))
    ledger.put(
        ExposureRecord(
            night="20260101",
            visit=1,
            detector=0,
            source_uri="1.fits",
            source_sha256="s",
            digest="d",
            detections=7,
            provenance=made,
            software="0",
            finished_at="now",
        )
    )
    ended = run(tmp_path, "--json")
    assert ended.exit_code == 0
    found = json.loads(ended.stdout.splitlines()[-1])["models"]
    detect = next(one for one in found if one["model"] == "detect")
    assert (detect["name"], detect["nights"], detect["exposures"], detect["detections"]) == (
        "streak_net", ["20260101"], 1, 7,
    )  # fmt: skip
    assert "streak_net" in run(tmp_path).stdout


def test_no_such_folder_is_2(tmp_path):
    assert run(tmp_path / "none").exit_code == 2
