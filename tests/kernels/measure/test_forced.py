import math
import warnings

import numpy as np
import pytest
from astropy.table import Table
from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture, aperture_photometry
from photutils.psf import CircularGaussianPRF, PSFPhotometry
from scipy.special import ndtr

from benchmarks.measurement.pulls import correlated_noise, galsim_trail
from kernels.image.noise import Noise
from kernels.measure.forced import _cleaned, _flags, _local_noise, _told_apart, forced_flux, reach, upper_limit
from kernels.psf.gaussian_mixture import GaussianMixture, moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.matched_filter import template_snr
from kernels.trails.scene import Scene, trail_shape, view
from kernels.trails.trail_model import trail_image
from schemas.forced import ForcedFlag
from schemas.pixels import MaskPlane

SIDE, SIGMA, FWHM = 101, 10.0, 2.3
CORRELATION = correlated_noise(np.random.default_rng(0), (5, 5))[1]
CLEAN = np.zeros((SIDE, SIDE), np.uint16)


def scene(pixels, mask=CLEAN, fwhm=FWHM, beta=3.0, **noise):
    usable = np.isfinite(pixels) & (mask == 0)
    noise = Noise(**({"sigma": SIGMA, "correlation": CORRELATION} | noise))
    return Scene(pixels.astype(np.float32), usable, moffat_mixture(fwhm, beta), fwhm, noise)


def trail_at(rng, length):
    """A trail near the middle: its place, its light, of unit flux, and its flux at a matched-filter S/N of 1."""
    x, y = SIDE // 2 + rng.uniform(-0.5, 0.5, 2)
    segment = Segment(x, y, length, rng.uniform(0, 180))
    shape = galsim_trail((SIDE, SIDE), *segment, FWHM, 3.0)
    return segment, shape, 1 / template_snr(1.0, shape, SIGMA, CORRELATION)


def drawn(rng, snr, length):
    """A trail of a given matched-filter S/N in correlated noise: pixels, its place and its flux."""
    segment, shape, unit = trail_at(rng, length)
    noise = correlated_noise(rng, (SIDE, SIDE))[0]
    return SIGMA * noise + snr * unit * shape, segment, snr * unit


EACH = 10
"""Images of a trail in noise of their own: to draw it takes longer than to measure it."""


