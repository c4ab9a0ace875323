import galsim
import numpy as np
import pytest

from kernels.psf.moments import adaptive_moments
from kernels.psf.psf_contrast import WIDTHS, psf_contrast
from tests.support.science import keys

PSF = galsim.Moffat(beta=3.0, fwhm=3.2)


def drawn(profile, x=0.0, y=0.0):
    return profile.drawImage(nx=26, ny=26, scale=1.0, offset=(x, y)).array[None].astype(np.float32)


def contrast(image, psf):
    source, point = adaptive_moments(image), adaptive_moments(psf)
    features = np.zeros((len(image), 1 + 2 * len(WIDTHS)), np.float32)
    left = np.zeros_like(image)
    shift = np.stack([source.x - point.x, source.y - point.y], 1)
    psf_contrast(image, psf, shift, np.stack([source.x, source.y], 1), point.sigma, features, left)
    return features, left


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.4, -0.3), (-0.5, 0.5), (1.2, 0.7)])
def test_a_point_source_leaves_nothing_wherever_it_lies(x, y):
    psf = drawn(PSF)
    features, left = contrast(drawn(500 * PSF, x, y), psf / psf.max())
    assert np.abs(left[:, 4:-4, 4:-4]).max() < 1.2
    assert features[0, 0] < 0
    np.testing.assert_allclose(features[0, 1 + len(WIDTHS) :], 0, atol=0.03)


def test_a_galaxy_has_more_light_outside_the_more_so_the_wider():
    psf = drawn(PSF)
    features, _ = contrast(drawn(500 * galsim.Convolve(PSF, galsim.Exponential(scale_radius=1.0))), psf / psf.max())
    shares = features[0, 1 + len(WIDTHS) :]
    assert shares[0] < 0 < shares[-1]
    assert (np.diff(shares) > 0).all()
    assert features[0, 0] > 1


def test_significance_grows_with_brightness_the_share_does_not():
    psf = drawn(PSF)
    galaxy = galsim.Convolve(PSF, galsim.Exponential(scale_radius=0.8))
    faint, bright = (contrast(drawn(flux * galaxy), psf / psf.max())[0][0] for flux in (100, 300))
    assert bright[len(WIDTHS)] > faint[len(WIDTHS)]
    np.testing.assert_allclose(faint[1 + len(WIDTHS) :], bright[1 + len(WIDTHS) :], atol=1e-3)


def test_without_psf_nothing_is_written():
    features, left = np.full((1, 9), 7, np.float32), np.full((1, 26, 26), 7, np.float32)
    nothing = np.zeros((1, 2), np.float32)
    psf_contrast(drawn(PSF), drawn(PSF), nothing, nothing, np.zeros(1, np.float32), features, left)
    assert (features == 7).all()
    assert (left == 7).all()


def moved(psf, x, y):
    place = np.arange(len(psf))
    return keys(place[:, None] - y - place) @ psf.astype(float) @ keys(place[:, None] - x - place).T


def expected_contrast(image, psf, shift, centre, sigma):
    """The same in whole-array arithmetic, of one image."""
    side, image = len(image), image.astype(float)
    row, column = np.mgrid[:side, :side] - (side - 1) / 2
    square = (row - centre[1]) ** 2 + (column - centre[0]) ** 2
    point, inside = moved(psf, *shift), square <= 9 * sigma**2
    norm = (point[inside] ** 2).sum()
    fit = max((image * point)[inside].sum() / norm, 0.0) * point if norm > 0 else 0 * point
    variance = 1 + (0.02 * fit) ** 2
    left = (image - fit) / np.sqrt(variance)
    features = [np.log(max((left[inside] ** 2).mean() if inside.any() else 0.0, 0.01))]
    bells = [np.exp(-square / (2 * (width * sigma) ** 2)) for width in (0.7, 1.2, 2.0, 3.0)]
    features += [np.arcsinh((bell * (image - fit)).sum() / np.sqrt((bell**2 * variance).sum())) for bell in bells]
    share = [(bell * (image - fit)).sum() / (bell * fit).sum() if (bell * fit).sum() > 0 else np.inf for bell in bells]
    return np.array(features + np.clip(share, -1, 3).tolist()), left


