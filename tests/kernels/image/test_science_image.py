from collections import OrderedDict

import numpy as np
import pytest
import sep

from kernels.image.science_image import NeededPlaces, block_pixels, blocks, science_image
from schemas.pixels import MaskPlane
from tests.support.science import drawn


def sky(shape=(256, 320)):
    y, x = np.indices(shape)
    return 300 + 0.05 * x - 0.03 * y


def test_takes_an_uneven_sky_off_beneath_stars_and_knows_its_noise():
    stars = [(x, y, 4e3, 0, 1, 0) for x, y in np.random.default_rng(2).uniform(20, 230, (40, 2))]
    pixels = drawn(stars, (256, 320)) + sky().astype(np.float32)
    found = science_image(pixels, np.zeros(pixels.shape, np.uint16), 64)
    left = found.pixels - (pixels - sky())
    assert abs(np.median(left)) < 0.5
    assert np.abs(left).max() < 4
    assert np.median(found.noise) == pytest.approx(5, rel=0.05)


def test_what_has_no_value_is_bad_and_zero_and_leaves_the_input_alone():
    pixels = drawn([], (100, 100)) + 300
    pixels[10, 10] = np.nan
    mask = np.zeros(pixels.shape, np.uint16)
    mask[20, 20], mask[30, 30], mask[40, 40] = MaskPlane.BAD, MaskPlane.SAT, MaskPlane.NO_DATA
    before = pixels.copy()
    found = science_image(pixels, mask, 64)
    assert found.bad[10, 10]
    assert found.bad[20, 20]
    assert not found.bad[30, 30]  # bright, not without a value
    assert not found.bad[40, 40]  # of the difference image
    assert found.pixels[20, 20] == 0
    np.testing.assert_array_equal(pixels, before)


def test_no_value_or_no_noise_is_no_image():
    nothing = np.zeros((50, 50), np.uint16)
    assert science_image(np.full((50, 50), np.nan, np.float32), nothing, 64) is None
    assert science_image(np.full((50, 50), 7, np.float32), nothing, 64) is None


@pytest.mark.parametrize("mesh", [8, 32, 64, 500])
def test_sky_and_noise_are_those_of_sextractor(mesh):
    pixels = drawn([], (90, 140)) + sky((90, 140)).astype(np.float32)
    mask = np.zeros(pixels.shape, np.uint16)
    mask[10:20, 30:50] = MaskPlane.BAD
    theirs = sep.Background(pixels, mask=mask > 0, bw=min(mesh, 140), bh=min(mesh, 90), fw=3, fh=3)
    found = science_image(pixels, mask, mesh)
    np.testing.assert_array_equal(found.pixels, np.where(mask > 0, 0, pixels - theirs.back()))
    np.testing.assert_array_equal(found.noise, theirs.rms())
    assert found.noise.dtype == np.float32


def test_planes_that_spoil_the_science_image():
    for plane, bad in (("BAD", True), ("CR", True), ("EDGE", True), ("SAT", False), ("DETECTED", False)):
        mask = np.zeros((100, 100), np.uint16)
        mask[20, 30] = MaskPlane[plane]
        assert science_image(drawn([], (100, 100)), mask, 64).bad[20, 30] == bad


def test_an_image_without_scatter_has_a_noise_above_zero():
    pixels = np.full((100, 100), 7, np.float32)
    pixels[50, 50] = 8
    assert (science_image(pixels, np.zeros(pixels.shape, np.uint16), 64).noise > 0).all()


def in_blocks(monkeypatch):
    monkeypatch.setattr("schemas.pixels.WHOLE_PIXELS", 1000)
    monkeypatch.setattr("kernels.image.science_image.BLOCK", 96)
    monkeypatch.setattr("kernels.image.science_image.MARGIN", 64)


@pytest.mark.parametrize("mesh", [8, 13, 20])
def test_the_sky_of_a_large_image_is_that_of_the_whole(mesh, monkeypatch):
    """Uneven, with stars, and a piece without values; at block borders there is no step."""
    stars = [(x, y, 4e3, 0, 1, 0) for x, y in np.random.default_rng(2).uniform(20, 400, (60, 2))]
    pixels = drawn(stars, (420, 500)) + sky((420, 500)).astype(np.float32)
    mask = np.zeros(pixels.shape, np.uint16)
    mask[100:130, 200:260] = MaskPlane.BAD
    pixels[300:310, 40:70] = np.nan
    whole = science_image(pixels, mask, mesh)
    in_blocks(monkeypatch)
    parts = science_image(pixels, mask, mesh)
    np.testing.assert_array_equal(parts.bad, whole.bad)
    np.testing.assert_allclose(parts.pixels, whole.pixels, atol=0.02)  # of a noise of 5
    np.testing.assert_allclose(parts.noise, whole.noise, rtol=2e-3)
    assert block_pixels(pixels.shape, mesh) < pixels.size


