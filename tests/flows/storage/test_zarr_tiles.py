import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.storage import zarr_tiles
from flows.storage.zarr_tiles import TileStore, shard_shape, write_block, write_exposure
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import PsfModel
from schemas.pixels import Tiling
from schemas.settings import TileSettings
from tests.support.exposure import exposure_info

SMALL = TileSettings(tile=112, chunk=28)


@pytest.fixture(autouse=True, scope="module")
def _several_files():
    """Images that are larger than a tile are several files, as large ones are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(zarr_tiles, "WHOLE", 112)
        yield


def info(shape, **other):
    values = {
        "night": "20260101",
        "visit": 5,
        "detector": 3,
        "midpoint_mjd_tai": 61041.25,
        "shape": shape,
        "psf": PsfModel(fwhm_px=2.2, beta=3.5, source="stamp"),
        "background": -0.25,
        "noise": 7.5,
        "noise_correlation": ((0.0, 0.2, 0.0), (0.2, 1.0, 0.2), (0.0, 0.2, 0.0)),
        "source_uri": "file:///é.fits",
        "source_sha256": "ab" * 32,
        "zero_point": 26.3,
        "wcs_header": "CTYPE1  = 'RA---TPV'\nCTYPE2  = 'DEC--TPV'",
        "flags": ("assumed_psf",),
    }
    return exposure_info(**(values | other))


def pixels(shape, seed=1):
    rng = np.random.default_rng(seed)
    difference = rng.normal(0, 7.5, shape).astype(np.float32)
    difference[rng.random(shape) < 0.01] = np.nan
    return {"difference": difference, "mask": (rng.random(shape) < 0.1).astype(np.uint16) * np.uint16(32)}


@cache
def stored():
    """Give a store that outlives one example of hypothesis, and what went into it."""
    folder = tempfile.TemporaryDirectory()
    path, planes = Path(folder.name) / "a.zarr", pixels((301, 250))
    write_exposure(path, info((301, 250)), planes, SMALL, "digest")
    return folder, TileStore.open(path), planes


def test_gives_back_everything(tmp_path):
    shape = (130, 90)
    planes = pixels(shape) | {"variance": np.ones(shape, np.float32), "template": np.zeros(shape, np.float32)}
    known = info(shape, planes=("variance", "template"))
    write_exposure(tmp_path / "x.zarr", known, planes, SMALL, "the digest")
    store = TileStore.open(tmp_path / "x.zarr")
    assert (store.info, store.digest) == (known, "the digest")
    assert store.planes == ("difference", "mask", "variance", "template")
    for name, plane in planes.items():
        read = store.read_all(name)
        assert read.dtype == plane.dtype
        np.testing.assert_array_equal(read, plane)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_region_equals_the_array(data):
    _, store, planes = stored()
    ny, nx = store.info.shape
    y0, x0 = data.draw(st.integers(0, ny)), data.draw(st.integers(0, nx))
    y1, x1 = data.draw(st.integers(y0, ny)), data.draw(st.integers(x0, nx))
    for name, plane in planes.items():
        np.testing.assert_array_equal(store.read(name, y0, x0, y1, x1), plane[y0:y1, x0:x1])


@settings(deadline=None, max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    chunk=st.integers(5, 60),
    chunks=st.integers(1, 4),
    codec=st.sampled_from(["none", "lz4", "zstd"]),
)
def test_any_layout_gives_back_the_array(shape, chunk, chunks, codec):
    planes = pixels(shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.zarr"
        write_exposure(path, info(shape), planes, TileSettings(tile=chunk * chunks, chunk=chunk, codec=codec), "d")
        for name, plane in planes.items():
            np.testing.assert_array_equal(TileStore.open(path).read_all(name), plane)


def test_tiles_of_the_search_with_their_halo():
    _, store, planes = stored()
    for tile in Tiling(store.info.shape, tile=112).tiles():
        found = store.read("difference", tile.y0, tile.x0, tile.y1, tile.x1)
        np.testing.assert_array_equal(found, planes["difference"][tile.y0 : tile.y1, tile.x0 : tile.x1])


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 302, 5), (0, 0, 5, 251), (5, 0, 4, 5)])
def test_region_outside_the_image(region):
    with pytest.raises(ValueError, match="is not within an image of 301 x 250 px"):
        stored()[1].read("difference", *region)


def test_plain_zarr_reads_the_same(tmp_path):
    planes = pixels((130, 90))
    write_exposure(tmp_path / "x.zarr", info((130, 90), pixel_unit="nJy"), planes, SMALL, "d")
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")  # with zarr's own codecs
    assert sorted(group.array_keys()) == ["difference", "mask"]
    for name, plane in planes.items():
        np.testing.assert_array_equal(group[name][:], plane)
        assert group[name].metadata.dimension_names == ("y", "x")
        assert (group[name].shards, group[name].chunks) == ((112, 112), (28, 28))
    assert group["difference"].attrs["unit"] == "nJy"
    assert group.attrs["exposure"]["source_sha256"] == "ab" * 32


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((3080, 3072), (3276, 3276)),  # ZTF: 13 x 13 chunks of 252 px
        ((4000, 4072), (4032, 4284)),  # Rubin
        ((60, 4200), (252, 4284)), ((4201, 60), (4032, 4032)), ((6144, 6144), (4032, 4032)),
        ((16_384, 16_384), (1008, 16_632)), ((30_000, 30_000), (504, 30_240)), ((300, 130_000), (252, 130_032)),
    ],
)  # fmt: skip
def test_a_plane_is_one_file_unless_it_is_large(shape, sides, monkeypatch):
    monkeypatch.setattr(zarr_tiles, "WHOLE", 4200)
    assert shard_shape(shape, TileSettings()) == sides


class ByRows:
    """Plane that gives rows, and remembers how many at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, rows):
        found = self.array[rows]
        self.most = max(self.most, len(found))
        return found


