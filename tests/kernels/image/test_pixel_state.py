import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from kernels.image.pixel_state import filled, flat_regions, pixel_state, usable_pixels
from schemas.pixels import UNUSABLE, MaskPlane


def image(seed, shape=(60, 70), strange=0.02):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(100, 7, shape).astype(np.float32)
    for value in (np.nan, np.inf, -np.inf, 3e38, 130.0):
        pixels[rng.random(shape) < strange] = value
    return pixels


def by_numpy(difference, mask, science, saturation):
    """Say the same, pass by pass."""
    finite = np.isfinite(difference)
    expected = mask.copy()
    expected[~finite] |= MaskPlane.NO_DATA.value
    expected[flat_regions(difference)] |= MaskPlane.NO_DATA.value
    if saturation is not None:
        for plane in (difference, science):
            expected[(plane.astype(float) >= saturation) & finite] |= MaskPlane.SAT.value
    return expected


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), saturation=st.sampled_from([None, 120.0, 130.0, 1e39]), border=st.integers(0, 20))
def test_is_what_separate_passes_say(seed, saturation, border):
    difference, science = image(seed), image(seed + 1)
    difference[:border] = 0
    mask = np.random.default_rng(seed).choice([0, 0, 0, 1, 64, 128], difference.shape).astype(np.uint16)
    given_mask = mask.copy()
    state = pixel_state(difference, mask, science, saturation)
    expected = by_numpy(difference, mask, science, saturation)
    assert state.mask.dtype == np.uint16
    np.testing.assert_array_equal(state.mask, expected)
    np.testing.assert_array_equal(state.usable, expected & UNUSABLE.value == 0)
    assert state.good == np.count_nonzero(state.usable)
    assert state.finite == np.isfinite(difference).sum()
    assert state.infinite == np.isinf(difference).sum()
    assert not state.constant
    np.testing.assert_array_equal(mask, given_mask)
    whole = filled(difference, state.mask, -3.25)
    np.testing.assert_array_equal(whole, np.where(expected & MaskPlane.NO_DATA, np.float32(-3.25), difference))


@pytest.mark.parametrize("value", [0.0, -57.5])
def test_constant_but_for_what_is_not_finite(value):
    difference = np.full((30, 30), value, np.float32)
    difference[:3] = np.nan
    difference[5] = np.inf
    state = pixel_state(difference, np.zeros((30, 30), np.uint16))
    assert (state.constant, state.finite, state.infinite) == (True, 26 * 30, 30)
    difference[20, 20] = np.nextafter(np.float32(value), np.float32(1))
    assert not pixel_state(difference, np.zeros((30, 30), np.uint16)).constant


def test_the_largest_number_is_finite():
    largest = np.finfo(np.float32).max
    found = pixel_state(np.array([[1, largest, -largest, np.inf]], np.float32), np.zeros((1, 4), np.uint16))
    assert (found.finite, found.infinite) == (3, 1)


def test_no_finite_pixel():
    state = pixel_state(np.full((30, 30), np.nan, np.float32), np.zeros((30, 30), np.uint16))
    assert (state.finite, state.infinite, state.good, state.constant) == (0, 0, 0, True)


def sky(seed, smooth=0.0, shape=(400, 360)):
    image = np.random.default_rng(seed).normal(0, 1, shape)
    image = gaussian_filter(image, smooth) if smooth else image
    return (3 * image / image.std()).astype(np.float32)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1000),
    value=st.sampled_from([0.0, 57.5, -1e4]),
    top=st.integers(8, 60),
    left=st.integers(8, 60),
)
def test_finds_constant_borders(seed, value, top, left):
    image = sky(seed)
    image[:top] = value
    image[:, -left:] = value
    marked = flat_regions(image)
    assert marked[:top].all()
    assert marked[:, -left:].all()
    # A pixel of sky beside a border may lie as near to its value as makes no difference: at most 159 with these seeds.
    assert marked[top:, :-left].sum() < 0.25 * (400 + 360)
    assert not marked[top + 8 :, : -left - 8].any()