def told(image, psf, shift, centre, sigma):
    features, left = np.zeros((1, 9), np.float32), np.zeros((1, *image.shape), np.float32)
    one = [np.array([value], np.float32) for value in (shift, centre)]
    psf_contrast(image[None], psf[None], *one, np.array([sigma], np.float32), features, left)
    return features[0], left[0]


@pytest.mark.parametrize(
    ("shift", "centre", "sigma"),
    [
        ((0.0, 0.0), (0.5, 0.5), 1.3),
        ((0.25, -0.75), (0.7, -0.2), 1.5),
        ((-2.4, 3.1), (-1.9, 3.6), 1.0),
        ((5.0, -6.5), (4.0, -6.0), 2.0),  # part of the PSF comes in from beyond the border
        ((-9.3, 11.2), (0.0, 0.0), 1.2),
    ],
)
@pytest.mark.parametrize(("flux", "noise"), [(500.0, 1.0), (20.0, 3.0), (0.0, 1.0), (-30.0, 1.0)])
def test_features_are_those_of_their_definition(shift, centre, sigma, flux, noise):
    """With light that is not that of a point, below and above what the limits cut off."""
    psf = np.random.default_rng(3).uniform(0.2, 1.0, (14, 14)).astype(np.float32)
    psf *= np.exp(-(np.add.outer(*[np.square(np.arange(14) - 7.0)] * 2)) / 8).astype(np.float32)
    image = np.random.default_rng(4).normal(0, noise, (14, 14)) + flux * moved(psf, shift[0] + 0.6, shift[1])
    image = image.astype(np.float32)
    features, left = told(image, psf, shift, centre, sigma)
    wanted, residuals = expected_contrast(image, psf, shift, centre, sigma)
    np.testing.assert_allclose(left, residuals, rtol=1e-4, atol=1e-4 * (1 + abs(flux) / 20))
    np.testing.assert_allclose(features, wanted, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("side", [13, 14])
def test_a_pixel_on_the_rim_of_the_fit_takes_part(side):
    """Of a PSF of 1 px 3 px away; only there is the image not the PSF."""
    psf = np.ones((side, side), np.float32)
    image, middle = psf.copy(), side // 2
    centre = np.full(2, middle - (side - 1) / 2)
    image[middle, middle + 3], image[middle - 3, middle - 1] = 30.0, 900.0
    inside = np.add.outer(*[np.square(np.arange(side) - middle)] * 2) <= 9
    assert inside.sum() == 29
    flux = (28 + 30) / 29
    _, left = told(image, psf, (0.0, 0.0), centre, 1.0)
    np.testing.assert_allclose(left[1, 1], (1 - flux) / np.sqrt(1 + (0.02 * flux) ** 2), rtol=1e-5)


def test_a_fit_to_no_pixel_has_no_flux_and_the_least_chi_squared():
    image = np.full((14, 14), 2.0, np.float32)
    features, left = told(image, np.ones((14, 14), np.float32), (0.0, 0.0), (0.0, 0.0), 0.1)  # between four pixels
    assert (left == 2).all()
    assert features[0] == pytest.approx(np.log(0.01))
    assert (features[5:] == 3).all()
    features, _ = told(np.zeros((14, 14), np.float32), np.ones((14, 14), np.float32), (0.0, 0.0), (0.5, 0.5), 1.0)
    assert features[0] == pytest.approx(np.log(0.01))
    np.testing.assert_array_equal(features[1:5], 0)


def test_a_single_pixel_is_enough_for_a_fit():
    image = np.full((13, 13), 4.0, np.float32)
    image[6, 6] = 2.0
    psf = np.full((13, 13), 0.5, np.float32)
    psf[6, 6] = 0.1
    _, left = told(image, psf, (0.0, 0.0), (0.0, 0.0), 0.1)
    assert left[6, 6] == pytest.approx(0, abs=1e-6)
    assert left[0, 0] == pytest.approx((4 - 10) / np.sqrt(1 + 0.2**2))
    psf[6, 6] = -0.1  # no flux, then
    assert told(image, psf, (0.0, 0.0), (0.0, 0.0), 0.1)[0][0] == pytest.approx(np.log(4))
