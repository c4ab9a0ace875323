from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.inputs import image_rows
from flows.inputs.image_rows import Bands, PixelCounts, PlaneRows, changed, sample_of
from kernels.image.pixel_state import filled, pixel_state, usual_scatter
from schemas.pixels import MaskPlane


def rows_of(array):
    return PlaneRows(array.shape, array.dtype, lambda y0, y1: array[y0:y1].copy())


def scene(seed, shape=(97, 61), border=0):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(100, 7, shape).astype(np.float32)
    pixels[rng.random(shape) < 0.03] = np.nan
    pixels[rng.random(shape) < 0.01] = np.inf
    pixels[30:46, 20:41] = 5.5  # holds no sky
    pixels[: border or 0] = 0
    mask = rng.choice([0, 0, 0, 1, 64, 128], shape).astype(np.uint16)
    return {"difference": pixels, "mask": mask, "science": rng.normal(100, 20, shape).astype(np.float32)}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 500),
    cuts=st.sets(st.integers(1, 96), max_size=6),
    border=st.sampled_from([0, 7, 20]),
    science=st.booleans(),
    saturation=st.sampled_from([None, 118.0]),
)
def test_the_state_of_bands_is_that_of_the_whole(seed, cuts, border, science, saturation):
    planes = scene(seed, border=border)
    if not science:
        del planes["science"]
    whole = pixel_state(planes["difference"], planes["mask"], planes.get("science"), saturation)
    usual = usual_scatter(planes["difference"])
    bands = Bands({name: rows_of(plane) for name, plane in planes.items()}, saturation, usual)
    made, edges = bands.planes(-3.25), [0, *sorted(cuts), 97]
    joined = {name: np.concatenate([plane[y0:y1] for y0, y1 in pairwise(edges)]) for name, plane in made.items()}
    np.testing.assert_array_equal(joined["mask"], whole.mask)
    np.testing.assert_array_equal(joined["difference"], filled(planes["difference"], whole.mask, -3.25))
    assert (made["difference"].dtype, made["mask"].dtype) == (np.float32, np.uint16)


@pytest.mark.parametrize("band", [8, 25, 1008])
def test_what_is_counted_by_bands_is_what_the_whole_has(band, monkeypatch):
    monkeypatch.setattr(image_rows, "BAND", band)
    planes = scene(3)
    whole = pixel_state(planes["difference"], planes["mask"], planes["science"], 120.0)
    counts = Bands(planes, 120.0, usual_scatter(planes["difference"])).counts()
    assert counts.good == whole.good
    assert (counts.finite > 0, counts.infinite > 0) == (True, True)
    assert (counts.first, counts.constant) == (whole.first, whole.constant)


@pytest.mark.parametrize(("below", "constant"), [(4.0, True), (np.nan, True), (4.5, False)])
def test_an_image_is_constant_if_all_of_it_has_one_value(below, constant, monkeypatch):
    monkeypatch.setattr(image_rows, "BAND", 16)
    for above in (4.0, np.nan):
        pixels = np.full((64, 40), above, np.float32)
        pixels[32:] = below
        counts = Bands({"difference": pixels, "mask": np.zeros((64, 40), np.uint16)}, None, 0.0).counts()
        assert counts.constant == (constant or np.isnan(above))
        assert counts.finite == 0 or counts.first == (below if np.isnan(above) else above)


def test_counts_of_parts_add_up():
    one, other = PixelCounts(3, 1, 2, 4.0, True), PixelCounts(5, 0, 5, 4.0, False)
    assert one.and_below(other) == PixelCounts(8, 1, 7, 4.0, False)


@pytest.mark.parametrize(("side", "block", "blocks"), [(97, 16, 3), (97, 40, 8), (50, 64, 8)])
def test_a_sample_is_made_of_squares_and_what_is_cut_is_masked(side, block, blocks, monkeypatch):
    monkeypatch.setattr(image_rows, "BLOCK", block)
    monkeypatch.setattr(image_rows, "BLOCKS", blocks)
    places = np.arange(side * side, dtype=np.float32).reshape(side, side)
    planes = {"difference": rows_of(places), "mask": rows_of(np.zeros((side, side), np.uint16)), "variance": None}
    sample = sample_of(planes)
    assert sample.keys() == {"difference", "mask"}
    size, count = min(block, side), max(1, min(blocks, side // block))
    assert sample["difference"].shape == sample["mask"].shape == (count * size, count * size)
    kept = sample["mask"] == 0
    assert set(np.unique(sample["mask"])) <= {0, MaskPlane.EDGE.value}
    for row in range(count):
        for column in range(count):
            square = np.s_[row * size : (row + 1) * size, column * size : (column + 1) * size]
            top, left = divmod(int(sample["difference"][square][0, 0]), side)
            np.testing.assert_array_equal(sample["difference"][square], places[top : top + size, left : left + size])
            # A pixel counts unless the image goes on beyond it and the square does not.
            y, x = np.indices((size, size))
            cut = ((y == 0) & (top > 0)) | ((y == size - 1) & (top + size < side))
            cut |= ((x == 0) & (left > 0)) | ((x == size - 1) & (left + size < side))
            np.testing.assert_array_equal(kept[square], ~cut)
    corners = {int(sample["difference"][0, 0]), int(sample["difference"][-1, -1])}
    assert corners == {0, side * side - 1}


def test_rows_are_changed_as_arrays_are():
    array = np.arange(12.0).reshape(4, 3)
    doubled = changed(rows_of(array), lambda some: (2 * some).astype(np.int32), "int32")
    assert (doubled.shape, doubled.dtype) == ((4, 3), np.int32)
    np.testing.assert_array_equal(doubled[1:], changed(array, lambda some: (2 * some).astype(np.int32), "int32")[1:])
    np.testing.assert_array_equal(doubled[:], 2 * array)
