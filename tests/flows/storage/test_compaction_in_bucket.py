import contextlib
import os
from collections import Counter, OrderedDict
from hashlib import sha256

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.exceptions import GenericError

from flows.nights.joined_catalogues import _in_a_process
from flows.pipeline.lineage import is_whole
from flows.results.catalogue_rows import CatalogueRows
from flows.storage import catalog_parts, compaction
from flows.storage.atomic import permit, release
from flows.storage.catalog_parts import entries, held, parts, withdraw
from flows.storage.catalog_store import CatalogStore, read_metadata
from flows.storage.compaction import compact, extract
from flows.storage.object_store import configure
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.settings import StoreSettings
from tests.flows.storage.test_catalog_store import sources
from tests.flows.storage.test_compaction import NIGHT, content_of, here, key, publish
from tests.support.memory_store import bucket_in_memory, down_from

pytest_plugins = ("tests.support.s3_fixture",)

FOLDER = f"catalogs/dia_source/night={NIGHT}"


def nothing(number):
    """What a store does that works."""


@pytest.fixture
def memory(monkeypatch):
    return bucket_in_memory(monkeypatch)


def require_rows(out, made):
    """Compare what is read by exposure, and by all files, with the tables by number."""
    store = CatalogStore(out)
    for number, table in made.items():
        assert store.read(DIA_SOURCE, key(number)).equals(table), number
    found = CatalogueRows(out, DIA_SOURCE).read(["psfFlux"], None)
    expected = pa.concat_tables(list(made.values()))
    assert Counter(found["psfFlux"].to_pylist()) == Counter(expected["psfFlux"].to_pylist())


def tables(published):
    return {number: table for number, (_, table) in enumerate(published.values())}


def test_parts_have_the_bytes_of_those_on_this_machine_and_give_each_file_back(bucket, tmp_path):
    rows = [3, 0, 40, 2, 1]
    publish(tmp_path, rows)
    made = publish(bucket, rows)
    assert compact(tmp_path, NIGHT, 2, here) == compact(bucket, NIGHT, 2, _in_a_process) == 4
    assert content_of(bucket / FOLDER) == content_of(tmp_path / FOLDER)
    require_rows(bucket, tables(made))
    for number, (path, (content, _)) in enumerate(made.items()):
        assert read_metadata(path) == ("dia_source", f"made from {number}", rows[number])
        assert is_whole(path, sha256(content).hexdigest())
        assert not is_whole(path, sha256(b"").hexdigest())
    extract(bucket / FOLDER, {path.stem for path in made}, bucket / "staging")
    assert content_of(bucket / FOLDER) == {path.name: content for path, (content, _) in made.items()}


def test_few_are_left_alone(memory):
    out, _ = memory
    made = publish(out, [1, 2, 3])
    assert compact(out, NIGHT, 4, here) == compact(out, "20260102", 2, here) == 0
    assert content_of(out / FOLDER) == {path.name: content for path, (content, _) in made.items()}


@settings(max_examples=40)
@given(steps=st.lists(st.integers(1, 12), min_size=1, max_size=3), again=st.sets(st.integers(0, 4), max_size=2))
def test_whenever_it_is_killed_each_row_is_read_once_and_the_next_time_completes_it(steps, again):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_parts, "MOST_EXPOSURES", 3)
        out, store = bucket_in_memory(patch)
        made = tables(publish(out, [1, 2, 3, 4, 5]))
        compact(out, NIGHT, 2, here)
        for number in sorted(again):  # made again, as a run does it
            extract(out / FOLDER, {key(number).name}, out / "staging")
            made[number] = sources(7 + number)
            CatalogStore(out).publish(DIA_SOURCE, key(number), made[number], "made again")
        for number in (5, 6):
            made[number] = sources(number)
            CatalogStore(out).publish(DIA_SOURCE, key(number), made[number], "late")
        for step in steps:
            store.before = down_from(store.requests + step)
            with contextlib.suppress(Retryable, BadInput, GenericError):
                compact(out, NIGHT, 2, here)
            store.before = nothing
            require_rows(out, made)
        compact(out, NIGHT, 2, here)
        require_rows(out, made)
        assert {path.name[:5] for path in (out / FOLDER).iterdir()} == {"part-"}
        assert sorted(name for part in parts(out / FOLDER) for name in entries(part)) == sorted(
            key(number).name for number in made
        )


def test_full_parts_are_not_written_again(memory, monkeypatch):
    monkeypatch.setattr(catalog_parts, "MOST_EXPOSURES", 3)
    out, store = memory
    publish(out, [1, 2, 3])
    compact(out, NIGHT, 2, here)
    (full,) = parts(out / FOLDER)
    for number in (3, 4):
        CatalogStore(out).publish(DIA_SOURCE, key(number), sources(1), "late")
    asked = len(store.names)
    compact(out, NIGHT, 2, here)
    new, kept = sorted(parts(out / FOLDER), key=lambda part: part == full)
    assert kept == full
    assert [*entries(new)] == ["1-0", "1-1"]
    written = [name for operation, name in store.names[asked:] if operation == "put"]
    assert [name.rpartition("/")[2] for name in written] == [new.name]