def test_a_large_exposure_is_written_and_read_some_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("schemas.pixels.WHOLE_PIXELS", 1000)
    monkeypatch.setattr(zarr_tiles, "WHOLE", 100)
    monkeypatch.setattr(zarr_tiles, "BAND", 60)
    shape, planes = (301, 250), pixels((301, 250))
    lazy = {name: ByRows(plane) for name, plane in planes.items()}
    write_exposure(tmp_path / "x.zarr", info(shape), lazy, SMALL, "d")
    assert {plane.most for plane in lazy.values()} == {56}
    store = TileStore.open(tmp_path / "x.zarr")
    for name, plane in planes.items():
        np.testing.assert_array_equal(store.read_all(name), plane)
        made = []
        read = store.read_all(name, lambda shape, dtype, made=made: made.append(np.zeros(shape, dtype)) or made[0])
        assert read is made[0]
        np.testing.assert_array_equal(read, plane)
        starts, bands = zip(*store.bands(name), strict=True)
        assert starts == tuple(range(0, 301, 28))
        np.testing.assert_array_equal(np.concatenate(bands), plane)


def test_an_exposure_has_one_file_and_two_for_each_plane(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_tiles, "WHOLE", 4200)
    shape, planes = (301, 250), pixels((301, 250))
    write_exposure(tmp_path / "x.zarr", info(shape), planes, SMALL, "d")
    names = sorted(path.relative_to(tmp_path / "x.zarr").as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["difference/c/0/0", "difference/zarr.json", "mask/c/0/0", "mask/zarr.json", "zarr.json"]
    store = TileStore.open(tmp_path / "x.zarr")
    for name, plane in planes.items():
        np.testing.assert_array_equal(store.read_all(name), plane)
        np.testing.assert_array_equal(store.read(name, 107, 85, 230, 250), plane[107:230, 85:250])


def test_changes_no_setting_of_others(tmp_path):
    before = zarr.config.get("codec_pipeline")
    write_exposure(tmp_path / "x.zarr", info((60, 60)), pixels((60, 60)), SMALL, "d")
    assert zarr.config.get("codec_pipeline") == before
    assert "zarrs" not in before["path"]


def test_what_the_fast_codecs_cannot_do_is_an_error():
    with zarr_tiles._zarrs():
        assert zarr.config.get("codec_pipeline.path").startswith("zarrs.")
        assert zarr.config.get("codec_pipeline.strict") is True
    assert not zarr.config.get("codec_pipeline.strict", False)


def test_replaces_an_exposure_whole(tmp_path):
    path = tmp_path / "x.zarr"
    shape = (60, 60)
    with_variance = pixels(shape) | {"variance": np.ones(shape, np.float32)}
    write_exposure(path, info(shape, planes=("variance",)), with_variance, SMALL, "one")
    write_exposure(path, info(shape), pixels(shape, seed=2), SMALL, "two")
    assert TileStore.open(path).digest == "two"
    assert not (path / "variance").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zarr"]


@given(y0=st.integers(0, 300), x0=st.integers(0, 249), height=st.integers(1, 301), width=st.integers(1, 250))
@settings(deadline=None)
def test_writes_whole_shards_only(y0, x0, height, width):
    _, store, _ = stored()
    # Open for reading only: a write that is let through fails otherwise.
    array = zarr.open_array(store.path / "difference", mode="r")

    def whole(start, extent, length):
        return (
            start % 112 == 0 and start + extent <= length and ((start + extent) % 112 == 0 or start + extent == length)
        )

    legal = whole(y0, height, 301) and whole(x0, width, 250)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        write_block(array, y0, x0, np.zeros((height, width), np.float32))
    assert (getattr(caught.value, "code", "") == "partial_shard") != legal


@pytest.mark.parametrize("shards", [None, (8, 8)])
def test_of_an_array_without_shards_chunks_are_written_whole(shards):
    array = zarr.create_array({}, shape=(16, 16), chunks=(4, 4), shards=shards, dtype="float32")
    for y0, height in ((0, 8), (8, 8), (0, 4), (4, 4), (4, 12), (2, 4), (0, 6), (8, 0)):
        block = np.full((height, 16), y0 + 1, np.float32)
        side = 4 if shards is None else 8
        if y0 % side or height % side or not height:
            with pytest.raises(Misconfigured, match="whole shards"):
                write_block(array, y0, 0, block)
        else:
            write_block(array, y0, 0, block)
            np.testing.assert_array_equal(array[y0 : y0 + height], block)


def test_attributes_do_not_change():
    attributes = zarr_tiles.TileAttributes(digest="d", exposure=info((301, 250)))
    with pytest.raises(ValidationError, match="frozen"):
        attributes.digest = "e"


def test_several_writers_of_whole_shards_lose_nothing(tmp_path):
    planes = pixels((301, 250))
    blank = {name: np.zeros_like(plane) for name, plane in planes.items()}
    write_exposure(tmp_path / "x.zarr", info((301, 250)), blank, SMALL, "d")
    starts = [(y0, x0) for y0 in range(0, 301, 112) for x0 in range(0, 250, 112)]

    def write(start):
        y0, x0 = start
        array = zarr.open_array(tmp_path / "x.zarr/difference", mode="r+")
        write_block(array, y0, x0, planes["difference"][y0 : y0 + 112, x0 : x0 + 112])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, starts))
    np.testing.assert_array_equal(TileStore.open(tmp_path / "x.zarr").read_all("difference"), planes["difference"])


