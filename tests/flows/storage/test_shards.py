import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec

from flows.storage import shards
from flows.storage.shards import ShardedArray

EMPTY = 60_000

CHECKED = [BloscCodec(cname="lz4", shuffle="shuffle", typesize=4), Crc32cCodec()]


def write(folder, pixels, shard=32, chunk=16, codecs=CHECKED):
    """Write as zarr itself does; no chunk is full of the fill value."""
    array = zarr.create_array(
        folder,
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=(chunk, chunk),
        shards=(shard, shard),
        compressors=codecs,
        fill_value=EMPTY,
    )
    array[:] = pixels
    return folder


def noise(shape, dtype=np.float32):
    return np.random.default_rng(1).normal(100, 7, shape).astype(dtype)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_reads_what_zarr_reads(data):
    shape = data.draw(st.tuples(st.integers(1, 80), st.integers(1, 80)))
    chunk, chunks = data.draw(st.integers(3, 20)), data.draw(st.integers(1, 3))
    codecs = data.draw(st.sampled_from([CHECKED, CHECKED[1:]]))
    pixels = noise(shape, data.draw(st.sampled_from([np.float32, np.uint16])))
    y0, x0 = (data.draw(st.integers(0, side)) for side in shape)
    y1, x1 = data.draw(st.integers(y0, shape[0])), data.draw(st.integers(x0, shape[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a", pixels, chunk * chunks, chunk, codecs)
        found = ShardedArray.open(path).read(y0, x0, y1, x1)
        theirs = zarr.open_array(path, mode="r")[y0:y1, x0:x1]
    assert found.dtype == theirs.dtype
    assert found.flags.c_contiguous
    assert found.flags.writeable
    np.testing.assert_array_equal(found, theirs)


@settings(deadline=None, max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), codecs=st.sampled_from([CHECKED, CHECKED[1:]]))
def test_no_flipped_bit_is_read_as_a_pixel(place, bit, codecs):
    pixels = noise((40, 40))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a", pixels, codecs=codecs)
        shard = path / "c/1/1"  # reaches beyond the image: zarrs would read it without checking
        np.testing.assert_array_equal(ShardedArray.open(path).read(0, 0, 40, 40), pixels)
        content = bytearray(shard.read_bytes())
        content[int(place * len(content))] ^= 1 << bit
        shard.write_bytes(content)
        # A damaged chunk that lies wholly beyond the image is not read, and does not matter.
        with suppress(ValueError):
            np.testing.assert_array_equal(ShardedArray.open(path).read(0, 0, 40, 40), pixels)


@pytest.mark.parametrize("length", [0, 10, 67, 68, 500])
def test_a_shard_that_is_too_short(tmp_path, length):
    path = write(tmp_path / "a", noise((32, 32)))
    shard = path / "c/0/0"
    shard.write_bytes(shard.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"shorter than its index|do not match their checksum"):
        ShardedArray.open(path).read(0, 0, 32, 32)


def test_a_missing_shard(tmp_path):
    path = write(tmp_path / "a", noise((32, 64)))
    (path / "c/0/1").unlink()
    array = ShardedArray.open(path)
    np.testing.assert_array_equal(array.read(0, 0, 32, 32), noise((32, 64))[:, :32])
    with pytest.raises(FileNotFoundError):
        array.read(0, 31, 32, 33)


def test_a_chunk_that_was_never_written(tmp_path):
    pixels = noise((32, 32))
    pixels[:16, 16:] = EMPTY  # zarr stores no chunk that is full of the fill value
    path = write(tmp_path / "a", pixels)
    with pytest.raises(ValueError, match="chunk 0, 1 of a shard is not in its file"):
        ShardedArray.open(path).read(0, 0, 32, 32)


@pytest.mark.parametrize("codecs", [GzipCodec(), [GzipCodec(), Crc32cCodec()], [CHECKED[0]], [*CHECKED, Crc32cCodec()]])
def test_arrays_of_another_form_are_refused(tmp_path, codecs):
    with pytest.raises(ValueError, match="its codecs are"):
        ShardedArray.open(write(tmp_path / "a", noise((32, 32)), codecs=codecs))


@pytest.mark.parametrize(
    "change",
    [
        lambda form, sharding: sharding.update(name="other"),
        lambda form, sharding: form.update(index_location="start"),
        lambda form, sharding: form["index_codecs"].pop(),
        lambda form, sharding: form["codecs"][0].update(configuration={"endian": "big"}),
        lambda form, sharding: form["codecs"][1].update(name="zstd"),
        lambda form, sharding: form["codecs"][2].update(name="crc32"),
        lambda form, sharding: form["codecs"].insert(1, form["codecs"][1]),
        lambda form, sharding: form.update(chunk_shape=[12, 16]),
        lambda form, sharding: form.update(chunk_shape=[16, 12]),
    ],
)
def test_each_part_of_the_form_counts(tmp_path, change):
    path = write(tmp_path / "a", noise((32, 32)))
    metadata = json.loads((path / "zarr.json").read_text())
    (sharding,) = metadata["codecs"]
    change(sharding["configuration"], sharding)
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="its codecs are"):
        ShardedArray.open(path)


def test_the_index_is_at_the_end_unless_told_otherwise(tmp_path):
    """Zarr's sharding_indexed, version 1.0: ``index_location`` is "end" by default."""
    path = write(tmp_path / "a", noise((32, 32)))
    metadata = json.loads((path / "zarr.json").read_text())
    del metadata["codecs"][0]["configuration"]["index_location"]
    (path / "zarr.json").write_text(json.dumps(metadata))
    np.testing.assert_array_equal(ShardedArray.open(path).read(0, 0, 32, 32), noise((32, 32)))


@pytest.mark.parametrize(
    "box", [(0, 0, 70, 100), (5, 49, 33, 97), (33, 13, 34, 14), (31, 0, 65, 100), (16, 24, 32, 48)]
)
def test_cells_may_be_longer_than_wide(tmp_path, box):
    pixels = noise((70, 100))
    array = zarr.create_array(
        tmp_path / "a", shape=pixels.shape, dtype=pixels.dtype, chunks=(16, 12), shards=(32, 48), compressors=CHECKED,
        fill_value=EMPTY,
    )  # fmt: skip
    array[:] = pixels
    y0, x0, y1, x1 = box
    np.testing.assert_array_equal(ShardedArray.open(tmp_path / "a").read(*box), pixels[y0:y1, x0:x1])


def test_only_the_shards_and_chunks_that_a_range_touches_are_read(tmp_path):
    pixels = noise((64, 96))
    path = write(tmp_path / "a", pixels)
    for place in ("0/0", "0/2", "1/0", "1/1", "1/2"):
        (path / "c" / place).unlink()
    opened = ShardedArray.open(path)
    np.testing.assert_array_equal(opened.read(0, 32, 32, 64), pixels[:32, 32:64])
    for box in ((0, 31, 32, 64), (0, 32, 33, 64), (0, 32, 32, 65)):
        with pytest.raises(FileNotFoundError):
            opened.read(*box)
    for box in ((3, 3, 3, 9), (3, 3, 9, 3)):
        assert opened.read(*box).size == 0


class Stored(type(Path())):
    """Path of a store, as far as shards are read from it; counts what is asked for."""

    asked: ClassVar[list] = []

    def read_end(self, length):
        self.asked.append("end")
        content = self.read_bytes()
        return len(content), content[-length:]

    def read_ranges(self, ranges):
        self.asked.append(len(ranges))
        content = self.read_bytes()
        return [content[start:end] for start, end in ranges]


def test_the_index_of_a_shard_in_a_bucket_is_asked_for_once(tmp_path, monkeypatch):
    pixels = noise((64, 32))
    write(tmp_path / "a", pixels)
    monkeypatch.setattr(shards, "BucketPath", Stored)
    Stored.asked.clear()
    array, other = (ShardedArray.open(Stored(tmp_path / "a")) for _ in range(2))
    np.testing.assert_array_equal(array.read(0, 0, 20, 32), pixels[:20])
    np.testing.assert_array_equal(array.read(16, 0, 64, 16), pixels[16:, :16])
    assert Stored.asked == ["end", 4, 1, "end", 2]
    assert array == other  # whatever was read from either


def test_a_shard_of_an_index_alone_has_no_chunks(tmp_path):
    path = write(tmp_path / "a", noise((32, 32)))
    shard = path / "c" / "0" / "0"
    index = b"\xff" * 64
    shard.write_bytes(index + google_crc32c.value(index).to_bytes(4, "little"))
    with pytest.raises(ValueError, match="chunk 0, 0 of a shard is not in its file"):
        ShardedArray.open(path).read(0, 0, 1, 1)
    shard.write_bytes(shard.read_bytes()[1:])
    with pytest.raises(ValueError, match="shorter than its index"):
        ShardedArray.open(path).read(0, 0, 1, 1)