def test_what_is_withdrawn_is_in_no_object(memory):
    out, _ = memory
    made = publish(out, [2, 3, 4])
    compact(out, NIGHT, 2, here)
    first, second, third = made
    withdraw([first])
    assert held(first) is None
    assert {held(path).name for path in (second, third)} == {"0-1", "0-2"}
    with pytest.raises(BadInput, match="no such object"):
        CatalogStore(out).read(DIA_SOURCE, key(0))
    withdraw((second, third))
    assert list((out / FOLDER).iterdir()) == []


def test_who_has_lost_the_lease_removes_nothing(memory, monkeypatch):
    out, _ = memory
    made = publish(out, [2, 3])

    def lost(path):
        raise Misconfigured("taken_over", str(path), "is another's.", "wait.")

    monkeypatch.setattr(compaction, "require_lease", lost)
    with pytest.raises(Misconfigured, match="is another"):
        compact(out, NIGHT, 2, here)
    require_rows(out, tables(made))
    assert all(path.is_file() for path in made)


def test_a_damaged_part_is_named_and_kept(memory):
    out, _ = memory
    made = publish(out, [2, 3])
    compact(out, NIGHT, 2, here)
    (good,) = parts(out / FOLDER)
    content = bytearray(good.read_bytes())
    content[40] ^= 1
    part = good.with_name(good.name.replace("part-0000-", "part-0001-"))  # no process has a copy of it
    part.write(bytes(content))
    good.unlink()
    with pytest.raises(BadInput, match="not that of its name") as caught:
        held(next(iter(made)))
    assert (caught.value.code, caught.value.where) == ("damaged_part", str(part))
    assert not is_whole(next(iter(made)), sha256(b"").hexdigest())
    CatalogStore(out).publish(DIA_SOURCE, key(0), sources(7), "made again")
    compact(out, NIGHT, 1, here)
    assert part.read_bytes() == bytes(content)
    assert len(CatalogStore(out).read(DIA_SOURCE, key(0))) == 7


def test_an_unreadable_object_stays_beside_parts(memory):
    out, _ = memory
    path, *others = publish(out, [2, 3, 4])
    path.write(b"PAR1 no more")
    (path.parent / "notes.txt").write(b"of the observer")
    compact(out, NIGHT, 2, here)
    assert path.read_bytes() == b"PAR1 no more"
    assert (path.parent / "notes.txt").read_bytes() == b"of the observer"
    assert all(held(one) is not None for one in others)


def test_who_has_seen_a_part_that_was_written_again_looks_again(memory, monkeypatch):
    out, _ = memory
    publish(out, [2, 3, 4])
    compact(out, NIGHT, 2, here)
    (old,) = parts(out / FOLDER)
    extract(out / FOLDER, {"0-0"}, out / "staging")
    listings = iter([[old.with_name(f"part-0000-{'0' * 32}.parquet")]])
    real = catalog_parts.parts
    monkeypatch.setattr(catalog_parts, "parts", lambda folder: next(listings, None) or real(folder))
    assert len(CatalogStore(out).read(DIA_SOURCE, key(1))) == 3


@pytest.mark.parametrize(("holder", "most"), [(True, 1), (False, 2)])
def test_one_exposure_costs_few_requests_however_many_a_part_holds(memory, holder, most):
    out, store = memory
    made = publish(out, [1] * 30)
    compact(out, NIGHT, 2, here)
    if holder:
        permit(out)
    try:
        require_whole(made)
        before = store.requests
        require_whole(made)
        assert store.requests - before <= most * len(made)
    finally:
        release(out)


def require_whole(made):
    assert all(is_whole(path, sha256(content).hexdigest()) for path, (content, _) in made.items())


def test_no_more_parts_than_so_many_are_kept_here_and_the_latest_of_them(monkeypatch):
    out, store = bucket_in_memory(monkeypatch, "copies")
    monkeypatch.setattr(catalog_parts, "_copies", OrderedDict())
    monkeypatch.setattr(catalog_parts, "_COPIES", 2)
    for name in "abc":
        (out / name).write(name.encode())

    def read(name):
        before = store.requests
        with catalog_parts._here(out / name) as file:
            assert file.read_bytes() == name.encode()
        return store.requests > before

    fetched = [read(name) for name in "ababcacbc"]
    assert fetched == [True, True, False, False, True, True, False, True, False]
    with catalog_parts._here(out / "a") as file:
        read("b")
        read("c")  # in another thread, say: that of the first goes
        assert file.read_bytes() == b"a"
    descriptors = list(catalog_parts._copies.values())
    assert len(descriptors) == 2
    for one in descriptors:
        os.close(one)
    configure(StoreSettings())