def measured(number, seed, snrs):
    """(flux - true) / error, S/N, and whether the flux lies above the 3-sigma limit, of many images of trails."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(number // EACH):
        segment, shape, unit = trail_at(rng, rng.uniform(0, 40) if rng.random() < 0.7 else 0.0)
        for noise in correlated_noise(rng, (EACH * SIDE, SIDE))[0].reshape(EACH, SIDE, SIDE):
            flux = rng.choice(snrs) * unit
            found = forced_flux(scene(SIGMA * noise + flux * shape), CLEAN, segment).trail
            above = flux > upper_limit(np.array(found.value), np.array(found.error), 3.0)
            rows.append([(found.value - flux) / found.error, found.value / found.error, above])
    return np.array(rows).T


def test_fluxes_are_unbiased_and_errors_honest_however_faint():
    pulls, _, above = measured(1500, 3, [0.5, 1, 2, 3, 5, 10, 30])
    assert 0.95 < pulls.std() < 1.05
    assert abs(pulls.mean()) < 3 / np.sqrt(1500)
    assert above.sum() <= 6  # 0.13 % of 1500 are 2; more than 6 have a chance of 0.5 %


def test_where_nothing_is_signal_to_noise_is_a_unit_normal():
    _, snr, _ = measured(1200, 8, [0.0])
    assert abs(snr.mean()) < 3 / np.sqrt(1200)
    assert 0.95 < snr.std() < 1.05
    for level in (-1.0, 0.0, 1.0, 2.0):
        share = ndtr(level)
        assert np.mean(snr < level) == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / 1200))


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("true", [0.0, 2.0, 5.0])
def test_true_flux_exceeds_the_limit_at_the_stated_rate_or_less(sigma, true):
    flux = true + np.random.default_rng(1).normal(size=200_000)
    rate = np.mean(true > upper_limit(flux, np.ones_like(flux), sigma))
    stated = ndtr(-sigma)
    assert rate <= stated + 4 * np.sqrt(stated / 200_000)
    if true > sigma:
        assert rate == pytest.approx(stated, abs=4 * np.sqrt(stated / 200_000))
    else:
        assert rate == 0


def test_limit_is_never_below_what_the_noise_allows():
    assert upper_limit(np.array([-50.0, 0.0, 4.0]), np.full(3, 2.0), 3.0).tolist() == [6.0, 6.0, 10.0]


def test_trail_is_that_of_least_squares_written_out():
    pixels, segment, _ = drawn(np.random.default_rng(5), 12.0, 18.0)
    y, x = np.mgrid[:SIDE, :SIDE]
    near = np.array([Segment(*segment).distance(a, b) <= 3.5 * FWHM for a, b in zip(x.flat, y.flat, strict=True)])
    template = galsim_trail((SIDE, SIDE), *segment, FWHM, 3.0).ravel()[near]
    inverse = np.linalg.pinv(np.stack([template, np.ones_like(template)], axis=1))
    lag_y, lag_x = (part.ravel()[near][:, None] - part.ravel()[near] for part in (y, x))
    far = (np.abs(lag_y) > 5) | (np.abs(lag_x) > 5)
    covariance = SIGMA**2 * np.where(far, 0.0, CORRELATION[np.clip(lag_y, -5, 5) + 5, np.clip(lag_x, -5, 5) + 5])
    found = forced_flux(scene(pixels), CLEAN, segment)
    error = np.sqrt((inverse @ covariance @ inverse.T)[0, 0])
    assert found.ndata == near.sum()
    assert found.trail.value == pytest.approx((inverse @ pixels.ravel()[near])[0], abs=0.05 * error)
    assert found.trail.error == pytest.approx(error, rel=0.05)  # the noise is taken from the surroundings


def gaussian_scene(pixels):
    """A scene whose PSF is a Gaussian of FWHM 3 px seen through pixels."""
    psf = GaussianMixture(np.ones(1), np.sqrt(np.array([(3.0 / 2.3548) ** 2 + 1 / 12])))
    return scene(pixels, fwhm=3.0, correlation=np.array([[1.0]]))._replace(psf=psf)


def gaussian_source(rng, flux, level=0.0):
    """A pixel-integrated Gaussian as photutils draws it, in white noise."""
    x, y = SIDE // 2 + rng.uniform(-0.5, 0.5, 2)
    model = CircularGaussianPRF(flux=flux, x_0=x, y_0=y, fwhm=3.0)
    columns, rows = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    return model(columns, rows) + level + SIGMA * rng.normal(size=(SIDE, SIDE)), (x, y)


def test_point_sources_are_those_of_photutils():
    rng = np.random.default_rng(4)
    for flux in (-800.0, 0.0, 300.0, 5000.0):
        pixels, (x, y) = gaussian_source(rng, flux)
        ours = forced_flux(gaussian_scene(pixels), CLEAN, Segment(x, y, 0.0, 0.0)).trail
        model = CircularGaussianPRF(fwhm=3.0)
        model.x_0.fixed = model.y_0.fixed = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a negative flux is not a good fit to it
            theirs = PSFPhotometry(model, (21, 21))(
                pixels, error=np.full_like(pixels, SIGMA), init_params=Table({"x": [x], "y": [y], "flux": [1.0]})
            )
        assert ours.value == pytest.approx(float(theirs["flux_fit"][0]), abs=0.5 * ours.error)
        assert ours.error == pytest.approx(float(theirs["flux_err"][0]), rel=0.1)


def test_point_source_on_a_level_has_the_light_in_an_aperture():
    pixels, place = gaussian_source(np.random.default_rng(6), 20000.0, level=300.0)
    level = ApertureStats(pixels, CircularAnnulus(place, 12, 25)).median
    light = aperture_photometry(pixels - level, CircularAperture(place, 8))["aperture_sum"][0]
    found = forced_flux(gaussian_scene(pixels), CLEAN, Segment(*place, 0.0, 0.0))
    assert found.trail.value == pytest.approx(light, rel=0.02)
    assert found.psf == found.trail


def test_negative_sources_have_negative_fluxes():
    pixels, segment, flux = drawn(np.random.default_rng(2), -25.0, 15.0)
    found = forced_flux(scene(pixels), CLEAN, segment)
    assert flux < 0
    assert found.trail.value == pytest.approx(flux, abs=3 * found.trail.error)
    assert found.flags == ForcedFlag(0)


@pytest.mark.parametrize("length", [0.0, 20.0])
@pytest.mark.parametrize("snr", [10, 50, 300])
def test_known_neighbour_changes_nothing(length, snr):
    pulls = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        pixels, segment, flux = drawn(rng, 3.0, length)
        beside = np.radians(segment.angle + 90)
        other = Segment(segment.x + 5 * np.cos(beside), segment.y + 5 * np.sin(beside), 0.0, 0.0)
        image = galsim_trail((SIDE, SIDE), *other, FWHM, 3.0)
        pixels += snr / template_snr(1.0, image, SIGMA, CORRELATION) * image
        found = forced_flux(scene(pixels), CLEAN, segment, [other])
        assert not found.flags & (ForcedFlag.BLENDED | ForcedFlag.CONTAMINATED)
        pulls.append((found.trail.value - flux) / found.trail.error)
    assert abs(np.mean(pulls)) < 0.5
    assert 0.7 < np.std(pulls) < 1.35


def test_unknown_neighbour_on_a_trail_is_left_out():
    for seed in range(10):
        pixels, segment, flux = drawn(np.random.default_rng(seed), 15.0, 30.0)
        image = galsim_trail((SIDE, SIDE), segment.x, segment.y, 0, 0, FWHM, 3.0)
        pixels += 40 / template_snr(1.0, image, SIGMA, CORRELATION) * image
        found = forced_flux(scene(pixels), CLEAN, segment)
        assert found.flags & ForcedFlag.CONTAMINATED
        assert found.trail.value == pytest.approx(flux, abs=4 * found.trail.error)


def test_what_covers_most_of_the_trail_is_kept_and_flagged():
    pixels, segment, _ = drawn(np.random.default_rng(3), 3.0, 0.0)
    pixels[round(segment.y), round(segment.x)] += 3000  # a cosmic ray
    found = forced_flux(scene(pixels), CLEAN, segment)
    assert found.flags & ForcedFlag.CONTAMINATED
    assert found.trail.chi2 > 10 * found.ndata


def test_two_targets_at_one_place_share_their_light():
    pixels, segment, flux = drawn(np.random.default_rng(7), 30.0, 12.0)
    found = forced_flux(scene(pixels), CLEAN, segment, [segment._replace(x=segment.x + 0.3)])
    assert found.flags & ForcedFlag.BLENDED
    assert found.trail.value == pytest.approx(flux, abs=4 * found.trail.error)


@pytest.mark.parametrize(("first", "share"), [(0, 1.0), (31, 0.75), (50, 0.5)])
def test_flux_of_what_is_seen_stands_for_the_whole_trail(first, share):
    segment, flux = Segment(50.0, 50.0, 78.0, 90.0), 60000.0
    noise = SIGMA * correlated_noise(np.random.default_rng(1), (SIDE, SIDE))[0]
    pixels = flux * galsim_trail((SIDE, SIDE), *segment, FWHM, 3.0) + noise
    found = forced_flux(scene(pixels[first:], CLEAN[first:]), CLEAN[first:], segment._replace(y=50.0 - first))
    assert found.trail.value == pytest.approx(flux, abs=4 * found.trail.error)
    assert found.visible == pytest.approx(share, abs=0.01)
    assert found.flags == (ForcedFlag.EDGE if first else ForcedFlag(0))


@pytest.mark.parametrize("angle", [0.0, 90.0])
@pytest.mark.parametrize(("nearest", "edge"), [(3.0, True), (3.9, False)])
def test_a_trail_whose_aperture_reaches_a_border_is_flagged(nearest, edge, angle):
    """Along any of the four borders of an image that is not a square; the aperture is 1.5 FWHM wide: 3.45 px."""
    ny, nx = 80, 100
    for x, y in ((nearest, 40.0), (nx - 1 - nearest, 40.0), (50.0, nearest), (50.0, ny - 1 - nearest)):
        mask = np.zeros((ny, nx), np.uint16)
        beside = Segment(x, y, 0.0, angle)
        found = forced_flux(scene(np.random.default_rng(3).normal(size=(ny, nx)), mask), mask, beside)
        assert bool(found.flags & ForcedFlag.EDGE) == edge, (x, y)


def test_less_than_half_in_sight_is_not_measured():
    pixels, segment, _ = drawn(np.random.default_rng(1), 30.0, 30.0)
    mask = CLEAN.copy()
    mask[:, : int(segment.x) + 2] = MaskPlane.BAD
    mask[: int(segment.y) + 2] = MaskPlane.SAT
    found = forced_flux(scene(pixels, mask), mask, segment)
    assert found.visible < 0.5
    assert found.flags == ForcedFlag.NOT_MEASURED | ForcedFlag.MASKED | ForcedFlag.SATURATED
    assert np.isnan([found.trail.value, found.trail.error, found.psf.value]).all()
    assert found.ndata == 0


def test_too_few_pixels_to_tell_a_source_from_a_level_are_not_measured():
    pixels = galsim_trail((SIDE, SIDE), 50.5, 50.0, 0, 0, 1.0, 3.0)
    mask = np.full((SIDE, SIDE), MaskPlane.BAD, np.uint16)
    mask[50, 50:52] = 0
    found = forced_flux(scene(1000 * pixels, mask, fwhm=1.0), mask, Segment(50.5, 50.0, 0.0, 0.0))
    assert found.visible > 0.5
    assert found.flags == ForcedFlag.NOT_MEASURED | ForcedFlag.MASKED
    assert np.isnan(found.trail.value)


def test_share_in_sight_of_a_trail_does_not_hang_on_its_length():
    mask = CLEAN.copy()
    mask[:, :30] = mask[:, 71:] = MaskPlane.BAD
    for length in (38.0, 150.0, 250.0, 1e9):
        there = scene(np.zeros((SIDE, SIDE)), mask)
        share = min(41 / length, 1.0) if length > 41 else 1.0
        assert forced_flux(there, mask, Segment(50, 50, length, 0.0)).visible == pytest.approx(share, rel=0.02)


def test_masked_pixels_change_nothing_but_the_error():
    pixels, segment, flux = drawn(np.random.default_rng(9), 30.0, 30.0)
    mask = CLEAN.copy()
    mask[::4] = MaskPlane.CR
    whole = forced_flux(scene(pixels), CLEAN, segment)
    pixels[mask > 0] = 1e6
    found = forced_flux(scene(pixels, mask), mask, segment)
    assert found.trail.value == pytest.approx(flux, abs=4 * found.trail.error)
    assert found.trail.error > 1.05 * whole.trail.error
    assert found.visible == pytest.approx(0.75, abs=0.1)
    assert found.flags == ForcedFlag.MASKED


def test_noise_is_that_of_the_surroundings():
    noise = correlated_noise(np.random.default_rng(3), (SIDE, SIDE))[0]
    for true in (5.0, 20.0):
        found = forced_flux(scene(true * noise), CLEAN, Segment(50.0, 50.0, 10.0, 20.0))
        expected = forced_flux(scene(SIGMA * noise), CLEAN, Segment(50.0, 50.0, 10.0, 20.0))
        assert found.trail.error == pytest.approx(true / SIGMA * expected.trail.error, rel=1e-6)
    few = np.full((20, 20), 4.0)
    small = forced_flux(scene(few, CLEAN[:20, :20]), CLEAN[:20, :20], Segment(10.0, 10.0, 0.0, 0.0))
    assert small.trail.error > 0  # too few pixels around: the noise of the exposure


def test_poisson_noise_of_the_source_counts():
    pixels, segment, _ = drawn(np.random.default_rng(3), 200.0, 0.0)
    plain, counted = (forced_flux(scene(pixels, gain=gain), CLEAN, segment).trail.error for gain in (np.inf, 1.0))
    assert counted > 1.3 * plain


def test_reach_holds_all_that_matters():
    pixels, segment, _ = drawn(np.random.default_rng(11), 10.0, 12.0)
    far = reach(segment.length, FWHM)
    part = np.s_[50 - far : 51 + far, 50 - far : 51 + far]
    whole, cut = (
        forced_flux(
            scene(image, CLEAN[: len(image), : len(image)]),
            CLEAN[: len(image), : len(image)],
            segment._replace(x=segment.x - o, y=segment.y - o),
        )
        for image, o in ((pixels, 0), (pixels[part], 50 - far))
    )
    assert cut.trail.value == pytest.approx(whole.trail.value, rel=1e-9)
    assert cut.trail.error == pytest.approx(whole.trail.error, rel=0.1)  # noise of other surroundings


def test_pixels_matter_out_to_the_fit_and_what_tells_its_noise():
    assert reach(10.0, 2.0) == 5 + 7 + 24
    assert reach(10.5, 2.0) == 6 + 7 + 24
    assert reach(0.0, 1.0) == 6 + 24
    assert reach(1.0, 2.3) == math.ceil(0.5 + 3.5 * 2.3) + 24


def test_five_hundred_pixels_around_tell_the_noise():
    pixels = np.random.default_rng(1).normal(0, 30, (SIDE, SIDE))
    point = Segment(50.0, 50.0, 0.0, 0.0)
    under = view(scene(pixels), point, 3.5 * FWHM).footprint
    for count, own in ((500, True), (499, False)):
        there = scene(pixels)
        around = there.usable.copy()
        around[under.y, under.x] = False
        hidden = np.argwhere(around)[count:]
        there.usable[tuple(hidden.T)] = False
        found = _local_noise(there, under)
        assert (found == pytest.approx(30, rel=0.15)) if own else (found == SIGMA)
    assert _local_noise(scene(np.full((SIDE, SIDE), 3.25)), under) == SIGMA  # no scatter around


def told_apart(point, neighbours, hidden=()):
    there = scene(np.zeros((SIDE, SIDE)))
    seen = view(there, point, 3.5 * FWHM)
    if hidden:
        seen = seen._replace(use=seen.use * ~np.isin(seen.footprint.x, hidden))
    shape = trail_shape(there, seen.footprint, point)
    kept, blended = _told_apart(there, seen, shape, neighbours)
    return kept, blended, there, seen, shape


def test_what_is_a_fifth_unlike_all_others_is_told_apart():
    point = Segment(50.0, 50.0, 0.0, 0.0)

    def alike(one, other):
        return (one @ other) ** 2 / (one @ one) / (other @ other)

    for apart in np.arange(0.2, 2.5, 0.1):
        beside = point._replace(x=50.0 + apart)
        kept, blended, there, seen, shape = told_apart(point, [beside])
        image = trail_shape(there, seen.footprint, beside)
        unlike = 1 - alike(image * seen.use, shape * seen.use) > 0.2
        assert (len(kept), blended) == (int(unlike), not unlike)
        if kept:
            np.testing.assert_array_equal(kept[0], image)
    other = [point._replace(x=54.0), point._replace(x=54.2), point._replace(x=46.0)]
    kept, blended, there, seen, _ = told_apart(point, other)
    assert len(kept) == 2  # the second is like the first, but not like the trail
    assert not blended
    np.testing.assert_array_equal(kept[1], trail_shape(there, seen.footprint, other[2]))
    middle = [point._replace(x=52.0), point._replace(x=48.0), point._replace(x=50.1)]
    assert told_apart(point, middle)[1]
    assert told_apart(point, [point._replace(x=50.1), point._replace(x=54.0)])[1]
    far = [point._replace(x=75.0)]
    assert told_apart(point, far)[:2] == ([], False)


def test_neighbours_between_two_others_are_no_blend_of_the_trail():
    point = Segment(50.0, 50.0, 0.0, 0.0)
    kept, blended, *_ = told_apart(point, [point._replace(x=54.0), point._replace(x=53.0), point._replace(x=55.0)])
    assert not blended
    assert 1 <= len(kept) < 3


def cleaned(pixels, point, gain=np.inf, others=()):
    there = scene(pixels, gain=gain, correlation=np.array([[1.0]]))
    seen = view(there, point, 3.5 * FWHM)
    shape = trail_shape(there, seen.footprint, point)
    images = [trail_shape(there, seen.footprint, other) for other in others]
    after, contaminated = _cleaned(there, seen, shape, images)
    lost = (seen.use > 0) & (after.use == 0)
    return {(int(y), int(x)) for y, x in zip(seen.footprint.y[lost], seen.footprint.x[lost], strict=True)}, contaminated


def test_pixels_five_sigma_off_the_fit_are_left_out_with_their_neighbours():
    point = Segment(50.0, 50.0, 0.0, 0.0)
    for height, off in ((5.3, True), (4.7, False)):
        pixels = np.zeros((SIDE, SIDE))
        pixels[50, 56] = height * SIGMA  # where the light of the source is next to nothing
        lost, contaminated = cleaned(pixels, point)
        assert contaminated == off
        about = {(50 + j, 56 + i) for j in range(-2, 3) for i in range(-2, 3) if math.hypot(j, 6 + i) <= 3.5 * FWHM}
        assert lost == (about if off else set())
        assert cleaned(-pixels, point) == (lost, contaminated)
    beside = point._replace(x=56.0)
    shining = 2000 * trail_image((SIDE, SIDE), *beside, moffat_mixture(FWHM, 3.0))
    assert not cleaned(shining, point, others=[beside])[1]
    assert cleaned(shining, point)[1]


def test_pixels_off_by_less_than_the_trails_own_light_stay():
    point = Segment(50.0, 50.0, 0.0, 0.0)
    bright = 40000 * trail_image((SIDE, SIDE), *point, moffat_mixture(FWHM, 3.0))
    bright[50, 51] += 20 * SIGMA
    assert cleaned(bright, point) == (set(), False)
    assert cleaned(-bright, point) == (set(), False)
    faint = 0.01 * bright
    faint[50, 55] += 20 * SIGMA
    assert cleaned(faint, point)[1]


def test_more_than_half_of_the_trail_is_not_left_out():
    point = Segment(50.0, 50.0, 0.0, 0.0)
    pixels = np.zeros((SIDE, SIDE))
    pixels[50, 50] = 100 * SIGMA
    assert cleaned(pixels, point) == (set(), True)
    pixels[50, 50], pixels[50, 53] = 0, 100 * SIGMA
    lost, contaminated = cleaned(pixels, point)
    assert contaminated
    assert (50, 53) in lost


@pytest.mark.parametrize("place", [(50.0, 50.0), (50.4, 49.7), (50.9, 50.6)])
def test_all_of_a_trail_away_from_the_border_is_in_sight(place):
    for length, angle in ((0.0, 0.0), (17.0, 30.0), (30.0, 100.0)):
        there = scene(np.random.default_rng(2).normal(0, SIGMA, (SIDE, SIDE)))
        found = forced_flux(there, CLEAN, Segment(*place, length, angle))
        assert found.visible == pytest.approx(1, abs=1e-6)


def test_flags_are_those_of_the_pixels_within_one_and_a_half_fwhm():
    for plane, flag in (
        (MaskPlane.EDGE, ForcedFlag.EDGE),
        (MaskPlane.SAT, ForcedFlag.SATURATED),
        (MaskPlane.BAD, ForcedFlag.MASKED),
    ):
        for column, known in ((53, True), (54, False)):
            mask = CLEAN.copy()
            mask[50, column] = plane
            found = _flags(scene(np.zeros((SIDE, SIDE)), mask), mask, Segment(50.0, 50.0, 0.0, 0.0))
            assert found == (flag if known else 0)
    for distance, flag in ((1.5 * FWHM, ForcedFlag(0)), (1.5 * FWHM - 0.01, ForcedFlag.EDGE)):
        for place in ((distance, 50.0), (100 - distance, 50.0), (50.0, distance), (50.0, 100 - distance)):
            there = scene(np.zeros((SIDE, SIDE)))
            assert _flags(there, CLEAN, Segment(*place, 0.0, 0.0)) == flag


def test_half_of_the_light_in_sight_is_enough():
    point = Segment(50.0, 50.0, 0.0, 0.0)
    for more, known in ((1, True), (0, False)):  # with the column in the middle it is more than half
        mask = CLEAN.copy()
        mask[:, 50 + more :] = MaskPlane.BAD
        found = forced_flux(scene(np.random.default_rng(2).normal(0, SIGMA, (SIDE, SIDE)), mask), mask, point)
        assert (found.visible >= 0.5) == known
        assert (ForcedFlag.NOT_MEASURED in found.flags) == (not known)
        assert np.isfinite(found.trail.value) == known
