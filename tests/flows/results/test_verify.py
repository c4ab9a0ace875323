import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from flows.results.verify import OURS, FormerObject, verify_output
from flows.storage.catalog_parts import parts
from flows.storage.catalog_store import CatalogStore
from flows.storage.compaction import compact
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from flows.storage.zarr_tiles import write_exposure
from schemas.dataset import TableOf, column
from schemas.dia_source import HIT
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import LEDGER_VERSION, ExposureRecord, NightRecord
from schemas.night_range import NightRange
from schemas.settings import TileSettings
from schemas.summary import Trouble
from tests.support.exposure import exposure_info
from tests.support.ledger import lose_record, overwrite_document, overwrite_record
from tests.support.memory_store import bucket_in_memory

TABLES = {"hit": HIT}
KEYS = [ExposureKey(night="20260101", visit=visit, detector=detector) for visit in (5, 6) for detector in (0, 1)]
TILES = "tiles/20260101/5-0.zarr"
CATALOGUE = "catalogs/hit/night=20260101/5-0.parquet"
RECORD = "ledger/20260101.sqlite 5-0"


def catalogue(n, shift=0):
    numbers = np.arange(n, dtype=np.int32) + shift
    return pa.table({"row": numbers, "column": numbers, "logit": numbers.astype(np.float32)}, schema=HIT.schema)


@pytest.fixture
def out(tmp_path):
    return filled(tmp_path)


def filled(out):
    """Fill an output folder with four exposures, one of them quarantined, one with its tiles."""
    store, ledger = CatalogStore(out), Ledger(out)
    for key in KEYS[:3]:
        path = store.publish(HIT, key, catalogue(20), f"digest {key.name}")
        values = {"source_uri": key.name, "source_sha256": "ab", "digest": "d", "software": "0", "finished_at": "now"}
        ledger.put(ExposureRecord(**key.model_dump(), **values, datasets={"hit": store.record(path)}))
    ledger.put(ExposureRecord(**KEYS[3].model_dump(), **values, status="quarantined", reason="not FITS"))
    info = exposure_info(**KEYS[0].model_dump(), midpoint_mjd_tai=61041.25, source_uri="5-0", source_sha256="ab")
    planes = {"difference": np.ones((60, 60), np.float32), "mask": np.zeros((60, 60), np.uint16)}
    write_exposure(out / TILES, info, planes, TileSettings(tile=112, chunk=28), "d")
    return out


