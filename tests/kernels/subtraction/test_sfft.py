from importlib.util import find_spec

import numba
import numpy as np
import pytest
from scipy.signal import fftconvolve

from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.subtraction import sfft
from kernels.subtraction.blocks import Flattened, blocks_of
from kernels.subtraction.sfft import require_sfft, sfft_grid, subtract_template
from kernels.trails.trail_model import trail_image
from schemas.errors import Misconfigured

installed = pytest.mark.skipif(find_spec("sfft") is None, reason="the package sfft is not installed")


def psf(fwhm: float, half: int = 15) -> np.ndarray:
    stamp = trail_image((2 * half + 1,) * 2, half, half, 0.0, 0.0, moffat_mixture(fwhm, 3.0))
    return stamp / stamp.sum()


@installed
def test_sfft_finds_the_kernel_between_two_images():
    rng = np.random.default_rng(4)
    shape = (200, 200)
    sharp = np.zeros(shape, np.float32)
    for _ in range(40):
        row, column = rng.integers(25, 175, 2)
        sharp[row - 15 : row + 16, column - 15 : column + 16] += rng.uniform(2e3, 2e4) * psf(2.2)
    kernel = psf(2.0, half=4)
    wide = fftconvolve(sharp, kernel, "same").astype(np.float32)
    pair = [Flattened((image + rng.normal(0, 0.5, shape)).astype(np.float32), np.ones(1)) for image in (wide, sharp)]
    known = np.array([[psf(3.0), psf(2.2)]], np.float32)
    grid = sfft_grid(pair, np.ones(shape, bool), known, blocks_of(shape))
    assert np.std(grid.difference(pair[0].image, pair[1].image)[20:-20, 20:-20]) < 1.0
    assert grid.template.sum() == pytest.approx(1, abs=0.01)
    assert callable(numba.set_num_threads)  # it leaves numba as it was


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("kernels.subtraction.sfft.find_spec", lambda name: None)
    with pytest.raises(Misconfigured, match=r"pip install 'nightstride\[subtract\]'") as caught:
        require_sfft()
    assert caught.value.code == "no_sfft"


SHAPE, SIGMA = (300, 320), 2.0
NEW = (140.3, 160.6, 9000.0)


def image(fwhm, scale, level, sigma, *, new=False, seed=0, offset=(0.0, 0.0)):
    """Forty stars on a sloping sky, with or without a new one; a pixel's light is that of its middle part."""
    rng = np.random.default_rng(7)
    out = level + np.linspace(0, 3 * sigma, SHAPE[1])[None, :] + np.zeros(SHAPE)
    stars = [(*rng.uniform(15, 285, 2), rng.uniform(2e3, 6e4)) for _ in range(40)]
    for x, y, flux in [*stars, *([NEW] if new else [])]:
        out += scale * flux * trail_image(SHAPE, x + offset[0], y + offset[1], 0.0, 0.0, moffat_mixture(fwhm, 3.5))
    return (out + np.random.default_rng(seed).normal(0, sigma, SHAPE)).astype(np.float32)


def all_of(science):
    return np.ones(science.shape, bool)


@installed
@pytest.mark.parametrize("widths", [(3.4, 2.4), (2.4, 3.4)])
def test_stars_go_and_what_is_new_stays_in_the_unit_of_the_science_image(widths):
    science = image(widths[0], 1.0, 300.0, SIGMA, new=True, seed=1)
    template = image(widths[1], 0.4, 90.0, 0.3, seed=2)
    found = subtract_template(science, template, (all_of(science), all_of(science)))
    assert found.scale == pytest.approx(2.5, rel=0.02)
    assert found.residual < 0.02
    assert found.stars > 10
    assert found.psf[0] == pytest.approx(3.4, abs=0.15)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    near = np.hypot(x - NEW[0], y - NEW[1]) < 14
    shape = trail_image(SHAPE, NEW[0], NEW[1], 0.0, 0.0, moffat_mixture(3.4, 3.5))
    flux = (found.image * shape)[near].sum() / np.square(shape)[near].sum()
    assert flux == pytest.approx(NEW[2], rel=0.05)
    quiet = ~near & ~found.unusable
    assert 1.4826 * np.median(np.abs(found.image[quiet])) < 1.2 * np.hypot(SIGMA, 2.5 * 0.3)
    assert np.abs(found.image[quiet]).max() < 25 * SIGMA


