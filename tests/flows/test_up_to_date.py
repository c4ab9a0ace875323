from types import SimpleNamespace

import pytest

from flows.digest import file_digest
from flows.up_to_date import is_whole, remaining, up_to_date
from schemas.ledger import DatasetRecord

PLANES = ("difference", "mask")
LINEAGE = SimpleNamespace(datasets={"dia_source": "d1", "injection": "i1"})


@pytest.fixture
def record(tmp_path):
    """Two published files, as the ledger has them."""
    entries = {}
    for name, digest in LINEAGE.datasets.items():
        (tmp_path / name).write_text(name)
        entries[name] = DatasetRecord(path=name, digest=digest, rows=1, sha256=file_digest(tmp_path / name))
    return SimpleNamespace(datasets=entries)


def names(graph):
    return [stage.name for stage in graph.stages]


def test_whole_is_what_has_the_bytes_that_were_published(tmp_path):
    (tmp_path / "a").write_text("a")
    assert is_whole(tmp_path / "a", file_digest(tmp_path / "a"))
    assert not is_whole(tmp_path / "a", "0" * 64)
    assert not is_whole(tmp_path / "b", file_digest(tmp_path / "a"))


def test_keeps_what_was_made_from_the_same_and_is_whole(record, tmp_path):
    assert up_to_date(record, LINEAGE, tmp_path) == record.datasets
    assert up_to_date(None, LINEAGE, tmp_path) == {}
    changed = SimpleNamespace(datasets={"dia_source": "d1", "injection": "i2"})
    assert up_to_date(record, changed, tmp_path).keys() == {"dia_source"}
    (tmp_path / "dia_source").write_text("spoilt")
    assert up_to_date(record, changed, tmp_path) == {}


def test_runs_what_is_left():
    assert names(remaining(PLANES, ())) == ["detect", "merge", "measure", "inject"]
    assert names(remaining(PLANES, {"dia_source"})) == ["inject"]
    assert names(remaining(PLANES, {"injection"})) == ["detect", "merge", "measure"]
    assert names(remaining(PLANES, {"dia_source", "injection"})) == []
