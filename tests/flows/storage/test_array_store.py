import errno
import json
import os
from mmap import mmap
from pathlib import Path

import numpy as np
import pytest
import zarr

from flows.storage.array_store import CHUNK, SHARD, ArrayStore, Scratch, read_attributes, room_for, scratch_folder
from flows.storage.atomic import leftovers
from schemas.dataset import ArrayOf, DatasetError
from schemas.errors import BadInput, Misconfigured, Retryable
from tests.support.process_memory import mapped_mib
from tests.support.wait import until

FORM = ArrayOf("stamps", "float32", ("thing", "y", "x"), "nJy")
NIGHT = "20260101"


def is_mapped(array):
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap)


def stamps(rows):
    return np.random.default_rng(rows).normal(0, 1, (rows, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("rows", [0, 1, CHUNK, CHUNK + 1, SHARD, SHARD + CHUNK + 3])
def test_gives_back_what_was_published_and_any_zarr_library_reads_it(tmp_path, rows):
    store, values, ids = ArrayStore(tmp_path), stamps(rows), {"thingId": np.arange(rows)}
    record = store.publish(FORM, NIGHT, values, "abc", ids, {"bands": ["g"]})
    path = tmp_path / record.path
    np.testing.assert_array_equal(store.read_path(path, FORM), values)
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["thingId"][:], ids["thingId"])
    assert group["stamps"].attrs["unit"] == "nJy"
    assert group["stamps"].metadata.dimension_names == FORM.dims
    assert group["stamps"].shards == (SHARD, 3, 4)
    assert (record.digest, record.rows) == ("abc", rows)
    assert read_attributes(path).settings == {"bands": ["g"]}


def test_the_same_array_gives_the_same_bytes(tmp_path):
    first = ArrayStore(tmp_path / "a").publish(FORM, NIGHT, stamps(SHARD + 7), "abc")
    assert ArrayStore(tmp_path / "b").publish(FORM, NIGHT, stamps(SHARD + 7), "abc").sha256 == first.sha256
    assert ArrayStore(tmp_path / "b").publish(FORM, NIGHT, stamps(SHARD + 6), "abc").sha256 != first.sha256


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    store = ArrayStore(tmp_path)
    record = store.publish(FORM, NIGHT, stamps(5), "abc")
    monkeypatch.setattr("flows.storage.array_store._write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.publish(FORM, NIGHT, stamps(6), "def")
    assert store.record(tmp_path / record.path) == record
    assert leftovers(tmp_path) == []


def test_refuses_another_form(tmp_path):
    with pytest.raises(DatasetError, match="stamps"):
        ArrayStore(tmp_path).publish(FORM, NIGHT, np.zeros((2, 3, 4)), "abc")


def test_a_flipped_byte_is_an_error(tmp_path):
    store = ArrayStore(tmp_path)
    path = tmp_path / store.publish(FORM, NIGHT, stamps(300), "abc").path
    shard = next(one for one in (path / "stamps").rglob("*") if one.is_file() and one.name != "zarr.json")
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BadInput, match="run the night again"):
        store.read_path(path, FORM)


def test_a_missing_and_a_later_one_are_told(tmp_path):
    store = ArrayStore(tmp_path)
    with pytest.raises(BadInput, match="metadata cannot be read"):
        store.read_path(tmp_path / "nowhere.zarr", FORM)
    path = tmp_path / store.publish(FORM, NIGHT, stamps(3), "abc").path
    file = path / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"]["schema_version"] = 9
    file.write_text(json.dumps(content))
    with pytest.raises(Misconfigured, match="schema version 9"):
        read_attributes(path)
    file.write_text(5000 * "[")
    with pytest.raises(BadInput, match="metadata cannot be read: RecursionError"):
        read_attributes(path)


def test_a_large_array_is_mapped_from_a_file_that_vanishes(tmp_path, monkeypatch):
    store = ArrayStore(tmp_path)
    assert type(store.allocate((2, 3), "float32")) is np.ndarray
    monkeypatch.setattr("flows.storage.array_store._IN_MEMORY", 100)
    large = store.allocate((50, 3, 4), "float32")
    assert is_mapped(large)
    assert not large.any()
    large[:] = stamps(50)
    FORM.check(large)
    path = tmp_path / store.publish(FORM, NIGHT, large, "abc").path
    assert is_mapped(store.read_path(path, FORM))
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured through Linux's /proc")
def test_little_of_what_is_mapped_stays_in_memory_and_nothing_is_lost(tmp_path):
    with Scratch(tmp_path / "compiled") as scratch:
        scratch.allocate((1,), "float32")  # which compiles, and maps the compiler
    before = mapped_mib()
    with Scratch(tmp_path / "scratch") as scratch:
        array = scratch.allocate((64, 2**18), "float32")
        assert is_mapped(array)
        assert not array.any()
        for number, row in enumerate(array):
            row[:] = number
        until(lambda: mapped_mib() < before + 32)
        array[:, 5] += 0.5
        until(lambda: mapped_mib() < before + 32)
        np.testing.assert_array_equal(array[:, 5], np.arange(64) + 0.5)
        np.testing.assert_array_equal(array[:, -1], np.arange(64))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_full_disk_is_found_out_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with Scratch(tmp_path) as scratch, pytest.raises(Retryable, match="full"):
        scratch.allocate((10, 10), "uint16")


def test_only_a_large_image_gets_room_on_the_disk(tmp_path):
    with room_for((6144, 6144), tmp_path) as allocate:
        assert allocate is None
    with room_for((6144, 6145), tmp_path) as allocate:
        assert is_mapped(allocate((7, 9), "bool"))
    assert scratch_folder(tmp_path) == tmp_path / "staging"


def test_what_is_small_is_in_memory_and_what_is_large_in_a_file(tmp_path):
    store = ArrayStore(tmp_path)
    small, large = store.allocate((64, 1 << 20), "uint8"), store.allocate(((64 << 20) + 1,), "uint8")
    assert (is_mapped(small), is_mapped(large)) == (False, True)