def test_all_is_well(out):
    result = verify_output(out, TABLES)
    assert (result.exposures, result.files, result.tiles, result.running, result.problems) == (4, 3, 1, None, ())
    assert json.loads(json.dumps(result.summary())) == asdict(result) | {"problems": [], "former": [], "notes": []}


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rewrite_record(out, old, new):
    text = Ledger(out).get(KEYS[0]).model_dump_json()
    assert old in text
    overwrite_record(out, KEYS[0], text.replace(old, new).encode())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "file lost": (lambda out: (out / CATALOGUE).unlink(), "unreadable_catalogue", CATALOGUE),
    "file cut": (lambda out: (out / CATALOGUE).write_bytes(b"PAR1"), "unreadable_catalogue", CATALOGUE),
    "bit flipped": (lambda out: flip(out / CATALOGUE), "not_as_recorded", CATALOGUE),
    "other content, same digest": (
        lambda out: CatalogStore(out).publish(HIT, KEYS[0], catalogue(20, 1), "digest 5-0"),
        "not_as_recorded",
        CATALOGUE,
    ),
    "record lost": (lambda out: lose_record(out, KEYS[0]), "unknown_file", CATALOGUE),
    "record damaged": (lambda out: overwrite_record(out, KEYS[0], b"{"), "damaged_record", RECORD),
    "record of the future": (
        lambda out: rewrite_record(out, f'"schema_version":{LEDGER_VERSION}', '"schema_version":99'),
        "other_version",
        RECORD,
    ),
    "record misfiled": (
        lambda out: rewrite_record(out, '"detector":0', '"detector":9'),
        "misfiled_record",
        RECORD,
    ),
    "stranger": (lambda out: (out / "catalogs/notes.txt").touch(), "unknown_file", "catalogs/notes.txt"),
    "unpublished file": (lambda out: (out / "staging/x.staging").touch(), "leftover", "staging/x.staging"),
    "unpublished tiles": (
        lambda out: (out / "tiles/20260101/.x.staging").mkdir(),
        "leftover",
        "tiles/20260101/.x.staging",
    ),
    "shard lost": (lambda out: (out / TILES / "mask/c/0/0").unlink(), "damaged_tiles", TILES),
    "shard flipped": (lambda out: flip(out / TILES / "difference/c/0/0"), "damaged_tiles", TILES),
    "tiles misfiled": (
        lambda out: (out / TILES).rename(out / "tiles/20260101/6-0.zarr"),
        "misfiled_tiles",
        "tiles/20260101/6-0.zarr",
    ),
    "tiles of another source": (
        lambda out: rewrite(out / TILES / "zarr.json", '"source_sha256": "ab"', '"source_sha256": "cd"'),
        "stale_tiles",
        TILES,
    ),
    "tiles of the future": (
        lambda out: rewrite(out / TILES / "zarr.json", '"schema_version": 1', '"schema_version": 9'),
        "other_version",
        TILES,
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_each_damage_is_found_where_it_is(out, case):
    damage, code, where = DAMAGE[case]
    damage(out)
    problems = verify_output(out, TABLES).problems
    assert (code, str(out / where)) in {(problem.code, problem.where) for problem in problems}
    assert {problem.where for problem in problems} <= {str(out / name) for name in (where, CATALOGUE)}
    assert all(problem.remedy.endswith(".") for problem in problems)


@pytest.mark.parametrize("damaged", range(3))
def test_each_whole_night_is_checked(out, damaged):
    store, ledger, paths = CatalogStore(out), Ledger(out), []
    for night in ("20260101", "20260102", "20260103"):
        paths.append(store.publish(HIT, night, catalogue(3), f"digest {night}"))
        entry = store.record(paths[-1])
        ledger.put_night(
            NightRecord(night=night, exposures=1, datasets={"hit": entry}, software="0", finished_at="now")
        )
    clean = verify_output(out, TABLES)
    assert (clean.exposures, clean.nights, clean.files, clean.problems) == (4, 3, 6, ())
    store.publish(HIT, f"2026010{damaged + 1}", catalogue(3, 1), f"digest 2026010{damaged + 1}")
    (problem,) = verify_output(out, TABLES).problems
    assert (problem.code, problem.where) == ("not_as_recorded", str(paths[damaged]))
    overwrite_document(out, "night", f"2026010{damaged + 1}", b"{")
    found = verify_output(out, TABLES)
    assert (found.nights, found.files) == (2, 5)
    assert [one.code for one in found.problems] == ["damaged_record", "unknown_file"]


def test_what_failed_of_a_night_and_was_put_away_is_told_of_that_night(out):
    failed = (
        Trouble(uri="night 20260102", code="late", message="night 20260102, is late. To fix, wait."),
        Trouble(uri="patch 5/7", code="crash", message="it crashed."),
    )
    whole = NightRecord(night="20260102", exposures=1, failed=failed, software="0", finished_at="now")
    Ledger(out).put_night(whole)
    for name, key in (("a.fits", KEYS[0]), ("b.fits", None)):
        Quarantine(out).put(BadInput("flood", name, "too many.", "look."), name, key)
    found = {name: verify_output(out, TABLES, NightRange.of(name)) for name in ("20260101", "20260102")}
    assert [found[name].quarantined for name in found] == [1, 0]
    assert found["20260101"].problems == ()
    assert [(one.code, one.where, one.problem, one.remedy) for one in found["20260102"].problems] == [
        ("late", "night 20260102", "is late.", "wait."),
        ("crash", "patch 5/7", "it crashed.", "run the night again; if it fails again, report this."),
    ]
    whole = verify_output(out, TABLES)
    assert (whole.quarantined, [one.code for one in whole.problems]) == (2, ["late", "crash"])


def test_says_what_differs(out):
    CatalogStore(out).publish(HIT, KEYS[0], catalogue(21), "newer")
    (problem,) = verify_output(out, TABLES).problems
    assert problem.problem.startswith(
        "differs from its ledger record: digest newer, recorded digest 5-0; rows 21, recorded 20; sha256 "
    )


def test_form_of_a_known_dataset_is_checked(out):
    grown = TableOf("hit", HIT.schema.append(column("score", pa.float32(), "", "New.")))
    assert {problem.code for problem in verify_output(out, {"hit": grown}).problems} == {"catalogue_form"}
    assert verify_output(out, {}).problems == ()


def test_what_this_version_published_is_known_by_its_bytes(out):
    """It had the form that is declared now, and is read only if its bytes have changed."""
    grown = {"hit": TableOf("hit", HIT.schema.append(column("score", pa.float32(), "", "New.")))}
    rewrite_record(out, '"software":"0"', f'"software":"{OURS}"')
    assert {problem.where for problem in verify_output(out, grown).problems} == {
        str((out / CATALOGUE).with_name(f"{key.name}.parquet")) for key in KEYS[1:3]
    }
    flip(out / CATALOGUE)
    assert [problem.code for problem in verify_output(out, TABLES).problems] == ["not_as_recorded"]


@pytest.mark.parametrize(
    ("nights", "named"), [(["20260101"], "20260101"), (["20260101", "20260102", "20260104"], "20260101 to 20260104")]
)
def test_rows_of_former_objects_are_told_with_their_nights(nights, named):
    told = str(FormerObject(7, 3, tuple(nights), "ended"))
    assert told == f"3 rows of forced photometry, {named}, of 7, which ended"


def test_what_a_run_is_writing_is_left_out(out):
    (out / "catalogs/hit/night=20260101/9-9.parquet").touch()
    with lease(out) as holder:
        (out / "staging/half.staging").touch()
        result = verify_output(out, TABLES)
    assert result.problems == ()
    assert result.running.startswith(f"process {holder.pid} on ")
    # What was staged goes with the lease.
    assert [problem.code for problem in verify_output(out, TABLES).problems] == ["unknown_file"]


def test_changes_nothing(out):
    def content():
        return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    before = content()
    verify_output(out, TABLES)
    assert content() == before


@pytest.mark.parametrize("name", [".", "absent"])
def test_no_output_folder(tmp_path, name):
    with pytest.raises(Misconfigured, match="is not an output folder"):
        verify_output(tmp_path / name, TABLES)


def test_a_folder_with_nothing_but_a_quarantine(tmp_path):
    Quarantine(tmp_path).put(BadInput("not_fits", "a.fits", "is not an image.", "name one."), "a.fits")
    result = verify_output(tmp_path, TABLES)
    assert (result.exposures, result.quarantined, result.problems) == (0, 1, ())


def join(out):
    compact(out, "20260101", 2, lambda function, *arguments: function(*arguments))
    (part,) = parts(out / "catalogs/hit/night=20260101")
    return part


def test_what_lies_in_a_part_is_compared_with_the_ledger(out):
    join(out)
    result = verify_output(out, TABLES)
    assert (result.exposures, result.files, result.problems) == (4, 3, ())
    rewrite_record(out, '"rows":20', '"rows":21')
    (problem,) = verify_output(out, TABLES).problems
    assert (problem.code, "rows 20, recorded 21" in problem.problem) == ("not_as_recorded", True)


def test_in_a_bucket_parts_are_listed_once_and_own_objects_looked_at(monkeypatch):
    out, store = bucket_in_memory(monkeypatch)
    filled(out)
    join(out)
    verify_output(out, TABLES)
    before = len(store.names)
    assert verify_output(out, TABLES).problems == ()
    looked_for = [name for operation, name in store.names[before:] if operation in ("get", "head")]
    assert not [name for name in looked_for if "catalogs" in name], "asked for each exposure"
    CatalogStore(out).publish(HIT, KEYS[0], catalogue(7), "another")
    problems = verify_output(out, TABLES).problems
    assert {problem.code for problem in problems} == {"not_as_recorded", "unknown_rows"}
    assert any("rows 7, recorded 20" in problem.problem for problem in problems)


def test_a_damaged_part_is_one_problem_and_what_only_the_part_knows_is_another(out):
    part = join(out)
    lose_record(out, KEYS[2])
    (problem,) = verify_output(out, TABLES).problems
    assert (problem.code, problem.where) == ("unknown_rows", str(part))
    assert "holds 1 exposures" in problem.problem
    flip(part)
    (problem,) = verify_output(out, TABLES).problems
    assert (problem.code, problem.where) == ("damaged_part", str(part))
