import json
import os
from hashlib import sha256

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.pipeline.lineage import is_whole
from flows.storage import catalog_parts
from flows.storage import compaction as module
from flows.storage.atomic import STAGED, leftovers
from flows.storage.catalog_parts import entries, held, parts, read_from_part, withdraw
from flows.storage.catalog_store import CatalogStore, read_described, read_metadata, read_qtable, read_table
from flows.storage.compaction import compact, extract
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from tests.flows.storage.test_catalog_store import sources
from tests.support.memory_store import bucket_in_memory

NIGHT = "20260101"


def here(function, *arguments):
    function(*arguments)


def key(number):
    return ExposureKey(night=NIGHT, visit=number // 3, detector=number % 3)


def publish(out, rows, *, digest="made from {}"):
    """Publish an exposure for each number of rows; return path -> (bytes, table)."""
    store, made = CatalogStore(out), {}
    for number, count in enumerate(rows):
        table = sources(count, blank=number % 2 == 1)
        path = store.publish(DIA_SOURCE, key(number), table, digest.format(number))
        made[path] = path.read_bytes(), table
    return made


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=15)
@given(rows=st.lists(st.integers(0, 5), min_size=2, max_size=12), most=st.integers(1, 13), group=st.integers(1, 8))
def test_each_catalogue_reads_as_before_and_comes_back_with_the_same_bytes(tmp_path_factory, rows, most, group):
    out = tmp_path_factory.mktemp("out")
    made = publish(out, rows)
    folder = next(iter(made)).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_parts, "MOST_EXPOSURES", most)
        patch.setattr(catalog_parts, "GROUP", group)
        assert compact(out, NIGHT, 2, here) == len(rows) - -(-len(rows) // most)
    assert parts(folder) == sorted(folder.iterdir())
    store = CatalogStore(out)
    for number, (path, (content, table)) in enumerate(made.items()):
        assert store.read(DIA_SOURCE, key(number)).equals(table)
        assert read_metadata(path) == ("dia_source", f"made from {number}", rows[number])
        assert is_whole(path, sha256(content).hexdigest())
        assert not is_whole(path, sha256(b"").hexdigest())
    names = {path.stem for path in made}
    extract(folder, names, out / "staging")
    assert content_of(folder) == {path.name: content for path, (content, _) in made.items()}


def test_readers_of_all_files_find_each_row_once_and_in_order(tmp_path):
    made = publish(tmp_path, [3, 0, 40, 2])
    folder = next(iter(made)).parent
    before = duckdb.sql(f"SELECT * FROM '{folder}/*.parquet' ORDER BY ALL").arrow().read_all()
    compact(tmp_path, NIGHT, 2, here)
    (part,) = folder.iterdir()
    assert duckdb.sql(f"SELECT * FROM '{folder}/*.parquet' ORDER BY ALL").arrow().read_all().equals(before)
    whole = read_table(part, DIA_SOURCE)
    assert whole.equals(pa.concat_tables([table for _, table in made.values()]))
    assert whole.schema.equals(DIA_SOURCE.schema, check_metadata=True)
    assert str(read_qtable(part)["psfFlux"].unit) == "nJy"
    assert part.stem.rpartition("-")[2] == sha256(part.read_bytes()).hexdigest()[:32]


def test_the_same_catalogues_make_the_same_bytes_whatever_the_way(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    publish(one, range(6))
    compact(one, NIGHT, 2, here)
    publish(other, range(3))
    compact(other, NIGHT, 2, here)
    store = CatalogStore(other)
    for number in range(3, 6):
        store.publish(DIA_SOURCE, key(number), sources(number, blank=number % 2 == 1), f"made from {number}")
    compact(other, NIGHT, 3, here)
    folder = f"catalogs/dia_source/night={NIGHT}"
    assert content_of(one / folder) == content_of(other / folder)


def test_few_are_left_alone_and_other_nights_too(tmp_path):
    made = publish(tmp_path, [1, 2, 3])
    assert compact(tmp_path, NIGHT, 4, here) == compact(tmp_path, "20260102", 2, here) == 0
    assert all(path.read_bytes() == content for path, (content, _) in made.items())


@pytest.mark.parametrize(("limit", "most"), [("MOST_EXPOSURES", 3), ("MOST_ROWS", 6)])
def test_full_parts_stay_as_they_are(tmp_path, monkeypatch, limit, most):
    monkeypatch.setattr(catalog_parts, limit, most)
    folder = next(iter(publish(tmp_path, [1, 2, 3, 4]))).parent
    compact(tmp_path, NIGHT, 2, here)
    full, rest = parts(folder)
    inode = full.stat().st_ino
    store = CatalogStore(tmp_path)
    for number in (4, 5):
        store.publish(DIA_SOURCE, key(number), sources(1), "late")
    compact(tmp_path, NIGHT, 2, here)
    kept, joined_again = parts(folder)
    assert (kept, kept.stat().st_ino) == (full, inode)
    assert joined_again != rest
    assert [*entries(joined_again)] == ["1-0", "1-1", "1-2"]


def test_an_exposure_that_is_made_again_has_its_own_file_alone(tmp_path):
    made = publish(tmp_path, [2, 3, 4])
    compact(tmp_path, NIGHT, 2, here)
    path, (content, _) = list(made.items())[1]
    extract(path.parent, {"0-1", "9-9"}, tmp_path / "staging")
    assert path.read_bytes() == content
    (part,) = parts(path.parent)
    assert [*entries(part)] == ["0-0", "0-2"]
    assert read_from_part(path) is None
    assert len(read_table(part, DIA_SOURCE)) == 6


def test_what_is_withdrawn_is_in_no_file(tmp_path):
    made = publish(tmp_path, [2, 3, 4])
    compact(tmp_path, NIGHT, 2, here)
    first, second, third = made
    withdraw([first])
    withdraw([first])
    assert held(first) is None
    assert not first.exists()
    assert {held(path).name for path in (second, third)} == {"0-1", "0-2"}
    withdraw((second, third))
    assert list(first.parent.iterdir()) == []


def test_of_a_killed_extract_the_own_file_wins_and_the_next_time_both_are_one(tmp_path):
    made = publish(tmp_path, [2, 3, 4])
    compact(tmp_path, NIGHT, 2, here)
    path = list(made)[1]
    CatalogStore(tmp_path).publish(DIA_SOURCE, key(1), sources(7), "made again")
    assert held(path) is None
    assert len(read_table(path, DIA_SOURCE)) == 7
    assert compact(tmp_path, NIGHT, 1000, here) == 1
    (part,) = path.parent.iterdir()
    assert read_described(path)[0] == ("dia_source", "made again", 7)
    assert len(read_table(part, DIA_SOURCE)) == 2 + 7 + 4


def test_a_kill_before_the_exchange_leaves_all_as_it_was(tmp_path):
    made = publish(tmp_path, [2, 3])
    folder = next(iter(made)).parent
    before = content_of(folder)

    def killed(function, *arguments):
        function(*arguments)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(tmp_path, NIGHT, 2, killed)
    assert content_of(folder) == before
    (folder.parent / f".night={NIGHT}.0{STAGED}").mkdir()  # of one that could clean nothing up
    assert [path.name for path in leftovers(tmp_path)] == [f".night={NIGHT}.0{STAGED}"]


def test_who_has_lost_the_lease_changes_nothing(tmp_path, monkeypatch):
    folder = next(iter(publish(tmp_path, [2, 3]))).parent
    before = content_of(folder)

    def lost(path):
        raise Misconfigured("taken_over", str(path), "is another's.", "wait.")

    monkeypatch.setattr(module, "require_lease", lost)
    with pytest.raises(Misconfigured, match="is another"):
        compact(tmp_path, NIGHT, 2, here)
    assert content_of(folder) == before


@pytest.mark.parametrize("place", [40, -20])
def test_a_damaged_part_is_named_and_kept(tmp_path, place):
    made = publish(tmp_path, [2, 3])
    compact(tmp_path, NIGHT, 2, here)
    path = next(iter(made))
    (part,) = parts(path.parent)
    content = bytearray(part.read_bytes())
    content[place] ^= 1
    part.write_bytes(content)
    with pytest.raises(BadInput, match="not that of its name") as caught:
        held(path)
    assert (caught.value.code, caught.value.where) == ("damaged_part", str(part))
    with pytest.raises(BadInput):
        read_table(path, DIA_SOURCE)
    assert not is_whole(path, sha256(made[path][0]).hexdigest())
    CatalogStore(tmp_path).publish(DIA_SOURCE, key(0), sources(7), "made again")
    compact(tmp_path, NIGHT, 1, here)
    assert part.read_bytes() == bytes(content)
    assert len(read_table(path, DIA_SOURCE)) == 7
    withdraw([path])


def test_unreadable_catalogues_and_other_files_stay_beside_parts(tmp_path):
    made = publish(tmp_path, [2, 3, 4])
    path, *others = made
    path.write_bytes(b"PAR1 no more")
    (path.parent / "notes.txt").write_text("of the observer")
    compact(tmp_path, NIGHT, 2, here)
    assert path.read_bytes() == b"PAR1 no more"
    assert (path.parent / "notes.txt").read_text() == "of the observer"
    assert len(parts(path.parent)) == 1
    assert all(held(one) is not None for one in others)


def test_a_file_system_without_second_names_gets_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    folder = next(iter(publish(tmp_path, [2, 3]))).parent
    (folder / "kept").mkdir()
    (folder / "kept" / "file").write_text("kept")
    monkeypatch.setattr(os, "link", refuse)
    compact(tmp_path, NIGHT, 2, here)
    assert (folder / "kept" / "file").read_text() == "kept"


def test_parts_are_read_a_group_of_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog_parts, "GROUP", 10)
    made = publish(tmp_path, [6] * 12)
    compact(tmp_path, NIGHT, 2, here)
    (part,) = parts(next(iter(made)).parent)
    with pq.ParquetFile(part) as file:
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [12] * 6
    said = json.loads(pq.read_metadata(part).metadata[b"nightstride.exposures"])
    assert np.sum([rows for _, rows, _, _ in said]) == 72


def test_in_a_bucket_parts_take_the_place_of_what_is_in_them(monkeypatch):
    out, _ = bucket_in_memory(monkeypatch)
    made = publish(out, [2, 3, 4])
    tables = [table for _, table in made.values()]
    folder = next(iter(made)).parent
    assert compact(out, NIGHT, 2, here) == 2
    (first,) = folder.iterdir()
    store = CatalogStore(out)
    store.publish(DIA_SOURCE, key(1), tables[2], "made again")
    assert compact(out, NIGHT, 1000, here) == 1  # the new part holds just what the old one did
    (second,) = folder.iterdir()
    assert second != first
    assert [len(store.read(DIA_SOURCE, key(number))) for number in range(3)] == [2, 4, 4]
    monkeypatch.setattr(catalog_parts, "MOST_EXPOSURES", 3)  # it is full, and stays
    store.publish(DIA_SOURCE, key(3), tables[0], "late")
    (folder / "7-0.parquet").write(b"PAR1 no more")  # it stays, too
    assert compact(out, NIGHT, 2, here) == 0
    assert {second.name, "7-0.parquet"} < {path.name for path in folder.iterdir()}
    assert [[*entries(part)] for part in sorted(parts(folder), key=lambda one: one != second)] == [
        ["0-0", "0-1", "0-2"], ["1-0"],
    ]  # fmt: skip
    assert [len(store.read(DIA_SOURCE, key(number))) for number in range(4)] == [2, 4, 4, 2]
