import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from kernels.flat_regions import flat_regions


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
    # A pixel of sky beside a border may lie as near to its value as makes no difference.
    assert marked[top:, :-left].sum() < 0.1 * (400 + 360)
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
