import numpy as np
import pytest

from flows.simulation.psf import moffat
from flows.simulation.subtraction import methods
from flows.simulation.subtraction.methods import convolution_grid, zogy_grid, zogy_kernels
from kernels.subtraction.blocks import Flattened, KernelGrid, blocks_of

ZERO = np.zeros(1)


def psf(fwhm: float, beta: float = 3.0, half: int = 15) -> np.ndarray:
    offset = np.arange(-half, half + 1.0)
    stamp = moffat(offset[None, :], offset[:, None], fwhm, beta, ZERO + 0.03, ZERO).astype(float)
    return stamp / stamp.sum()


def proper(science, template, psf_n, psf_r, sigma_n, sigma_r):
    """Equations 12 to 14 of Zackay, Ofek & Gal-Yam 2016 as they are printed, over the whole image, periodic."""
    flux_n = flux_r = 1.0

    def wave(stamp):
        whole = np.zeros(science.shape)
        whole[: stamp.shape[0], : stamp.shape[1]] = stamp
        return np.fft.fft2(np.roll(whole, [-(side // 2) for side in stamp.shape], (0, 1)))

    p_n, p_r, n, r = wave(psf_n), wave(psf_r), np.fft.fft2(science), np.fft.fft2(template)
    root = np.sqrt(sigma_n**2 * flux_r**2 * abs(p_r) ** 2 + sigma_r**2 * flux_n**2 * abs(p_n) ** 2)
    flux_d = flux_n * flux_r / np.sqrt(sigma_n**2 * flux_r**2 + sigma_r**2 * flux_n**2)
    d = (flux_r * p_r * n - flux_n * p_n * r) / root
    return np.fft.ifft2(d).real, np.fft.ifft2(flux_r * flux_n * p_r * p_n / flux_d / root).real, flux_d


@pytest.mark.parametrize(("fwhms", "sigmas"), [((2.0, 2.6), (5.0, 1.5)), ((3.0, 2.0), (4.0, 4.0))])
def test_zogy_is_the_printed_formula(fwhms, sigmas):
    rng = np.random.default_rng(1)
    shape = (300, 260)
    science, template = (sigma * rng.standard_normal(shape) for sigma in sigmas)
    science[140:160, 130] += 200
    psfs = psf(fwhms[0]), psf(fwhms[1])
    wanted, wanted_psf, flux_d = proper(science, template, *psfs, *sigmas)
    blocks = blocks_of(shape, 100)
    kernels = zogy_kernels(psfs, sigmas)
    grid = KernelGrid(blocks, *(np.repeat(part[None], len(blocks), 0).astype(np.float32) for part in kernels))
    found = grid.difference(science.astype(np.float32), template.astype(np.float32)) * flux_d
    inner = np.s_[40:-40, 40:-40]
    assert np.abs(found - wanted)[inner].max() < 0.01  # of a noise of 1
    middle = np.roll(wanted_psf, (12, 12), (0, 1))[:25, :25]
    assert np.abs(kernels[2][20:45, 20:45] - middle).max() < 1e-4
    assert np.std(wanted) == pytest.approx(1, abs=0.6)


def test_the_noise_of_a_proper_difference_is_white_and_as_stated():
    sigmas, blocks = (6.0, 2.5), blocks_of((200, 200), 100)
    psfs = np.repeat(np.array([[psf(2.2), psf(3.0)]]), 4, 0)
    pair = [Flattened(np.zeros((200, 200), np.float32), np.full(4, sigma)) for sigma in sigmas]
    grid = zogy_grid(pair, np.ones((200, 200), bool), psfs, blocks)
    correlation = grid.correlation(0, sigmas)
    assert correlation[5, 5] == 1
    correlation[5, 5] = 0
    assert np.abs(correlation).max() < 0.01
    planes = [np.full((200, 200), sigma**2, np.float32) for sigma in sigmas]
    middle = grid.variance(*planes)[70:130, 70:130]
    np.testing.assert_allclose(middle, sigmas[0] ** 2 + sigmas[1] ** 2, rtol=0.01)


def test_alard_and_lupton_find_the_kernel_between_two_images():
    """A scene of points, once in each PSF: what is left is far below a hundredth of the stars."""
    rng = np.random.default_rng(3)
    shape, side = (500, 520), 31
    places = np.stack([rng.uniform(30, extent - 30, 60) for extent in shape], axis=1)
    fluxes = rng.uniform(2e3, 2e4, 60)
    psfs = [psf(2.1), psf(3.0, 2.6)]
    images = []
    for one in ({"fwhm": 3.0, "beta": 2.6}, {"fwhm": 2.1, "beta": 3.0}):
        image = rng.normal(0, 1.0, shape).astype(np.float32)
        for (y, x), flux in zip(places, fluxes, strict=True):
            row, column = round(y), round(x)
            offset = np.arange(-20, 21.0)
            dx, dy = offset[None, :] + column - x, offset[:, None] + row - y
            image[row - 20 : row + 21, column - 20 : column + 21] += flux * moffat(dx, dy, **one, g1=ZERO, g2=ZERO)
        images.append(image)
    blocks = blocks_of(shape, 260)
    pair = [Flattened(image, np.ones(len(blocks))) for image in images]
    known = np.repeat(np.array([[psfs[1], psfs[0]]]), len(blocks), 0).astype(np.float32)
    assert known.shape[-1] == side
    for turned in (False, True):  # the template is convolved, then the science image
        step = -1 if turned else 1
        grid = convolution_grid(pair[::step], np.ones(shape, bool), known[:, ::step], blocks)
        assert ((grid.science != 0).sum((1, 2)).max() == 1) != turned
        left = grid.difference(*images[::step])
        peaks = [left[round(y), round(x)] / images[0][round(y), round(x)] for y, x in places]
        assert np.abs(peaks).max() < 0.03
        assert np.std(left[20:-20, 20:-20]) < 1.8
        np.testing.assert_allclose(grid.template.sum((1, 2)), 1, atol=0.01)
        np.testing.assert_allclose(grid.psf.sum((1, 2)), 1, atol=1e-4)


def test_without_stars_nothing_is_convolved():
    blocks, shape = blocks_of((120, 120)), (120, 120)
    pair = [Flattened(np.zeros(shape, np.float32), np.ones(1)) for _ in range(2)]
    known = np.array([[psf(3.0), psf(2.0)]], np.float32)
    grid = convolution_grid(pair, np.ones(shape, bool), known, blocks)
    middle = np.s_[:, grid.template.shape[1] // 2, grid.template.shape[2] // 2]
    assert grid.template.sum() == grid.template[middle].sum() == len(blocks)


@pytest.mark.parametrize(("count", "matched"), [(2, False), (3, True)])
def test_a_kernel_takes_three_stars(count, matched):
    """Two images that are alike but for their width, with few stars, each in a square of its own."""
    blocks, shape = blocks_of((600, 600), 600), (600, 600)
    rng = np.random.default_rng(2)
    images = [rng.normal(0, 1.0, shape).astype(np.float32) for _ in range(2)]
    for row, column in [(100, 100), (300, 300), (500, 100)][:count]:
        for image, fwhm in zip(images, (3.0, 2.0), strict=True):
            image[row - 15 : row + 16, column - 15 : column + 16] += 3e4 * psf(fwhm)
    known = np.array([[psf(3.0), psf(2.0)]], np.float32)
    grid = convolution_grid([Flattened(image, np.ones(1)) for image in images], np.ones(shape, bool), known, blocks)
    assert ((grid.template != 0).sum() > 1) == matched
    if matched:
        left = grid.difference(*images)
        assert abs(left[100, 100]) < 0.05 * images[0][100, 100]


def test_a_stamp_counts_by_the_noise_of_its_pixels():
    """Variance: of the sky, the light's own in that unit, and a fiftieth of the light; the kernel has one pixel."""
    rng, half = np.random.default_rng(5), 2
    one = np.zeros((1, 2 * half + 1, 2 * half + 1))
    one[0, half, half] = 1
    source, target = (rng.normal(0, 100, (90, 90)).astype(np.float32) for _ in range(2))
    place = np.array([[45, 44]])
    grams, sides, stamps = methods._normal_equations(source, target, place, methods._Basis(one, half), 3.0)
    here = np.s_[45 - methods.STAMP : 46 + methods.STAMP, 44 - methods.STAMP : 45 + methods.STAMP]
    x, y = source[here].astype(float).ravel(), target[here].astype(float).ravel()
    sigma = np.sqrt(9 + 3 * np.where(y > 0, y, 0) + (y / 50) ** 2)
    design = np.stack([x, np.ones(len(x))], 1) / sigma[:, None]
    np.testing.assert_allclose(grams[0], design.T @ design, rtol=1e-5)
    np.testing.assert_allclose(sides[0], design.T @ (y / sigma), rtol=1e-5)
    np.testing.assert_allclose(stamps[0], np.square(y / sigma).sum(), rtol=1e-6)
