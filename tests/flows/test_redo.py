from hashlib import sha256

import pytest

from flows.adapters.sources import Source
from flows.lineage import trace, verdict_digest
from flows.model_cache import model_digests
from flows.redo import NEW, damaged, outdated
from schemas.ledger import DatasetRecord, ExposureRecord
from schemas.settings import ExecutionSettings, InjectSettings, Settings
from stages import PIPELINE

SETTINGS = Settings()
MODELS = model_digests(PIPELINE, SETTINGS)
SOURCE = Source("a.fits")
LINEAGE = trace(SOURCE, "bytes", PIPELINE, MODELS, SETTINGS)


def record(status="done", **changed):
    digest = LINEAGE.final if status == "done" else verdict_digest(LINEAGE.final, SETTINGS)
    x = sha256(b"x").hexdigest()
    datasets = {
        name: DatasetRecord(path=f"{name}.parquet", digest=LINEAGE.datasets[name], rows=0, sha256=x)
        for name in ("dia_source", "injection")
    }
    known = ExposureRecord(
        night="20260101", visit=1, detector=0, source_uri="a.fits", source_sha256="bytes", digest=digest,
        datasets=datasets, status=status, software="0", finished_at="now",
    )  # fmt: skip
    return known.model_copy(update=changed)


def why(known, sha="bytes", settings=SETTINGS):
    return outdated(SOURCE, sha, known, PIPELINE, MODELS, settings)


def test_what_is_not_in_the_ledger_is_new():
    assert why(None) is NEW


@pytest.mark.parametrize("status", ["done", "quarantined"])
def test_what_was_made_from_the_same_is_kept(status):
    assert why(record(status)) is None


@pytest.mark.parametrize("sha", ["other", None])
def test_other_or_unknown_bytes_are_changed_input(sha):
    assert why(record(), sha).code == "input"


def test_a_changed_setting_names_what_has_to_be_made_again():
    found = why(record(), settings=Settings(inject=InjectSettings(streaks=3)))
    assert found.code == "outdated"
    assert "injection" in found.text
    assert "dia_source" not in found.text


def test_a_verdict_depends_on_the_flood_guard_too():
    settings = Settings(execution=ExecutionSettings(max_detections=5))
    assert why(record("quarantined"), settings=settings).code == "outdated"
    assert why(record(), settings=settings) is None


def test_a_published_file_that_is_missing_or_changed_is_named(tmp_path):
    for name in ("dia_source", "injection"):
        (tmp_path / f"{name}.parquet").write_bytes(b"x")
    assert damaged(record(), tmp_path) is None
    (tmp_path / "injection.parquet").write_bytes(b"y")
    assert "injection.parquet" in damaged(record(), tmp_path).text
    (tmp_path / "injection.parquet").unlink()
    assert damaged(record(), tmp_path).code == "damaged"
    assert damaged(record("quarantined"), tmp_path) is None
