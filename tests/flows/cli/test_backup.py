import json

from flows.storage.ledger import Ledger
from tests.support.cli import nightstride
from tests.support.exposure import exposure_record


def test_there_and_back(tmp_path):
    record = exposure_record(status="quarantined", reason="flood: x")
    Ledger(tmp_path / "out").put(record)
    done = nightstride("backup", tmp_path / "out", tmp_path / "to", "--json")
    assert (done.code, done.summary["files"], done.summary["kept"]) == (0, 2, 0), done.stderr
    assert "2 files copied" in done.stderr
    assert "0 unchanged" in done.stderr
    assert "0 files copied, 0.0 MB; 2 unchanged." in nightstride("backup", tmp_path / "out", tmp_path / "to").stderr
    back = nightstride("restore", tmp_path / "to", tmp_path / "new", "--json")
    assert (back.code, back.summary["problems"]) == (0, 0), back.stderr
    assert "2 files restored, 1 exposure, 0 problems." in back.stderr
    assert list(Ledger(tmp_path / "new").records()) == [record]
    again = nightstride("restore", tmp_path / "to", tmp_path / "new", "--json")
    assert (again.code, json.loads(again.stdout)["error"]["code"]) == (2, "not_empty")


def test_a_dump_that_is_not_there_is_told(tmp_path):
    (tmp_path / "ledger").mkdir()
    done = nightstride("backup", tmp_path, tmp_path.parent / "to", "--services", tmp_path / "none")
    assert done.code == 2
    assert "To fix" in done.stderr