def test_refuses_chunks_that_do_not_fill_a_shard(tmp_path):
    with pytest.raises(Misconfigured, match=r"chunks of 250 px do not fill a tile of 1008 px. To fix, choose"):
        write_exposure(tmp_path / "x.zarr", info((60, 60)), pixels((60, 60)), TileSettings(chunk=250), "d")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda planes: planes.pop("mask"), r"\['difference'\] where \['difference', 'mask'\] are announced"),
        (lambda planes: planes.update(science=planes["difference"]), r"'science'\] where"),
        (
            lambda planes: planes.update(mask=planes["mask"].astype(np.int32)),
            r"mask: is int32 \(60, 60\), must be uint16",
        ),
        (
            lambda planes: planes.update(difference=planes["difference"][1:]),
            r"difference: is float32 \(59, 60\), must be",
        ),
    ],
)
def test_refuses_other_planes_than_announced(tmp_path, change, message):
    planes = pixels((60, 60))
    change(planes)
    with pytest.raises(BadInput, match=message):
        write_exposure(tmp_path / "x.zarr", info((60, 60)), planes, SMALL, "d")


def test_future_version_is_refused_with_the_remedy(tmp_path):
    write_exposure(tmp_path / "x.zarr", info((60, 60)), pixels((60, 60)), SMALL, "d")
    metadata = json.loads((tmp_path / "x.zarr/zarr.json").read_text())
    metadata["attributes"]["exposure"] |= {"schema_version": 2, "invented_later": True}
    (tmp_path / "x.zarr/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(BadInput, match=r"has schema version 2, .* reads version 1. To fix, use the version") as caught:
        TileStore.open(tmp_path / "x.zarr")
    assert caught.value.code == "other_version"


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)