def test_finds_discs_but_for_their_rim():
    image = sky(1)
    y, x = np.mgrid[:400, :360]
    distance = np.hypot(y - 200, x - 150)
    disc = distance < 40
    image[disc] = 0
    marked = flat_regions(image)
    assert marked[disc].all()
    assert not marked[distance > 50].any()
    assert (marked & ~disc).sum() < 0.3 * 2 * np.pi * 40


@pytest.mark.parametrize("smooth", [0.0, 0.5, 1.0])
def test_noise_is_never_flat(smooth):
    """Smoothing by 1 px correlates neighbours by 0.78: more than any resampling does."""
    assert flat_regions(sky(2, smooth, (1000, 1000))).mean() < 1e-5


def test_a_constant_scattered_by_lossy_compression_is_flat():
    image = sky(3)
    quantum = 3 / 4
    image[:50] = np.random.default_rng(0).uniform(-quantum / 2, quantum / 2, (50, 360))
    marked = flat_regions(image)
    assert marked[:48].all()
    assert marked[54:].sum() == 0


def test_nan_is_left_to_others():
    image = sky(4)
    image[100:140, 100:140] = np.nan
    assert not flat_regions(image).any()


@pytest.mark.parametrize("shape", [(3, 50), (40, 40)])
def test_an_image_without_scatter_says_nothing(shape):
    assert not flat_regions(np.ones(shape, np.float32)).any()


def test_pixels_count_if_they_are_finite_and_not_masked():
    pixels = np.ones((3, 4), np.float32)
    pixels[0, :3] = np.nan, np.inf, -np.inf
    mask = np.zeros((3, 4), np.uint16)
    mask[1] = MaskPlane.BAD, MaskPlane.SAT, MaskPlane.DETECTED, MaskPlane.STREAK | MaskPlane.EDGE
    usable = usable_pixels(pixels, mask)
    np.testing.assert_array_equal(usable, [[0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(usable, ((mask & np.uint16(UNUSABLE)) == 0) & np.isfinite(pixels))


def test_rows_need_not_lie_side_by_side_in_memory():
    pixels, mask = np.zeros((6, 8), np.float32)[:, ::2], np.ones((6, 8), np.uint16)[::2].repeat(2, 0)[:, :4]
    assert not usable_pixels(pixels, mask).any()


def flat_by_definition(image):
    """Quiet blocks of 4 x 4 px beside others, and pixels about them within three times their scatter."""
    ny, nx = (size // 4 for size in image.shape)
    blocks = image[: 4 * ny, : 4 * nx].astype(float).reshape(ny, 4, nx, 4)
    level, scatter = blocks.mean((1, 3)), blocks.std((1, 3))
    quiet = scatter < 0.15 * np.median(scatter[scatter > 0])
    marked = np.zeros(image.shape, bool)
    for row, column in np.argwhere(quiet):
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        if not any(quiet[y, x] for y, x in around if 0 <= y < ny and 0 <= x < nx):
            continue
        marked[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = True
        near = np.s_[max(0, 4 * row - 4) : 4 * row + 8, max(0, 4 * column - 4) : 4 * column + 8]
        marked[near] |= abs(image[near] - level[row, column]) <= 3 * scatter[row, column]
    return marked


@pytest.mark.parametrize("shape", [(48, 52), (50, 55), (43, 41), (4, 60), (60, 7)])
def test_flat_regions_are_those_of_the_definition(shape):
    found = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        rough = np.kron(rng.choice([1.0, 1.0, 0.3, 0.1, 0.02], (15, 15)), np.ones((4, 4)))[: shape[0], : shape[1]]
        image = (50 + rng.normal(size=shape) * rough).astype(np.float32)
        marked = flat_regions(image)
        np.testing.assert_array_equal(marked, flat_by_definition(image))
        found += marked.sum()
    assert found > 0


def test_one_quiet_block_alone_or_beside_another_only_at_a_corner_is_no_flat_region():
    image = sky(5, shape=(40, 40))
    image[8:12, 8:12] = image[12:16, 12:16] = 0.5
    assert not flat_regions(image).any()
    image[12:16, 8:12] = 0.5
    assert flat_regions(image)[8:16, 8:12].all()
