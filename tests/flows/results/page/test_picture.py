import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from flows.results.page.picture import MASKED, OUTSIDE, bin_mean, jpeg, png, stretch, usable
from schemas.pixels import MaskPlane


def decoded(picture):
    kind, code = picture.uri.split(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(code)))
    assert kind == f"data:image/{image.format.lower()}"
    assert image.size == (picture.width, picture.height)
    return np.asarray(image.convert("RGB")).astype(int)


def test_usable_pixels_have_a_value_and_no_fault():
    difference = np.array([[1, np.nan, np.inf, 1, 1, 1]], np.float32)
    mask = np.array([[0, 0, 0, MaskPlane.SAT, MaskPlane.DETECTED, MaskPlane.SUSPECT]], np.uint16)
    np.testing.assert_array_equal(usable(difference, mask), [[True, False, False, False, True, True]])


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(-9, 9, width=32)),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_bin_mean_is_the_mean_of_each_block(difference, factor, random):
    good = np.array([[random.random() < 0.6 for _ in row] for row in difference])
    binned = bin_mean(difference, good, factor)
    for row in range(binned.shape[0]):
        for column in range(binned.shape[1]):
            block = np.s_[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            values = difference[block][good[block]]
            if 2 * len(values) < factor * factor:
                assert np.isnan(binned[row, column])
            else:
                assert binned[row, column] == pytest.approx(np.mean(values, dtype=np.float64), abs=1e-9)
    assert binned.shape == (-(-difference.shape[0] // factor), -(-difference.shape[1] // factor))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_stretch_rises_from_black_to_white(background, noise):
    sigmas = np.linspace(-6, 12, 181)[None]
    levels = stretch(background + noise * sigmas, background, noise)
    assert (np.diff(levels.astype(int)) >= 0).all()
    assert set(levels[sigmas < -3.01]) == {0}
    assert set(levels[sigmas > 8.01]) == {253}
    assert levels[0, 60] == pytest.approx(253 * np.arcsinh(0.75) / np.arcsinh(2.75), abs=1)  # the sky


def test_stretch_marks_what_has_no_value_and_survives_no_noise():
    levels = stretch(np.array([[np.nan, np.inf, 5.0, 6.0]]), 5.0, 0.0)
    np.testing.assert_array_equal(levels, [[MASKED, MASKED, *stretch(np.zeros((1, 1)), 0, 1)[0], 253]])


def test_png_keeps_every_level_with_the_first_row_at_the_bottom():
    levels = np.arange(254, dtype=np.uint8).reshape(2, 127)
    pixels = decoded(png(levels))
    brightness = pixels.sum(axis=2)
    assert (np.diff(brightness[1]) > 0).all()
    assert (np.diff(brightness[0]) > 0).all()
    assert brightness[0, 0] > brightness[1, -1]


def test_masked_and_outside_have_colours_that_no_brightness_has():
    levels = np.array([[MASKED, OUTSIDE, *range(254)]], np.uint8)
    colours = {tuple(colour) for colour in decoded(png(levels))[0]}
    assert len(colours) == 256
    masked = decoded(png(levels))[0, 0]
    assert masked[2] - masked[0] > 40  # blue


def test_jpeg_of_noise_stays_within_its_limit():
    rng = np.random.default_rng(3)
    levels = stretch(rng.normal(size=(800, 800)), 0, 1)
    assert 100_000 < len(jpeg(levels, 200_000).uri) <= 200_000
    assert len(jpeg(levels, 1).uri) < 80_000


def test_jpeg_shows_the_levels():
    levels = np.repeat(np.repeat(np.array([[10, 240], [MASKED, 120]], np.uint8), 16, 0), 16, 1)
    pixels = decoded(jpeg(levels, 150_000))
    np.testing.assert_allclose(pixels, decoded(png(levels)), atol=40)
    np.testing.assert_allclose(pixels[24, 8], decoded(png(levels))[24, 8], atol=6)


def test_grey_runs_from_night_blue_to_warm_white():
    row = decoded(png(np.array([[0, 23, 253, MASKED, OUTSIDE]], np.uint8)))[0]
    assert row.tolist() == [[8, 11, 20], [30, 33, 41], [255, 255, 250], [52, 78, 112], [120, 126, 138]]


def test_stretch_is_an_inverse_hyperbolic_sine():
    sigmas = np.array([[-3.0, -1.0, 0.0, 1.0, 5.0, 7.5, 8.0]])
    expected = np.rint(253 * np.arcsinh((sigmas + 3) / 4) / np.arcsinh(11 / 4))
    assert stretch(7 + 2 * sigmas, 7.0, 2.0).tolist() == expected.tolist()
    wide = np.rint(253 * np.arcsinh((sigmas + 3) / 4) / np.arcsinh(15 / 4))
    assert stretch(7 + 2 * sigmas, 7.0, 2.0, high=12.0).tolist() == wide.tolist()
    assert stretch(np.array([[5e-31, 0.0]]), 0.0, 0.0).tolist() == stretch(np.array([[0.5, 0.0]]), 0.0, 1.0).tolist()


def test_jpeg_takes_the_best_quality_that_the_limit_allows():
    levels = stretch(np.random.default_rng(4).normal(size=(64, 64)), 0, 1)
    colours = decoded(png(levels)).astype(np.uint8)
    sizes = []
    for quality in (88, 80, 70, 62, 55, 48, 40, 30, 15):
        buffer = io.BytesIO()
        Image.fromarray(colours).save(buffer, format="JPEG", quality=quality, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
        assert jpeg(levels, len(uri)).uri == uri
        sizes.append(len(uri))
    assert sizes == sorted(sizes, reverse=True)
    assert jpeg(levels, 1).uri == uri
