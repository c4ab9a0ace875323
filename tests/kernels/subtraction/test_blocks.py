import numpy as np
import pytest
from scipy.signal import fftconvolve

from kernels.subtraction.blocks import KernelGrid, blocks_of, flattened


def test_blocks_cover_an_image_once():
    seen = np.zeros((330, 270), int)
    blocks = blocks_of(seen.shape, 100)
    for one in blocks:
        seen[one.y0 : one.y1, one.x0 : one.x1] += 1
    assert (seen == 1).all()
    assert len(blocks_of((60, 60))) == 1


def test_blocks_with_kernels_of_their_own_join_as_whole_convolutions_do():
    rng = np.random.default_rng(2)
    image, blocks = rng.standard_normal((150, 130)).astype(np.float32), blocks_of((150, 130), 70)
    kernels = rng.standard_normal((len(blocks), 9, 9)).astype(np.float32)
    none = np.zeros_like(kernels)
    found = KernelGrid(blocks, kernels, none, none).difference(image, image)
    for block, kernel in zip(blocks, kernels, strict=True):
        here = np.s_[block.y0 : block.y1, block.x0 : block.x1]
        np.testing.assert_allclose(found[here], fftconvolve(image, kernel, "same")[here], atol=1e-4)


def test_places_belong_to_blocks():
    blocks = blocks_of((100, 200), 100)
    grid = KernelGrid(blocks, *(np.zeros((2, 3, 3), np.float32) for _ in range(3)))
    assert [grid.at(x, 50.0) for x in (-5.0, 99.0, 100.0, 260.0)] == [0, 0, 1, 1]


def test_holes_are_filled_as_asked_and_backgrounds_are_gone() -> None:
    rng = np.random.default_rng(5)
    ramp = 50 + np.linspace(0, 4, 300)[None, :] + np.linspace(0, 2, 280)[:, None]
    image = (ramp + rng.normal(0, 2, (280, 300))).astype(np.float32)
    holes = np.zeros(image.shape, bool)
    holes[100:110, 120:130], image[95:115, 115:135] = True, 500
    found = {fill: flattened(image, holes, blocks_of(image.shape), fill) for fill in ("sky", "neighbours", "nothing")}
    inside = np.s_[104:106, 124:126]
    assert not found["sky"].image[holes].any()
    assert 300 < found["neighbours"].image[inside].mean() < 440
    assert found["nothing"].image[inside].mean() == pytest.approx(447, abs=5)
    for one in found.values():
        assert abs(np.median(one.image[:, :100])) < 1
        assert abs(np.median(one.image[:, 200:])) < 1
        np.testing.assert_allclose(one.sigmas, 2, rtol=0.3)


@pytest.mark.parametrize("unit", [1.0, 1e-6])
def test_the_noise_of_blocks_is_their_own_in_any_unit_and_the_usual_one_where_nothing_is_seen(unit):
    """Of a star of 20,000 times the noise, and of four blocks of which three have no pixel."""
    image = (np.random.default_rng(6).normal(0, 2, (120, 100)) * unit).astype(np.float32)
    image[20, 20], holes = 4e4 * unit, np.zeros(image.shape, bool)
    holes[30:] = True
    found = flattened(image, holes, blocks_of(image.shape, 30), "neighbours").sigmas
    np.testing.assert_allclose(found[:3], 2 * unit, rtol=0.15)
    assert set(found[3:]) == {np.median(found[:3])}
    holes[:] = True
    assert (flattened(image, holes, blocks_of(image.shape, 30), "sky").sigmas > 0).all()


@pytest.mark.parametrize(("seen", "level"), [(50, 0.0), (51, 7.0)])
def test_a_background_is_known_of_more_than_fifty_pixels(seen, level):
    image, holes = np.full((20, 20), 7, np.float32), np.ones((20, 20), bool)
    row, column = np.unravel_index(np.arange(seen), (10, 10))
    holes[2 * row, 2 * column] = False  # every second pixel is looked at
    found = flattened(image, holes, blocks_of(image.shape), "nothing").image
    np.testing.assert_allclose(found, 7 - level, atol=0.2)
