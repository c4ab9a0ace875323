import math

import galsim
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from benchmarks.detection.veto_images import SIGMA, Picture, asteroid, blank, cosmic_ray, hot_column, sky, trail
from kernels.image.noise import Noise
from kernels.measure.vetoes.detector_defects import (
    _excess,
    _sharp_light,
    cosmic_ray_evidence,
    hot_column_evidence,
    neighbour_share,
)
from kernels.psf.gaussian_mixture import fwhm_before_pixels, moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from kernels.trails.trail_model import trail_image


def evidence(picture, flux, fwhm=2.3):
    return cosmic_ray_evidence(picture.scene(fwhm), picture.trail, flux, 0.0)


@pytest.mark.parametrize("length", [1, 2, 5, 14, 40])
@pytest.mark.parametrize("fwhm", [1.6, 2.3, 4.0])
def test_tracks_of_any_length_whatever_the_psf(length, fwhm):
    assert evidence(cosmic_ray(length), 420.0 * length, fwhm) >= 1.5


@pytest.mark.parametrize("fwhm", [1.6, 2.3, 4.0])
@pytest.mark.parametrize("length", [0.0, 3.0, 25.0])
@pytest.mark.parametrize("flux", [600.0, 4000.0, 100000.0])
def test_what_came_through_the_telescope_is_none_at_any_place_on_the_pixels(fwhm, length, flux):
    for shift in (0.0, 0.25, 0.5):
        picture = asteroid(80 + shift, 80 - shift, length, 20 + 100 * shift, flux, fwhm)
        assert evidence(picture, flux, fwhm) < 0.5


def test_the_psf_may_be_taken_for_15_per_cent_too_wide():
    for shift in (0.0, 0.3):
        picture = asteroid(80 + shift, 80.0, 0.0, 0.0, 9000.0, 2.0)
        assert evidence(picture, 9000.0, 2.3) < 1


def test_a_ray_on_a_bright_trail_leaves_it_an_asteroid():
    picture = asteroid(length=30.0, flux=20000.0)
    picture.pixels[80, 80] += 30 * SIGMA
    assert evidence(picture, 20000.0) < 1


def test_noise_is_none():
    assert evidence(asteroid(flux=0.0), 100.0) == 0
    assert evidence(asteroid(flux=0.0), -100.0) == 0


@pytest.mark.parametrize("fwhm", [1.6, 2.3, 4.0])
def test_share_of_a_neighbour_is_that_of_a_star_drawn_by_galsim(fwhm):
    image = galsim.Moffat(beta=3, fwhm=fwhm).drawImage(nx=15, ny=15, scale=1.0).array
    psf = moffat_mixture(fwhm, 3.0)
    assert neighbour_share(psf, 1.0) == pytest.approx(image[7, 8] / image[7, 7], rel=0.05)
    assert neighbour_share(psf, math.sqrt(2)) == pytest.approx(image[8, 8] / image[7, 7], rel=0.08)
    assert fwhm_before_pixels(fwhm, 3.0) < fwhm


def test_at_the_border_and_beside_masked_pixels():
    picture = cosmic_ray(14)
    picture.mask[78] = 1
    picture.pixels[0, 0] += 3000
    assert evidence(picture, 3000.0) >= 1
    assert np.isfinite(evidence(picture._replace(trail=Segment(0.0, 0.0, 3.0, 0.0)), 3000.0))


def evidence_hot_column(picture):
    return hot_column_evidence(picture.scene(), picture.trail)


def turned(picture):
    """The same along a row."""
    x, y, length, angle = picture.trail
    return Picture(picture.pixels.T.copy(), picture.mask.T.copy(), Segment(y, x, length, 90 - angle))


@pytest.mark.parametrize("side", [lambda picture: picture, turned], ids=["column", "row"])
def test_a_piece_of_a_hot_column(side):
    assert evidence_hot_column(side(hot_column())) >= 1.5
    assert evidence_hot_column(side(hot_column()._replace(trail=Segment(80.0, 80.0, 3.0, 40.0)))) >= 1