@installed
def test_holes_of_either_image_are_unusable_and_say_nothing():
    science, template = image(3.0, 1.0, 100.0, SIGMA, seed=3), image(2.4, 1.0, 100.0, 0.5, seed=4)
    usable = all_of(science), all_of(science)
    usable[0][40:50, 60:70] = False
    template[100:110, 200:220] = np.nan
    science[:, :4] = np.nan
    found = subtract_template(science, template, usable)
    assert np.isfinite(found.image).all()
    for hole in (np.s_[40:50, 60:70], np.s_[100:110, 200:220], np.s_[:, :4]):
        assert found.unusable[hole].all()
        assert not found.image[hole].any()
    assert found.unusable[9:-9, 9:-9].mean() < 0.02


@pytest.mark.parametrize("widths", [(3.0, 2.4), (2.4, 3.0)])
def test_a_template_of_a_part_of_the_field_is_subtracted_there(monkeypatch, widths):
    """The first two of three blocks hold none of it; no package is asked."""
    solved, total = [], 2.5 if widths[0] > widths[1] else 0.3
    monkeypatch.setattr(sfft, "require_sfft", lambda: None)
    monkeypatch.setattr(
        sfft, "_solved_by_sfft", lambda one, _, half: solved.append(one.any()) or total * psf(1.8, half)
    )
    science, template = image(widths[0], 1.0, 300.0, SIGMA, seed=1), image(widths[1], 0.4, 90.0, 0.3, seed=2)
    pair = np.pad(science, ((1200, 0), (0, 0)), mode="reflect"), np.pad(template, ((1200, 0), (0, 0)))
    covered = np.pad(all_of(template), ((1200, 0), (0, 0)))
    found = subtract_template(*pair, (all_of(pair[0]), covered))
    assert solved == [True]
    assert found.scale == pytest.approx(2.5, rel=0.1)
    assert found.psf[0] == pytest.approx(3.0, abs=0.15)
    assert found.unusable[:1200].all()


@installed
def test_images_of_other_fields_leave_their_stars():
    science, other = image(3.0, 1.0, 100.0, SIGMA, seed=5), image(2.4, 1.0, 100.0, 0.5, seed=6)
    found = subtract_template(science, np.ascontiguousarray(other[::-1]), (all_of(science), all_of(science)))
    assert found.residual > 0.3


@installed
def test_without_stars_nothing_can_be_matched():
    empty = np.random.default_rng(1).normal(50, 2, SHAPE).astype(np.float32)
    with pytest.raises(ValueError, match="science image has 0 stars"):
        subtract_template(empty, image(2.4, 1.0, 9.0, 0.5), (all_of(empty), all_of(empty)))


def test_pixels_about_what_stands_out_of_the_noise_count(monkeypatch):
    """Two sources, one of two and one of five hundred sigma at its peak; the package itself is not asked."""
    seen, shape, sigma = [], (300, 300), 10.0
    image = np.zeros(shape, np.float32)
    for row, column, peak in ((80, 80, 500), (220, 220, 2)):
        image[row - 15 : row + 16, column - 15 : column + 16] += peak * sigma * psf(2.2) / psf(2.2).max()
    monkeypatch.setattr(sfft, "require_sfft", lambda: None)
    monkeypatch.setattr(
        sfft, "_solved_by_sfft", lambda source, target, half: seen.append(target) or psf(2.0, half=half)
    )
    known = np.array([[psf(3.0), psf(2.2)]], np.float32)
    sfft_grid([Flattened(image + 1, np.full(1, sigma))] * 2, np.ones(shape, bool), known, blocks_of(shape))
    (used,) = seen
    assert (used[70:91, 70:91] != 0).all()
    assert (used[200:241, 200:241] == 0).all()


def turned_pair(sigma, offset=(0.0, 0.0), line=0.0):
    """A science image of 2.4 px, with a new star and a bright line, and a template of 3.4 px that lies elsewhere."""
    science = image(2.4, 1.0, 300.0, sigma, new=True, seed=1)
    template = image(3.4, 0.4, 90.0, 0.3, seed=2, offset=offset)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    science += (line * sigma * np.exp(-(((x - 0.7 * y - 60) / 1.5) ** 2))).astype(np.float32)
    return science, template


