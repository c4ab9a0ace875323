import json

from typer.testing import CliRunner

from flows.adapters.ledger import Ledger
from flows.adapters.quarantine import Quarantine
from flows.cli import app
from flows.provenance import provenance_of
from schemas.errors import BadInput
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
    first, second, *_ = run(tmp_path).stdout.splitlines()
    assert first == f"detect: streak_net 1, SHA-256 {detect['sha256'][:12]}"
    assert second == "  night 20260101: 1 exposures, 7 detections, 0 quarantined, 0 failed, 0 replaced"


def test_a_folder_with_nothing_but_a_quarantine(tmp_path):
    Quarantine(tmp_path).put(BadInput("not_fits", "a.fits", "is no image.", "name one."), "a.fits")
    ended = run(tmp_path)
    assert (ended.exit_code, ended.stdout) == (0, "No exposure was searched.\n")


def test_models_that_were_not_recorded(tmp_path):
    for night in ("20260101", "20260103"):
        Ledger(tmp_path).put(
            ExposureRecord(
                night=night, visit=1, detector=0, source_uri="1.fits", source_sha256="s", digest="d", software="0",
                finished_at="now",
            )
        )  # fmt: skip
    assert run(tmp_path).stdout.splitlines() == [
        "model not recorded",
        "  2 nights, 20260101 to 20260103: 2 exposures, 0 detections, 0 quarantined, 0 failed, 0 replaced",
    ]


def test_no_such_folder_is_2(tmp_path):
    assert run(tmp_path / "none").exit_code == 2