def test_a_trail_that_is_the_whole_defect():
    picture = hot_column(60, 101)._replace(trail=Segment(80.0, 80.0, 41.0, 90.0))
    assert evidence_hot_column(picture) >= 1.5


@pytest.mark.parametrize("fwhm", [1.6, 2.3])
@pytest.mark.parametrize("x", [80.0, 80.5])
@pytest.mark.parametrize("flux", [2000.0, 30000.0])
def test_an_asteroid_along_a_column_is_none(fwhm, x, flux):
    picture = asteroid(x, 80.0, 40.0, 90.0, flux, fwhm)
    assert hot_column_evidence(picture.scene(fwhm), picture.trail) < 1


def test_a_bright_asteroid_on_a_warm_column_is_none():
    pixels = hot_column(0, 161).pixels + trail(80.2, 80, 10, 90, 15000)
    assert evidence_hot_column(Picture(pixels, blank(), Segment(80.2, 80.0, 10.0, 90.0))) < 1


def test_an_asteroid_across_a_hot_column_is_none():
    pixels = hot_column(0, 161).pixels + trail(80, 80, 30, 30, 6000)
    assert evidence_hot_column(Picture(pixels, blank(), Segment(80.0, 80.0, 30.0, 30.0))) == 0


def test_noise_and_the_border():
    assert evidence_hot_column(Picture(sky(), blank(), Segment(80.0, 80.0, 20.0, 90.0))) < 1
    for x, y in ((0.0, 80.0), (160.0, 2.0), (3.0, 160.0)):
        assert np.isfinite(evidence_hot_column(Picture(sky(), blank(), Segment(x, y, 10.0, 90.0))))


def empty(shape=(31, 33), level=0.0):
    """Scene without any noise in its pixels; 10 per pixel is what is known of the noise."""
    pixels = np.full(shape, level, np.float32)
    return Scene(pixels, np.ones(shape, bool), moffat_mixture(2.3, 3.0), 2.3, Noise(10.0, np.ones((1, 1))))


def ray(values, trail=Segment(15.0, 15.0, 2.0, 0.0), flux=100.0, masked=(), scene=None):  # noqa: B008
    """Evidence of pixels (row, column) -> value."""
    scene = empty() if scene is None else scene
    for place, value in values.items():
        scene.pixels[place] = value
    for place in masked:
        scene.usable[place] = False
    return cosmic_ray_evidence(scene, trail, flux, 0.0)


PAIRS = [((0, -1), (0, 1)), ((-1, 0), (1, 0)), ((-1, -1), (1, 1)), ((-1, 1), (1, -1))]


def beside(place, *steps):
    return [(place[0] + dy, place[1] + dx) for dy, dx in steps]


def all_but(*places):
    return [place for place in np.ndindex(31, 33) if place not in places]


@pytest.mark.parametrize(
    ("value", "flux", "expected"),
    [
        (39.9, 10.0, 0.0),
        (40.0, 10.0, 0.4),  # 40 / 10 sigma
        (60.0, 1e-3, 0.6),
        (3000.0, 20000.0, 0.5),  # 3000 / (0.3 flux)
        (3000.0, 1.0, 2.5),
        (3000.0, 0.0, 0.0),
        (3000.0, -1.0, 0.0),
    ],
)
def test_a_sharp_pixel_counts_from_4_sigma_on_by_its_noise_and_the_flux(value, flux, expected):
    assert ray({(15, 15): value}, flux=flux) == pytest.approx(expected)


