"""Tiles of whole detectors."""

import io
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.results.page.picture import MASKED, bin_mean, stretch, usable
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore, write_exposure
from flows.vetting import pyramid
from flows.vetting.pyramid import SIDE, TilePyramid, levels
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.settings import TileSettings
from tests.flows.results.page.conftest import make_info
from tests.support.vetting import NIGHT

KEY = ExposureKey(night=NIGHT, visit=101, detector=3)


def pixels(content):
    return np.array(Image.open(io.BytesIO(content)))[::-1]


def whole(tiles, plane, level, shape):
    """The mosaic of all tiles of a level."""
    span = SIDE << level
    return np.block([
        [pixels(tiles.tile(KEY, plane, level, row, column)) for column in range(-(-shape[1] // span))]
        for row in range(-(-shape[0] // span))
    ])  # fmt: skip


@pytest.mark.parametrize("level", [0, 1])
def test_tiles_join_to_the_image(vet_night, level):
    store = TileStore.open(tile_path(vet_night, KEY))
    image, mask = store.read_all("difference"), store.read_all("mask")
    good = usable(image, mask)
    values = bin_mean(image, good, 2) if level else np.where(good, image, np.nan)
    expected = stretch(values, store.info.background, store.info.noise / np.sqrt(1 << level))
    found = whole(TilePyramid(vet_night), "difference", level, store.info.shape)
    np.testing.assert_array_equal(found, expected)
    assert (found == MASKED).any()


def test_a_tile_is_made_strip_by_strip(vet_night, monkeypatch):
    expected = TilePyramid(vet_night).tile(KEY, "science", 1, 0, 0)
    read, original = [], TileStore.read

    def counted(self, plane, y0, x0, y1, x1):
        read.append((y1 - y0) * (x1 - x0))
        return original(self, plane, y0, x0, y1, x1)

    monkeypatch.setattr(pyramid, "STRIP", 4096)
    monkeypatch.setattr(TileStore, "read", counted)
    assert TilePyramid(vet_night).tile(KEY, "science", 1, 0, 0) == expected
    assert max(read) <= max(4096, pyramid._SAMPLE**2)


def test_memory_is_bounded_and_tiles_are_kept(vet_night, monkeypatch):
    tiles = TilePyramid(vet_night, most_bytes=100_000)
    names = list(product(("difference", "science", "template"), (0, 1), (0, 1)))
    for plane, row, column in names:
        tiles.tile(KEY, plane, 0, row, column)
        assert tiles.held <= 100_000
    assert tiles.held > 0
    monkeypatch.setattr(TilePyramid, "_make", None)
    tiles.tile(KEY, *("template", 0, 1, 1))
    with pytest.raises(TypeError):
        tiles.tile(KEY, "difference", 0, 0, 0)


def test_a_tile_that_two_have_made_at_once_is_kept_and_counted_once(vet_night):
    tiles = TilePyramid(vet_night, most_bytes=5)
    for name, content, held in (("a", b"12", 2), ("a", b"12", 2), ("b", b"345", 5), ("c", b"6", 4)):
        tiles._keep((name,), content)
        assert tiles.held == held


@given(ny=st.integers(1, 70000), nx=st.integers(1, 70000))
def test_the_last_level_is_one_tile(ny, nx):
    last = levels((ny, nx)) - 1
    assert SIDE << last >= max(ny, nx)
    assert last == 0 or SIDE << (last - 1) < max(ny, nx)


@pytest.mark.parametrize(
    "asked", [("mask", 0, 0, 0), ("variance", 0, 0, 0), ("difference", 2, 0, 0), ("difference", -1, 0, 0),
              ("difference", 10**9, 0, 0), ("difference", 0, 2, 0), ("difference", 0, 0, -1)]
)  # fmt: skip
def test_what_there_is_not(vet_night, asked):
    with pytest.raises(BadInput, match="no such tile"):
        TilePyramid(vet_night).tile(KEY, *asked)
    with pytest.raises(BadInput, match="no such tile"):
        TilePyramid(vet_night).tile(KEY.model_copy(update={"visit": 9}), "difference", 0, 0, 0)


def test_a_new_run_of_the_exposure_is_seen(tmp_path):
    path, info = tile_path(tmp_path, KEY), make_info((40, 50), visit=101)
    tiles, found = TilePyramid(tmp_path), []
    for digest, value in (("a" * 64, 0.0), ("b" * 64, 500.0)):
        planes = {"difference": np.full((40, 50), value, np.float32), "mask": np.zeros((40, 50), np.uint16)}
        write_exposure(path, info, planes, TileSettings(tile=28, chunk=28), digest)
        found.append(tiles.tile(KEY, "difference", 0, 0, 0))
    assert found[0] != found[1]
    assert pixels(found[0]).shape == (40, 50)


def test_level_and_noise_of_a_plane_are_those_of_all_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "_SAMPLE", 8)
    info = make_info((60, 70), visit=101, planes=("science",))
    image = np.random.default_rng(2).normal(100, 5, (60, 70)).astype(np.float32)
    image[-9:, -9:], image[:9, :9] = 4000, -4000  # a part at each of two corners, of sixteen
    planes = dict.fromkeys(("difference", "science"), image) | {"mask": np.zeros(image.shape, np.uint16)}
    write_exposure(tile_path(tmp_path, KEY), info, planes, TileSettings(), "a" * 64)
    level, noise = TilePyramid(tmp_path)._scale(TileStore.open(tile_path(tmp_path, KEY)), "science")
    assert level == pytest.approx(100, abs=1)
    assert noise == pytest.approx(5, rel=0.3)
