import galsim
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.candidates import Candidate
from kernels.trails.geometry import DetectedSegment, from_ends
from kernels.trails.satellites import classify_satellites, is_satellite, longest_asteroid, wing_radius
from schemas.pixels import MaskPlane

PSF = moffat_mixture(2.3, 3.0)
MASK = np.zeros((400, 500), np.uint16)


def test_a_geostationary_satellite_is_too_fast_and_a_fast_asteroid_is_not():
    longest = longest_asteroid(30.0, 1.01, (3080, 3072))
    assert longest < 15.04 * 30 / 1.01  # arcsec per second of sidereal time
    assert longest > 50 * 3600 / 86400 * 30 / 1.01  # 50 deg per day
    assert longest_asteroid(30.0, 0.2, (4000, 4072)) == pytest.approx(longest * 1.01 / 0.2)


def test_limit_without_scale_or_time_is_a_quarter_of_the_image():
    assert longest_asteroid(30.0, None, (3080, 3072)) == 768
    assert longest_asteroid(0.0, 1.0, (3080, 3072)) == 768
    assert longest_asteroid(0.1, 1.0, (3080, 3072)) == 60


def test_longer_than_any_asteroid():
    assert is_satellite(DetectedSegment(250, 200, 260, 30, 50), MASK, 250.0, 2.3)
    assert not is_satellite(DetectedSegment(250, 200, 240, 30, 50), MASK, 250.0, 2.3)


def test_a_trail_as_long_as_the_longest_asteroids_is_none_of_a_satellite():
    assert not is_satellite(DetectedSegment(250, 200, 250, 30, 50), MASK, 250.0, 2.3)


@pytest.mark.parametrize(("length", "found"), [(20.0, True), (19.9, False)])
def test_ten_fwhm_are_enough_to_cross(length, found):
    mask = MASK.copy()
    mask[:, :241] = mask[:, 260:] = MaskPlane.EDGE
    assert is_satellite(DetectedSegment(250, 200, length, 0, 50), mask, 250.0, 2.0) == found


@pytest.mark.parametrize("trail", [(250, 0, 60, 0), (250, 399, 60, 0), (0, 200, 60, 90), (499, 200, 60, 90)])
def test_along_the_last_pixels_nothing_enters_or_leaves(trail):
    assert not is_satellite(DetectedSegment(*trail, 50), MASK, 250.0, 2.3)


def test_across_a_corner():
    assert is_satellite(from_ends(0, 60, 45, 0, 50), MASK, 250.0, 2.3)
    assert is_satellite(from_ends(499, 360, 455, 399, 50), MASK, 250.0, 2.3)


def test_one_end_at_the_border_is_not_enough():
    assert not is_satellite(from_ends(0, 60, 45, 30, 50), MASK, 250.0, 2.3)
    assert not is_satellite(from_ends(0, 3, 12, 0, 50), MASK, 250.0, 2.3)


def test_the_border_is_where_coverage_ends_but_not_a_masked_star():
    trail = from_ends(101, 60, 200, 60, 50)
    edge, star = MASK.copy(), MASK.copy()
    for mask, plane in ((edge, MaskPlane.EDGE), (star, MaskPlane.SAT)):
        mask[:, :100] = mask[:, 202:] = plane
    assert is_satellite(trail, edge, 250.0, 2.3)
    assert not is_satellite(trail, star, 250.0, 2.3)


@pytest.mark.parametrize("peak", [3.0, 30.0, 300.0])
def test_wings_end_where_a_trail_drawn_by_galsim_falls_to_the_noise(peak):
    line = galsim.Convolve(galsim.Moffat(beta=3, fwhm=2.3), galsim.Box(width=400, height=1e-3))
    image = line.drawImage(nx=5, ny=81, scale=1.0).array[:, 2]
    above = np.flatnonzero(peak * image / image.max() >= 1).max() - 40
    # S/N of the line of length L whose cross-section is matched by a Gaussian of the PSF's width
    weight = np.exp(-4 * np.log(2) * np.square(np.arange(-40, 41) / 2.3))
    snr = peak * (weight @ image / image.max()) / np.sqrt(np.square(weight).sum()) * np.sqrt(400)
    assert wing_radius(DetectedSegment(0, 0, 400, 0, snr), PSF, 2.3) == pytest.approx(max(above, 4.6), abs=1.2)


def test_wings_have_a_limit():
    assert 18 < wing_radius(DetectedSegment(0, 0, 400, 0, 1e9), PSF, 2.3) <= 25
    assert wing_radius(DetectedSegment(0, 0, 400, 0, 1.0), PSF, 2.3) == 4.6


MASK_TRAIL_CLASS = np.zeros((600, 600), np.uint16)