def _flip_pixels(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _flip, _flip_pixels])
@pytest.mark.parametrize("shard", ["difference/c/0/0", "mask/c/1/1"])
def test_missing_and_damaged_shards_are_noticed(tmp_path, damage, shard):
    planes = pixels((130, 140)) | {"mask": np.zeros((130, 140), np.uint16)}  # zeros are stored as well
    write_exposure(tmp_path / "x.zarr", info((130, 140)), planes, SMALL, "d")
    damage(tmp_path / "x.zarr" / shard)
    store = TileStore.open(tmp_path / "x.zarr")
    plane = shard.split("/")[0]
    with pytest.raises(BadInput, match="To fix, run the exposure again with --tiles") as caught:
        store.read_all(plane)
    assert caught.value.code == "damaged_tiles"
    other = (0, 112, 112, 140)  # another shard is still good
    np.testing.assert_array_equal(store.read(plane, *other), planes[plane][:112, 112:])


@pytest.mark.parametrize("name", ["zarr.json", "difference/zarr.json", "mask/zarr.json"])
@pytest.mark.parametrize(
    "damage", [Path.unlink, *(partial(Path.write_text, data=one) for one in ("{", "[]", 5000 * "["))]
)
def test_missing_and_damaged_metadata(tmp_path, name, damage):
    write_exposure(tmp_path / "x.zarr", info((60, 60)), pixels((60, 60)), SMALL, "d")
    damage(tmp_path / "x.zarr" / name)
    with pytest.raises(BadInput, match="To fix, run the exposure again with --tiles"):
        TileStore.open(tmp_path / "x.zarr")


def test_no_store_at_all(tmp_path):
    with pytest.raises(BadInput, match="metadata cannot be read: FileNotFoundError"):
        TileStore.open(tmp_path / "x.zarr")


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from flows.storage.zarr_tiles import write_exposure
from schemas.errors import NightstrideError
from schemas.exposure import ExposureInfo
from schemas.settings import TileSettings
info = ExposureInfo.model_validate_json(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
planes = {"difference": np.random.default_rng(1).normal(size=info.shape).astype("f4")}
planes["mask"] = np.zeros(info.shape, "u2")
try:
    write_exposure(Path(sys.argv[1]), info, planes, TileSettings(), "d")
except NightstrideError as error:
    print(type(error).__name__, error.code)
"""


def test_limit_on_file_sizes(tmp_path):
    arguments = [sys.executable, "-c", LIMITED, tmp_path / "x.zarr", info((300, 300)).model_dump_json()]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "Misconfigured file_size_limit"
    assert not any(tmp_path.iterdir())


def test_full_disk_leaves_the_old_exposure(small_disk):
    path = small_disk / "tiles/20260101/5-3.zarr"
    write_exposure(path, info((300, 300)), pixels((300, 300)), SMALL, "old")
    with pytest.raises(Retryable, match=r"No space left.*bytes are free.*To fix, free space"):
        write_exposure(path, info((900, 900)), pixels((900, 900)), TileSettings(), "new")
    assert TileStore.open(path).digest == "old"
    np.testing.assert_array_equal(TileStore.open(path).read_all("difference"), pixels((300, 300))["difference"])
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("shape", "plane"), [((60, 61), "difference"), ((61, 60), "difference"), ((60, 60), "mask")])
def test_a_plane_of_another_shape_or_type_is_damage(tmp_path, shape, plane):
    for name, sides in (("x.zarr", (60, 60)), ("y.zarr", shape)):
        write_exposure(tmp_path / name, info(sides), pixels(sides), SMALL, "d")
    shutil.rmtree(tmp_path / "x.zarr" / "difference")
    (tmp_path / "y.zarr" / plane).rename(tmp_path / "x.zarr" / "difference")
    with pytest.raises(BadInput, match=r"plane difference is .* not float32 \(60, 60\)") as caught:
        TileStore.open(tmp_path / "x.zarr").read_all("difference")
    assert caught.value.code == "damaged_tiles"