def test_only_blocks_that_are_looked_at_are_done(monkeypatch):
    pixels = drawn([], (420, 500)) + sky((420, 500)).astype(np.float32)
    mask = np.zeros(pixels.shape, np.uint16)
    in_blocks(monkeypatch)
    whole = science_image(pixels, mask, 32)
    read, made = [], []

    class Plane:
        shape = pixels.shape

        def __getitem__(self, where):
            read.append(where)
            return pixels[where]

    def allocate(shape, dtype):
        made.append(dtype)
        return np.zeros(shape, dtype)

    near = NeededPlaces(np.array([250.0, 251.0]), np.array([190.0, 12.0]), 5)
    some = science_image(Plane(), mask, 32, allocate, near)
    assert made == ["float32", "bool", "float32"]
    assert 0 < len(read) < len(list(blocks(pixels.shape, 32, 64))) / 4
    for x, y in zip(near.x.astype(int), near.y.astype(int), strict=True):
        around = slice(max(y - 5, 0), y + 6), slice(x - 5, x + 6)
        for done, known in zip(some, whole, strict=True):
            np.testing.assert_array_equal(done[around], known[around])
    assert science_image(Plane(), mask, 32, allocate, NeededPlaces(np.zeros(0), np.zeros(0), 5)) is None


def test_a_block_without_values_spoils_no_other(monkeypatch):
    pixels = drawn([], (420, 500)) + 300
    pixels[:, 250:] = np.nan
    in_blocks(monkeypatch)
    found = science_image(pixels, np.zeros(pixels.shape, np.uint16), 32)
    assert found.bad[:, 250:].all()
    assert not found.bad[:, :250].any()
    assert (found.noise > 0).all()
    assert np.median(found.noise[:, :200]) == pytest.approx(5, rel=0.05)
    assert science_image(np.full((420, 500), np.nan, np.float32), np.zeros((420, 500), np.uint16), 32) is None


def counted(monkeypatch):
    """Nothing is kept yet; the skies that are estimated are listed."""
    made, real = [], sep.Background
    monkeypatch.setattr("kernels.image.science_image._SKIES", OrderedDict())
    monkeypatch.setattr(sep, "Background", lambda *given, **more: made.append(1) or real(*given, **more))
    return made


@pytest.mark.parametrize("large", [False, True])
def test_the_sky_of_an_image_is_estimated_once_and_is_what_it_would_be_again(large, monkeypatch):
    pixels = drawn([], (100, 110)) + sky((100, 110)).astype(np.float32)
    pixels[3, 4] = np.nan
    mask = np.zeros(pixels.shape, np.uint16)
    mask[10:20, 30:50] = MaskPlane.BAD
    if large:
        in_blocks(monkeypatch)
    made = counted(monkeypatch)
    once = science_image(pixels, mask, 32)
    count = len(made)
    assert (count > 1) == large
    for name, more in (("one", count), ("one", 0), ("another", count), ("one", 0), (None, count), (None, count)):
        made.clear()
        found = science_image(pixels, mask, 32, identity=name)
        assert len(made) == more
        for own, known in zip(found, once, strict=True):
            np.testing.assert_array_equal(own, known)
    made.clear()
    science_image(pixels, mask, 16, identity="one")
    assert made


def test_few_skies_are_kept_those_used_last_and_no_large_ones(monkeypatch):
    pixels, mask = drawn([], (64, 80)) + 300, np.zeros((64, 80), np.uint16)
    monkeypatch.setattr("kernels.image.science_image._KEPT", 2)
    monkeypatch.setattr("kernels.image.science_image._SQUARES", 20)
    made = counted(monkeypatch)
    for name, expected in (("a", 1), ("b", 2), ("a", 2), ("c", 3), ("a", 3), ("b", 4)):
        science_image(pixels, mask, 16, identity=name)
        assert len(made) == expected, name
    for expected in (5, 6):
        science_image(pixels, mask, 15, identity="a")
        assert len(made) == expected