def test_light_that_is_not_sharp_counts_against_a_ray():
    scene, trail = empty(), Segment(18.0, 15.0, 12.0, 0.0)
    scene.pixels[:] = 4000 * trail_image((31, 33), 14.0, 15.0, 0.0, 0.0, scene.psf)
    star = sum(
        float(light) for (y, x), light in np.ndenumerate(scene.pixels) if light >= 40 and trail.distance(x, y) <= 2.3
    )
    assert ray({(15, 23): 500.0}, trail, 1.0, scene=scene) == pytest.approx(500 / (500 + star) / 0.4, rel=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_one_direction_in_which_it_is_too_sharp_is_enough(pair):
    middle, ends = (15, 15), beside((15, 15), *pair)
    assert ray({middle: 3000.0}, masked=all_but(middle, *ends)) == 2.5
    for one in ends:
        assert ray({middle: 3000.0}, masked=[one, *all_but(middle, *ends)]) == 0
        assert ray({middle: 3000.0, one: 3000.0}, masked=all_but(middle, *ends)) == 0


@pytest.mark.parametrize("side", [0, 1])
def test_a_pair_with_a_dark_pixel_tells_nothing(side):
    dark = beside((15, 15), *(pair[side] for pair in PAIRS))
    assert ray({(15, 15): 3000.0} | dict.fromkeys(dark, -30.0)) == 2.5  # 3 sigma, not beyond
    assert ray({(15, 15): 3000.0} | dict.fromkeys(dark, -30.1)) == 0


def test_a_pixel_at_the_border_has_only_the_pairs_along_it():
    ny, nx = 31, 33
    corners = [(0, 0), (0, nx - 1), (ny - 1, 0), (ny - 1, nx - 1)]
    sides = [(0, 15), (ny - 1, 15), (15, 0), (15, nx - 1)]
    for y, x in corners:
        assert ray({(y, x): 3000.0}, Segment(x, y, 2.0, 0.0)) == 0
    for y, x in sides:
        along, across = (PAIRS[0], PAIRS[1]) if x == 15 else (PAIRS[1], PAIRS[0])
        assert ray({(y, x): 3000.0}, Segment(x, y, 2.0, 0.0)) == 2.5
        assert ray({(y, x): 3000.0}, Segment(x, y, 2.0, 0.0), masked=beside((y, x), along[0])) == 0
        inner = (min(max(y, 1), ny - 2), min(max(x, 1), nx - 2))  # its outer neighbours are in the outermost row
        hidden = all_but(inner, *beside(inner, *across))
        assert ray({inner: 3000.0}, Segment(inner[1], inner[0], 2.0, 0.0), masked=hidden) == 2.5


def test_nothing_is_read_beyond_the_image():
    """Not compiled, as compiled code would read on."""
    pixels = np.full((3, 4), 100.0, np.float32)
    rows, columns = (one.ravel().astype(np.int32) for one in np.indices(pixels.shape))
    light = _sharp_light.py_func(pixels, np.ones((3, 4), bool), rows, columns, 0.0, 10.0, np.inf, 0.5, 0.3)
    assert light == (1200.0, 0.0)


@pytest.mark.parametrize("gain", [0.5, np.inf])
@pytest.mark.parametrize(("pair", "distance"), [(PAIRS[0], 1.0), (PAIRS[2], math.sqrt(2)), (PAIRS[3], math.sqrt(2))])
def test_too_sharp_is_30_per_cent_and_2_sigma_below_what_the_psf_leaves(pair, distance, gain):
    value, scene = 400.0, empty()
    scene = scene._replace(noise=scene.noise._replace(gain=gain))
    share = 0.7 * neighbour_share(scene.psf, distance)

    def lacking(mean):
        """By how many standard deviations the mean of two neighbours is below the least."""
        variance = (10**2 + mean / gain) / 2 + share**2 * 10**2
        return (share * value - mean) / math.sqrt(variance)

    limit = brentq(lambda mean: lacking(mean) - 2, 0, value)
    hidden = all_but((15, 15), *beside((15, 15), *pair))
    for mean, sharp in ((limit - 0.5, True), (limit + 0.5, False)):
        values = dict(zip(beside((15, 15), *pair), (mean - 5, mean + 5), strict=True))
        assert (ray({(15, 15): value} | values, masked=hidden, scene=scene) > 0) == sharp


def test_pixels_within_one_fwhm_or_2_px_are_looked_at():
    for fwhm, reach in ((1.0, 2), (3.0, 3)):
        scene = empty()._replace(fwhm_px=fwhm, psf=moffat_mixture(max(fwhm, 2.0), 3.0))
        for row, found in ((15 + reach, 2.5), (15 - reach, 2.5), (16 + reach, 0.0), (14 - reach, 0.0)):
            fresh = scene._replace(pixels=scene.pixels.copy())
            assert ray({(row, 15): 3000.0}, scene=fresh) == found


ALL = slice(None)


def line(heights, trail, masked=(), shape=(301, 161)):
    """Evidence of columns of given heights, [(rows, column, height)], on empty sky."""
    scene = empty(shape)
    for rows, column, height in heights:
        scene.pixels[rows, column] = height
    for place in masked:
        scene.usable[place] = False
    down = hot_column_evidence(scene, trail)
    turned = scene._replace(pixels=scene.pixels.T.copy(), usable=scene.usable.T.copy())
    x, y, length, angle = trail
    along = hot_column_evidence(turned, Segment(y, x, length, 90 - angle))
    assert along == pytest.approx(down)  # rows are as columns
    return down


ON = Segment(80.0, 150.0, 8.0, 90.0)  # of 3.5 FWHM
NOISE = 10 * math.sqrt(1.5)  # of a pixel less the mean of two
HERE = slice(142, 159)  # between what lies beyond


@pytest.mark.parametrize("beyond", [slice(159, 301), slice(0, 142)])
def test_a_column_that_goes_on_above_or_below(beyond):
    assert line([(HERE, 80, 100.0), (beyond, 80, 24.0)], ON) == pytest.approx(24 / 40)
    assert line([(HERE, 80, 100.0), (beyond, 80, 100.0)], ON) == 2
    assert line([(HERE, 80, 100.0), (beyond, 80, -100.0)], ON) == 0
    assert line([(HERE, 80, 100.0)], ON) == 0
    assert line([(beyond, 80, 100.0)], ON) == 0
    assert line([(HERE, 80, -100.0), (beyond, 80, 100.0)], ON) == 0


def test_a_faint_column_counts_by_its_noise():
    rows = 60  # from 8.6 to 68.6 px from the middle
    assert line([(ALL, 80, 5.0)], ON) == pytest.approx(5 * math.sqrt(rows) / NOISE / 5)


@pytest.mark.parametrize(("rows", "found"), [(15, 2.0), (14, 0.0)])
def test_fifteen_pixels_beyond_the_trail_are_needed(rows, found):
    assert line([(ALL, 80, 100.0)], ON, [(slice(159 + rows, 301), 80), (slice(0, 142), 80)]) == found
    assert line([(ALL, 80, 100.0)], ON, [(slice(0, 142 - rows), 80), (slice(159, 301), 80)]) == found


@pytest.mark.parametrize("neighbour", [78, 82])
def test_excess_is_that_above_both_columns_2_px_away(neighbour):
    assert line([(ALL, 80, 30.0), (ALL, neighbour, 60.0)], ON) == 0
    hidden = [(slice(156, 301), neighbour), (slice(0, 145), neighbour)]
    assert line([(ALL, 80, 30.0)], ON, hidden) == 0


def test_bright_pixels_beyond_the_trail_count_no_more_than_it_does():
    stars = [(ALL, 80, 0.0), (HERE, 80, 100.0), (slice(170, 220, 10), 80, 1e5)]  # 5 of 60 rows
    clipped = 5 * (4 * NOISE + 100) / 60
    assert line(stars, ON) == pytest.approx(min(clipped / 40, clipped * math.sqrt(60) / NOISE / 5))


@pytest.mark.parametrize(("angle", "found"), [(82.0, 2.0), (98.0, 2.0), (81.9, 0.0), (98.1, 0.0), (262.0, 2.0)])
def test_a_long_trail_is_at_most_8_degrees_off_its_column(angle, found):
    assert line([(ALL, 80, 100.0)], ON._replace(angle=angle)) == found
    assert line([(ALL, 80, 100.0)], ON._replace(angle=angle, length=3 * 2.3)) == found
    assert line([(ALL, 80, 100.0)], ON._replace(angle=angle, length=2.99 * 2.3)) == 2


@pytest.mark.parametrize(("column", "found"), [(78, 0.0), (79, 2.0), (80, 2.0), (81, 2.0), (82, 0.0)])
def test_the_column_is_at_most_one_beside_the_trail(column, found):
    assert line([(ALL, column, 100.0)], ON) == found


def test_columns_without_neighbours_2_px_away_tell_nothing():
    for column, found in ((1, 0.0), (2, 2.0), (158, 2.0), (159, 0.0)):
        assert line([(ALL, column, 100.0)], ON._replace(x=column)) == found


def thin(share, trail, height=400.0):
    """Evidence of a column that ends where the trail does, of whose light a share lies on each of its neighbours."""
    rows = slice(math.ceil(150 - trail.length / 2 - 1), math.floor(150 + trail.length / 2 + 1) + 1)
    return line([(rows, 80, height), (rows, 79, share * height), (rows, 81, share * height)], trail)


def test_a_trail_that_is_thinner_than_the_psf():
    long, psf = Segment(80.0, 150.0, 5 * 2.3, 90.0), moffat_mixture(2.3, 3.0)
    profile = [float(np.sum(psf.weights * norm.pdf(x, scale=psf.sigmas))) for x in (0.0, 1.0)]
    usual = profile[1] / profile[0]
    assert thin(0.0, long) == 2
    for share in (0.25, 0.5, 0.8):
        assert thin(share * usual, long) == pytest.approx(2 * (1 - share), rel=1e-4)
    assert thin(0.0, long._replace(length=4.99 * 2.3)) == 0
    height = 10 * NOISE / math.sqrt(13)  # 13 rows are at an S/N of 10 with this
    assert thin(0.0, long, 1.01 * height) == 2
    assert thin(0.0, long, 0.99 * height) == 0


@pytest.mark.parametrize("turn", [1, -1])
def test_a_thin_trail_strays_at_most_a_pixel_and_a_half(turn):
    for stray, found in ((1.49, 2.0), (1.51, 0.0)):
        angle = 90 - turn * math.degrees(math.asin(stray / 15))
        rows = slice(134, 167)
        assert line([(rows, 80, 400.0)], Segment(80.0, 150.0, 30.0, angle)) == found


@pytest.mark.parametrize("length", [1, 5])
def test_light_is_what_lies_above_the_level(length):
    picture = cosmic_ray(length)
    flat = evidence(picture, 900.0)
    picture.pixels[:] += 300 * SIGMA
    raised = cosmic_ray_evidence(picture.scene(2.3), picture.trail, 900.0, 300 * SIGMA)
    assert flat > 0.5
    assert raised == pytest.approx(flat, rel=1e-3)


@pytest.mark.parametrize(("low", "high"), [(-5.0, 99.0), (3.5, 8.0), (17.0, 40.0), (25.0, 40.0)])
def test_a_piece_of_a_column_ends_with_the_image(low, high):
    pixels = np.random.default_rng(4).normal(0, 3, (20, 9)).astype(np.float32)
    rows = [row for row in range(20) if low <= row <= high]
    excess = [min(max(float(pixels[row, 4] - 0.5 * (pixels[row, 2] + pixels[row, 6])), -4.0), 4.0) for row in rows]
    usable = np.ones(pixels.shape, np.bool_)
    mean, count = _excess.py_func(pixels, usable, 4, 2, low, high, 4.0)
    assert count == len(rows)
    assert mean == pytest.approx(np.mean(excess) if rows else 0.0, abs=1e-5)