@installed
@pytest.mark.parametrize(
    ("sigma", "offset", "line"), [(2.0, (0.45, -0.3), 0), (25.0, (0.0, 0.0), 0), (8.0, (0.2, 0.1), 40)]
)
def test_what_is_convolved_keeps_its_places_and_fluxes(sigma, offset, line):
    """Where the WCS of the template is off, the science image is noisy, or a satellite crosses it."""
    science, template = turned_pair(sigma, offset, line)
    found = subtract_template(science, template, (all_of(science), all_of(science)))
    assert found.scale == pytest.approx(2.5, rel=0.03)
    assert found.residual < 0.03
    box = np.s_[150:172, 130:152]
    fits = [
        (np.square(found.image[box] - flux * shape).sum(), x, y, flux)
        for x in np.arange(NEW[0] - 0.6, NEW[0] + 0.61, 0.1)
        for y in np.arange(NEW[1] - 0.6, NEW[1] + 0.61, 0.1)
        for shape in [trail_image(SHAPE, x, y, 0.0, 0.0, moffat_mixture(*found.psf))[box]]
        for flux in [(found.image[box] * shape).sum() / np.square(shape).sum()]
    ]
    _, x, y, flux = min(fits)
    assert (x, y) == pytest.approx(NEW[:2], abs=0.16)
    assert flux == pytest.approx(NEW[2], rel=0.06)


def test_a_kernel_that_moves_and_weakens_is_set_right():
    """Of a known kernel; no package is asked."""
    by = (0.4, -0.7)
    science, template = (one - np.float32(level) for one, level in zip(turned_pair(0.1, by), (300, 90), strict=True))
    weak = 0.3 * fftconvolve(psf(2.2, 6), sfft._shift(np.array(by), 6), "same")
    grid = sfft.one_sided(True, np.array([weak]), np.array([[psf(2.4), psf(3.4)]], np.float32), blocks_of(SHAPE))
    stars = sfft.fit_stars(template, all_of(template), 0.0, 0.3)
    pair = [Flattened(one, np.ones(1)) for one in (science, template)]
    made, _ = sfft._as_science(grid, pair, stars, [(2.4, 3.5), (3.4, 3.5)], np.ones(1, bool))
    assert made.science.sum() == pytest.approx(1, abs=1e-5)
    spread = fftconvolve(psf(2.4), made.science[0], "same")
    assert sfft._centroid(spread, 3.4) == pytest.approx([0, 0], abs=0.03)
    left = sfft._core_light(made.difference(science, template), stars, 3.4) / sfft._core_light(science, stars, 3.4)
    assert abs(np.median(left)) < 0.02


@pytest.mark.parametrize("by", [(0.0, 0.0), (0.3, -0.4), (1.2, 0.5)])
def test_an_image_is_moved_by_less_than_a_pixel(by):
    here = trail_image((41, 41), 20.0, 20.0, 0.0, 0.0, moffat_mixture(2.5, 3.0))
    there = trail_image((41, 41), 20 + by[0], 20 + by[1], 0.0, 0.0, moffat_mixture(2.5, 3.0))
    moved = fftconvolve(here, sfft._shift(np.array(by), 5), "same")
    assert np.abs(moved - there).max() < 0.02 * there.max()


def test_a_block_with_few_sources_is_told_by_a_wider_area():
    blocks = blocks_of((1024, 1536))
    first, second, third = sfft._windows(blocks[4], blocks)
    assert first == (slice(512, 1024), slice(512, 1024))
    assert second == (slice(0, 1024), slice(256, 1280))
    assert third == (slice(0, 1024), slice(0, 1536))
    assert next(sfft._windows(blocks[0], blocks)) == (slice(0, 512), slice(0, 512))


def test_of_a_science_image_that_is_convolved_only_what_both_show_counts():
    """Not the fourth source, which the template lacks, nor the area of the third, which that light reaches."""
    science, template = np.zeros((9, 120), np.float32), np.zeros((9, 120), np.float32)
    columns = [10, 50, 90, 110]
    science[4, columns], template[4, columns] = (50, 5, 50, 50), (50, 50, 4, 2)
    both, alone = sfft._on_both(*(Flattened(one, np.ones(1)) for one in (science, template)))
    assert (np.flatnonzero(both[4]).tolist(), np.flatnonzero(alone[4]).tolist()) == ([10, 90], [110])
    areas = np.zeros(both.shape, bool)
    areas[:, 5:16] = areas[:, 80:111] = True
    left = sfft._without(areas, alone)
    assert np.flatnonzero(left[4]).tolist() == list(range(5, 16))
