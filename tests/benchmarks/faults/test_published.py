import io
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from benchmarks.faults import published as module
from benchmarks.faults.fault import Outcome
from benchmarks.faults.published import Published, associated, differences, left_behind, published
from flows.storage.association_store import opened_association
from flows.storage.association_tables import FILE
from schemas.settings import AssociationSettings
from tests.support.association import detections, key
from tests.support.wait import until

LINKS = Counter({("dia_source", 7, 7): 1, ("dia_source", 8, 7): 1})
WHOLE = Published({"a": b"1", "b": b"2"}, Counter({7: 1, 8: 1}), Counter({(1, 0): 1, (1, 1): 1}), LINKS)
NOTHING = {
    "rows_lost": 0, "rows_duplicated": 0, "exposures_lost": 0, "exposures_duplicated": 0, "files_differing": 0,
    "associated_differing": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "differs"),
    [
        (WHOLE, {}),
        (replace(WHOLE, rows=Counter({7: 1})), {"rows_lost": 1}),
        (replace(WHOLE, rows=Counter({7: 1, 8: 3})), {"rows_duplicated": 2}),
        (replace(WHOLE, exposures=Counter({(1, 0): 1})), {"exposures_lost": 1}),
        (replace(WHOLE, exposures=Counter({(1, 0): 2, (1, 1): 1})), {"exposures_duplicated": 1}),
        (replace(WHOLE, files={"a": b"1", "b": b"3"}), {"files_differing": 1}),
        (replace(WHOLE, files={"a": b"1"}), {"files_differing": 1}),
        (replace(WHOLE, files={"a": b"1", "b": b"2", "c": b""}), {"files_differing": 1}),
        (replace(WHOLE, associated=Counter({("dia_source", 7, 7): 1})), {"associated_differing": 1}),
        (replace(WHOLE, associated=LINKS | Counter({("dia_source", 8, 7): 2})), {"associated_differing": 1}),
        (
            replace(WHOLE, associated=Counter({("dia_source", 7, 7): 1, ("dia_source", 8, 8): 1})),
            {"associated_differing": 2},
        ),
    ],
)
def test_what_is_lost_double_and_different_is_counted(found, differs):
    counts = differences(WHOLE, found)
    assert counts == NOTHING | differs
    outcome = Outcome("fault", "how", **counts, exit_codes=(0,))
    assert outcome.survived is (not differs)


@pytest.mark.parametrize(
    "flaw",
    [
        {"problems": 1},
        {"leftovers": ("x",)},
        {"failure": "it did not happen"},
        {"exit_codes": (0, 1)},
        {"exit_codes": (1, 0)},
        {"exit_codes": ()},
    ],
)
def test_other_flaws_are_no_survival_either(flaw):
    whole = Outcome("fault", "how", exit_codes=(0,))
    assert whole.survived
    assert not replace(whole, **flaw).survived
    assert replace(whole, codes=(1, 0), exit_codes=(1, 0)).survived


def test_a_process_that_has_ended_and_is_not_waited_for_is_not_left(tmp_path, monkeypatch):
    code = "import subprocess, time; p = subprocess.Popen(['true']); print(p.pid, flush=True); time.sleep(600)"
    careless = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        ended = psutil.Process(int(careless.stdout.readline()))
        until(lambda: ended.status() == psutil.STATUS_ZOMBIE)
        monkeypatch.setattr(module, "using", lambda tmp: [ended])
        monkeypatch.setattr(module, "LEAVING_S", 0.1)
        assert left_behind(tmp_path / "out", tmp_path) == ()
    finally:
        careless.kill()
        careless.communicate()


def test_an_exposure_under_two_nights_is_double(tmp_path):
    content = io.BytesIO()
    pq.write_table(pa.table({"diaSourceId": [7, 8]}), content)
    for night in ("20260101", "20260102"):
        path = tmp_path / "catalogs" / "dia_source" / f"night={night}" / "5-3.parquet"
        path.parent.mkdir(parents=True)
        path.write_bytes(content.getvalue())
    found = published(tmp_path)
    assert found.exposures == Counter({(5, 3): 2})
    assert found.rows == Counter({7: 2, 8: 2})
    assert differences(replace(WHOLE, exposures=Counter({(5, 3): 1})), found) == NOTHING | {
        "exposures_duplicated": 1, "rows_duplicated": 2, "files_differing": 4, "associated_differing": 2,
    }  # fmt: skip


def test_the_rows_of_both_stores_are_read_without_times(tmp_path):
    found = []
    for minute, out in enumerate((tmp_path / "a", tmp_path / "b")):
        assert associated(sa.URL.create("sqlite", database=str(out / FILE))) == Counter()
        with opened_association(out, AssociationSettings()) as store:
            store.associate(key(5), "digest", detections(5, [10.0, 20.0], [0.0, 0.0]), AssociationSettings())
            store.settle("20260101", f"stamp {minute}")
        found.append(published(out).associated)
    assert found[0] == found[1]
    assert Counter(table for table, *_ in found[0]) == {
        "association_meta": 1, "association_setting": 4, "visit": 1, "night": 1, "dia_object": 2, "dia_source": 2,
    }  # fmt: skip
    with closing(sqlite3.connect(out / FILE)) as file:
        file.execute("UPDATE dia_object SET ra = ra + 1e-12 WHERE ra < 15")
        file.commit()
    changed = replace(WHOLE, associated=published(out).associated)
    assert differences(replace(WHOLE, associated=found[0]), changed) == NOTHING | {"associated_differing": 2}


def test_files_and_processes_that_are_left_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEAVING_S", 0.1)
    out, tmp = tmp_path / "out", tmp_path / "tmp"
    locks = (tmp / "dask" / "global.lock", tmp / "dask" / "worker-x.dirlock")
    for path in (out / "staging" / "x", out / "lease.json", tmp / "deep" / "file", *locks):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={"TMPDIR": str(tmp)})
    until(lambda: psutil.Process(sleeper.pid).environ().get("TMPDIR") == str(tmp))
    try:
        found = left_behind(out, tmp)
    finally:
        sleeper.kill()
        sleeper.wait()
    names = {str(out / "staging" / "x"), str(out / "lease.json"), str(tmp / "deep" / "file")}
    assert set(found) == names | {f"process {sleeper.pid}: {sys.executable} -c import time; time.sleep(600)"}