def classes(*candidates):
    return classify_satellites(candidates, MASK_TRAIL_CLASS, 250.0, moffat_mixture(2.3, 3.0), 2.3)


def candidate(x, y, length, angle=0.0, snr=20.0, logits=(1.0,), flashes=False):
    return Candidate(DetectedSegment(x, y, length, angle, snr), logits, flashes)


def test_long_trails_flashes_and_the_rest():
    found = classes(
        candidate(300, 300, 400), candidate(300, 100, 90), candidate(300, 500, 350, flashes=True), candidate(9, 9, 0)
    )
    assert {one.candidate.trail.y: one.trail_class for one in found} == {
        300: "satellite", 500: "glint_trail", 100: "", 9: ""
    }  # fmt: skip
    assert all((one.half_width > 0) == (one.trail_class != "") for one in found)


def test_a_satellite_takes_what_lies_in_its_light_with_its_hits():
    bright = candidate(300, 300, 400, snr=3000.0, logits=(5.0,))
    found = classes(bright, candidate(280, 305, 4, snr=9.0, logits=(2.0, 3.0)), candidate(300, 330, 20))
    satellite, other = found
    assert sorted(satellite.candidate.logits) == [2, 3, 5]
    assert (other.candidate.trail.y, other.trail_class) == (330, "")


def test_what_crosses_it_stays():
    found = classes(candidate(300, 300, 400, snr=300.0), candidate(300, 300, 40, angle=70.0))
    assert len(found) == 2


def crosses(*ends, fwhm=2.0, border=None, longest=500.0):
    mask = np.zeros((80, 120), np.uint16)
    if border is not None:
        mask[border] = MaskPlane.EDGE
    found = [is_satellite(from_ends(*one, 9.0), mask, longest, fwhm) for one in (ends, ends[2:] + ends[:2])]
    assert found[0] == found[1]
    return found[0]


def test_both_ends_of_what_crosses_the_image_are_within_two_fwhm_of_its_border():
    for left, right, crossing in ((3, 116, True), (4, 116, False), (3, 115, False)):  # 4 px on is beyond the image
        assert crosses(left, 40, right, 40) == crossing
    for low, high, crossing in ((3, 76, True), (4, 76, False), (3, 75, False)):
        assert crosses(60, low, 60, high) == crossing
    assert crosses(30, 40, 116, 40, border=(slice(None), 26))
    assert not crosses(30, 40, 116, 40, border=(slice(None), 25))


def test_what_is_shorter_than_ten_fwhm_crosses_nothing():
    assert crosses(3, 20, 3, 76, fwhm=2.0, border=(slice(0, 17), slice(None)))
    assert crosses(3, 56, 3, 76, fwhm=2.0, border=(slice(0, 53), slice(None)))
    assert not crosses(3, 56.01, 3, 76, fwhm=2.0, border=(slice(0, 53), slice(None)))


def test_only_what_is_longer_than_any_asteroid_is_a_satellite_for_its_length():
    assert not crosses(30, 40, 80, 40, longest=50.0)
    assert crosses(30, 40, 80.01, 40, longest=50.0)


@pytest.mark.parametrize(
    ("length", "snr"), [(400.0, 900.0), (90.0, 2000.0), (400.0, 5000.0), (0.5, 60.0), (4.0, 400.0)]
)
@pytest.mark.parametrize("fwhm", [2.3, 3.1])
def test_wings_end_at_the_last_quarter_of_a_pixel_above_the_noise(length, snr, fwhm):
    psf, sigma = moffat_mixture(fwhm, 3.0), fwhm / 2.354820045
    square = quad(lambda x: np.exp(-(x**2) / sigma**2), -30, 30)[0]  # of the Gaussian that matches the cross-section
    peak = snr / np.sqrt(max(length, 1)) / np.sqrt(square)

    def excess(radius):
        ridge = [w / s * np.exp(-(radius**2) / (2 * s**2)) for w, s in zip(psf.weights, psf.sigmas, strict=True)]
        return peak * sum(ridge) / (psf.weights / psf.sigmas).sum() - 1

    last = np.floor(4 * brentq(excess, 0, 60)) / 4
    found = wing_radius(DetectedSegment(0, 0, length, 0, snr), psf, fwhm)
    assert found == pytest.approx(np.clip(last, 2 * fwhm, 25))


def test_the_longest_asteroid_by_hand():
    """200 degrees a day are 8.333 arcsec a second."""
    assert longest_asteroid(30.0, 1.0, (3000, 3000)) == pytest.approx(250)
    assert longest_asteroid(60.0, 0.5, (3000, 3000)) == pytest.approx(1000)
    assert longest_asteroid(0.5, 1.0, (3000, 3000)) == 60
    assert longest_asteroid(-1.0, 1.0, (400, 3000)) == 100
    assert longest_asteroid(30.0, None, (200, 100)) == 60
