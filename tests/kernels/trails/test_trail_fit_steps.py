import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from kernels.image.noise import Noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails import trail_fit
from kernels.trails.geometry import Segment
from kernels.trails.least_squares import fit_covariance, jacobian, vector
from kernels.trails.scene import Scene, trail_shape, view
from kernels.trails.trail_fit import capped, fit_trail, robust_level, starts, unfitted, without_outliers
from kernels.trails.trail_model import trail_image

PSF = moffat_mixture(2.3, 3.0)

TRAIL = Segment(50, 40, 60, 10)


def scene_trail_start(*stars, level=20.0):
    pixels = np.random.default_rng(3).normal(level, 5, (80, 100)) + 4000 * trail_image((80, 100), *TRAIL, PSF)
    for x, y, flux in stars:
        pixels += flux * trail_image((80, 100), x, y, 0, 0, PSF)
    return Scene(pixels.astype(np.float32), np.ones((80, 100), bool), PSF, 2.3, Noise(5.0, np.array([[1.0]])))


def test_stars_are_marked_and_the_trail_is_not():
    there = scene_trail_start((40, 45, 3000), (65, 43, 3000))
    seen = view(there, TRAIL, 8)
    left = without_outliers(there, seen, vector(4000, TRAIL, 20))
    f = seen.footprint
    near = np.minimum(np.hypot(f.x - 40, f.y - 45), np.hypot(f.x - 65, f.y - 43))
    assert (left.use[near < 1.5] == 0).all()
    assert (left.use[near > 7] == 1).all()


def test_a_source_brighter_than_the_model_is_not_its_own_outlier():
    there = scene_trail_start()
    seen = view(there, TRAIL, 8)
    assert (without_outliers(there, seen, vector(2500, TRAIL, 20)).use == 1).all()


def test_cap_lies_above_the_trail_and_below_a_star():
    there = scene_trail_start((40, 39, 30000))
    values = view(there, TRAIL, 8).values
    cap = capped(view(there, TRAIL, 8), 5.0).values.max()
    crest = 20 + 4000 * trail_image((80, 100), *TRAIL, PSF).max()
    assert crest < cap < values.max() / 5


def test_short_trails_start_in_three_directions_at_the_level_of_the_sky():
    there = scene_trail_start()
    (only,) = starts(there, view(there, TRAIL, 8), TRAIL)
    assert abs(only[5] - 20) < 2.5
    assert 3000 < only[0] < 5000
    turned = starts(there, view(there, TRAIL, 8), TRAIL._replace(length=0))
    assert np.allclose(np.diff([p[4] for p in turned]), np.radians(60))
    assert all(p[0] > 0 for p in turned)


def plain(values, sigma=2.0, gain=np.inf, fwhm=2.3, usable=None):
    """Scene in white noise."""
    usable = np.ones(values.shape, bool) if usable is None else usable
    noise = Noise(sigma, np.array([[1.0]]), gain)
    return Scene(values.astype(np.float32), usable, PSF, fwhm, noise)


def pixels_of(values, use=None):
    """View of pixels in a row."""
    seen = view(plain(np.array([values])), Segment((len(values) - 1) / 2, 0, len(values) - 1, 0), 0.4)
    assert len(seen.values) == len(values)
    return seen._replace(values=np.array(values, float), use=np.ones(len(values)) if use is None else use)


@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_a_cap_is_five_sigma_or_half_as_much_again_as_the_95th_percentile(sigma):
    values = np.random.default_rng(1).normal(7, 1, 301) + np.random.default_rng(2).exponential(1, 301)
    use = (np.random.default_rng(3).random(301) < 0.7).astype(float)
    values[use == 0] += 100
    known = values[use > 0]
    middle = np.median(known)
    cap = middle + max(5 * sigma, 1.5 * (np.quantile(known, 0.95) - middle))
    np.testing.assert_allclose(capped(pixels_of(values, use), sigma).values, np.minimum(values, cap))
    assert (cap == middle + 5 * sigma) == (sigma == 3)


def test_the_level_is_the_median_of_what_three_rounds_of_clipping_leave():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        values = np.where(rng.random(60) < 0.3, rng.exponential(9, 60), rng.normal(0, 1, 60))
        use = (rng.random(60) < 0.8).astype(float)
        kept = values[use > 0]
        for _ in range(3):
            apart = np.abs(kept - np.median(kept))
            kept = kept[apart <= 2.5 * 1.4826 * np.median(apart)]
        assert robust_level(pixels_of(values, use)) == pytest.approx(np.median(kept))
    assert robust_level(pixels_of([4.0, 4.0, 4.0, 9.0])) == 4  # as near as the median itself: kept
    assert robust_level(pixels_of([1.0, 2.0], np.zeros(2))) == 0
    assert robust_level(pixels_of([1.0, 2.0], np.array([0.0, 1.0]))) == 2


@pytest.mark.parametrize(("length", "angles"), [(4.6, [10]), (4.59, [10, 70, 130]), (0.0, [10, 70, 130]), (30.0, [10])])
def test_first_estimates_have_the_best_flux_at_that_level(length, angles):
    there = scene_trail_start((40, 45, 3000))
    there.usable[38:42, 45:48] = False
    first = TRAIL._replace(length=length)
    seen = view(there, TRAIL, 8)
    level = robust_level(seen)
    found = starts(there, seen, first)
    assert len(found) == len(angles)
    for angle, p in zip(angles, found, strict=True):
        segment = first._replace(length=max(length, 2.3), angle=float(angle))
        design = (trail_shape(there, seen.footprint, segment) * seen.use)[:, None]
        flux = np.linalg.lstsq(design, (seen.values - level) * seen.use, rcond=None)[0][0]
        np.testing.assert_allclose(p, vector(flux, segment, level), rtol=1e-9)


def test_a_first_flux_is_positive_by_five_times_the_noise_of_a_fwhm():
    there = plain(np.zeros((30, 30)), sigma=4.0)
    (p,) = starts(there, view(there, Segment(15, 15, 8, 0), 6), Segment(15, 15, 8, 0))
    assert p[0] == pytest.approx(5 * 4 * 2.3)


@pytest.mark.parametrize("gain", [0.5, np.inf])
@pytest.mark.parametrize("fwhm", [1.9, 2.3, 4.1])
def test_outliers_are_far_above_the_model_beside_the_trail_or_far_below_the_level(gain, fwhm):
    rng = np.random.default_rng(5)
    truth = Segment(30.4, 24.7, 22.0, 35.0)
    model = 600 * trail_image((50, 60), *truth, PSF)
    values = 20 + model * rng.choice([0.2, 1.0, 1.4, 1.6], model.shape) + rng.normal(0, 2, model.shape)
    values += rng.choice([0.0, 9.9, 10.1, 20, -30, -9.9, -10.1], model.shape, p=[0.94, *[0.01] * 6])
    usable = rng.random(model.shape) > 0.05
    there = plain(values, gain=gain, fwhm=fwhm, usable=usable)
    seen = view(there, truth, 9.0)
    p = vector(600.0, truth, 20.0)
    shape = trail_shape(there, seen.footprint, truth)
    marked = trail_fit._outliers(seen, p, shape, 4.0, gain, fwhm)
    y, x = np.mgrid[:50, :60]
    c, s = np.cos(p[4]), np.sin(p[4])
    along, across = (x - 30.4) * c + (y - 24.7) * s, (y - 24.7) * c - (x - 30.4) * s
    ahead = (np.abs(along) > 11 - fwhm) & (np.abs(across) < fwhm)
    threshold = 5 * np.sqrt(4 + model / gain)
    excess = values.astype(np.float32) - 20
    bad = ((excess - model > np.maximum(threshold, model / 2)) & ~ahead) | (excess < -threshold)
    inside = np.zeros(model.shape, bool)
    inside[seen.footprint.y, seen.footprint.x] = True
    reach = int(np.ceil(fwhm / 2))
    grown = binary_dilation(bad & usable & inside, np.ones((2 * reach + 1,) * 2))
    np.testing.assert_array_equal(marked, grown[seen.footprint.y, seen.footprint.x])
    assert 0.05 < marked.mean() < 0.95


@pytest.mark.parametrize(("share", "left_out"), [(0.39, True), (0.41, False)])
def test_outliers_with_more_than_two_fifths_of_the_weight_are_the_source_itself(monkeypatch, share, left_out):
    there = scene_trail_start()
    there.usable[30:50, 60:64] = False
    seen = view(there, TRAIL, 8)
    weight = trail_shape(there, seen.footprint, TRAIL) ** 2 * seen.use
    order = np.random.default_rng(1).permutation(len(weight))
    marked = np.zeros(len(weight), bool)
    marked[order[np.cumsum(weight[order]) <= share * weight.sum()]] = True
    assert weight[marked].sum() / weight.sum() == pytest.approx(share, abs=0.009)
    monkeypatch.setattr(trail_fit, "_outliers", lambda *_: marked)
    left = without_outliers(there, seen, vector(4000, TRAIL, 20))
    np.testing.assert_array_equal(left.use, seen.use * ~marked if left_out else seen.use)


def test_pixels_within_3_5_fwhm_and_at_least_6_px_are_fitted():
    assert trail_fit._radius(plain(np.zeros((9, 9)), fwhm=4.0)) == 14
    assert trail_fit._radius(plain(np.zeros((9, 9)), fwhm=1.2)) == 6


@pytest.mark.parametrize(
    ("length", "count", "blur", "more"),
    [(0.0, 3, 0.0, 0), (4.59, 3, 0.0, 0), (4.6, 1, 0.8, 0), (18.4, 1, 0.8, 0), (18.5, 1, 0.8, 1), (40.0, 1, 0.8, 1)],
)
def test_a_first_fit_holds_the_level_and_blurs_what_has_a_direction(monkeypatch, length, count, blur, more):
    there, calls = scene_trail_start((40, 39, 30000)), []

    def told(values, use, footprint, p, weights, sigmas, stretch, shape, reach, free, tolerance):
        calls.append((p, sigmas, shape, reach, free, tolerance, values))
        return p, float(10 - len(calls)), True

    monkeypatch.setattr(trail_fit, "minimise", told)
    start = TRAIL._replace(length=length)
    best = trail_fit._first_fit(there, start)
    assert len(calls) == count
    assert best is calls[-1][0]  # of the least squares
    seen = view(there, start, 3.5 * 2.3 + more * 0.03 * length)
    if more:
        seen = capped(seen, there.noise.sigma)
    for p, sigmas, shape, reach, free, tolerance, values in calls:
        np.testing.assert_allclose(sigmas, np.sqrt(PSF.sigmas**2 + (blur * 2.3) ** 2))
        assert (shape, reach, free, tolerance) == ((80, 100), 4.6, 5, 1e-3)
        np.testing.assert_array_equal(values, seen.values)
        assert p[3] == max(length, 2.3)
    trail_fit._best(there, seen, [calls[0][0]], 6)
    assert calls[-1][4:6] == (6, 1e-6)
    np.testing.assert_allclose(calls[-1][1], PSF.sigmas)


def test_segments_have_a_positive_length_and_no_direction():
    found = trail_fit._segment(np.array([5.0, 1.0, 2.0, -3.0, np.radians(-30.0), 9.0]))
    assert found == pytest.approx((1, 2, 3, 150))
    one, other = Segment(5, 5, 10, 0), Segment(6, 5, 12, 180)
    assert trail_fit._moved(one, other) == pytest.approx(2)
    assert trail_fit._moved(one, one._replace(y=8.0)) == pytest.approx(3)
    assert trail_fit._moved(one, one._replace(angle=90.0)) == pytest.approx(np.hypot(5, 5))


def passes(monkeypatch, found, start=TRAIL, first=None, fwhm=2.3):
    """Segments fitted over and again in passes with these results, and whether the last of them was taken."""
    there, looked, left = scene_trail_start()._replace(fwhm_px=fwhm), [], list(found)
    real = trail_fit.view

    def seen(scene, segment, radius):
        looked.append(segment.length)
        return real(scene, segment, radius)

    def best(scene, seen, first, free):
        segment, converged = left.pop(0)
        return vector(4000.0, segment, 20.0), converged

    monkeypatch.setattr(trail_fit, "view", seen)
    monkeypatch.setattr(trail_fit, "_first_fit", lambda *_: vector(4000.0, start if first is None else first, 20.0))
    monkeypatch.setattr(trail_fit, "_best", best)
    fit = fit_trail(there, start)
    return looked[1 : 1 + len(found) - len(left)], len(left), fit


def moved(*steps, converged=True):
    """Results of passes each of which carries the trail by so many px across."""
    c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
    far = np.cumsum(steps)
    return [(TRAIL._replace(x=50 - s * each, y=40 + c * each), converged) for each in far]


@pytest.mark.parametrize(
    ("found", "used", "converged"),
    [
        (moved(0.29, 9.0), 1, True),
        (moved(0.31, 0.29, 9.0), 2, True),
        (moved(0.1, 0.1, converged=False) + moved(0.1), 3, True),
        (moved(*[0.31, -0.31] * 6), 8, True),  # from the eighth on, within a FWHM will do
        (moved(*[2.2, -2.2] * 6), 8, True),
        (moved(*[2.4, -2.4] * 6), 10, False),
        (moved(*[2.4, -2.4] * 4, 0.1, 2.2), 9, True),
        (moved(6.8, 0.0), 2, True),
        (moved(7.0, 0.0), 2, False),  # strayed by more than 3 FWHM
    ],
)
def test_passes_end_when_the_ends_rest(monkeypatch, found, used, converged):
    looked, _, fit = passes(monkeypatch, found)
    assert (len(looked), fit.converged) == (used, converged)
    assert fit.segment == pytest.approx(found[used - 1][0] if converged else TRAIL)


def test_a_stray_of_6_px_is_borne_whatever_the_psf(monkeypatch):
    for step, converged in ((5.9, True), (6.1, False)):
        assert passes(monkeypatch, moved(step, 0.0), fwhm=1.5)[2].converged == converged


def test_a_trail_that_grows_is_looked_for_further_ahead(monkeypatch):
    """By more than half a radius of 8.05 px: then two radii on at both ends, and twice as far each time."""
    grown = [(TRAIL._replace(length=length), True) for length in (20.0, 24.0, 28.1, 33.0, 38.0, 40.0, 40.1, 40.1)]
    looked, _, fit = passes(monkeypatch, grown, first=TRAIL._replace(length=20.0))
    assert looked == pytest.approx([20])
    looked, _, fit = passes(monkeypatch, grown[2:], first=TRAIL._replace(length=20.0))
    radius = 8.05
    assert looked == pytest.approx([20, 28.1 + 4 * radius, 33 + 8 * radius, 38 + 16 * radius, 40])
    assert (fit.converged, fit.segment.length) == (True, pytest.approx(40.1))
    barely = [(TRAIL._replace(length=length), True) for length in (24.0, 24.1, 24.1)]
    looked, _, fit = passes(monkeypatch, barely, first=TRAIL._replace(length=20.0))
    assert looked == pytest.approx([20, 24])
    jump = [(TRAIL._replace(length=24.05), True)] * 3
    looked, _, fit = passes(monkeypatch, jump, first=TRAIL._replace(length=20.0))
    assert looked == pytest.approx([20, 24.05 + 4 * radius, 24.05])


def test_twelve_pixels_are_enough_for_a_fit():
    start = Segment(50.0, 40.0, 0.0, 0.0)
    for count in (11, 12):
        there = scene_trail_start()
        there.usable[...] = False
        there.usable[38:42, 49:52].flat[:count] = True
        assert there.usable.sum() == count
        assert fit_trail(there, start).ndata == count
    assert not fit_trail(scene_trail_start()._replace(usable=there.usable & False), start).converged


@pytest.mark.parametrize(("length", "angle"), [(12.0, 30.0), (0.2, 30.0)])
def test_a_result_holds_the_fit_with_its_errors(length, angle):
    rng = np.random.default_rng(6)
    values = rng.normal(7, 2, (40, 44)) + 900 * trail_image((40, 44), 21, 19, length, angle, PSF)
    there = plain(values, gain=2.0)
    there.usable[15:17, 20:30] = False
    p = vector(880.0, Segment(21.1, 19.2, length, angle), 7.2)
    seen = view(there, Segment(21, 19, length, angle), 8)
    fit = trail_fit._result(there, seen, p)
    model = 880 * trail_shape(there, seen.footprint, Segment(21.1, 19.2, length, angle))
    least = np.sum(PSF.weights * PSF.sigmas) / 2
    resolved = np.array([*p[:3], max(length, least), *p[4:]])
    covariance = fit_covariance(
        jacobian(seen.footprint, resolved, *PSF)[1], seen.use, model, seen.footprint, there.noise
    )
    stretch = trail_fit._honest(covariance, p, resolved[3], 2.3)
    np.testing.assert_allclose(fit.covariance, stretch @ covariance[:5, :5] @ stretch.T, rtol=1e-9)
    np.testing.assert_allclose(fit.errors**2, np.diag(fit.covariance))
    assert fit.level_err == pytest.approx(np.sqrt(covariance[5, 5]))
    assert fit.chi2 == pytest.approx(
        (seen.use * (seen.values - model - 7.2) ** 2 / (4 + np.maximum(model, 0) / 2)).sum()
    )
    assert (fit.flux, fit.level, fit.ndata) == (880, 7.2, (seen.use == 1).sum())
    assert fit.segment == pytest.approx((21.1, 19.2, length, angle))
    assert fit.converged


def test_what_failed_has_the_best_flux_at_the_first_estimate():
    there = scene_trail_start()
    there.usable[38:42, 45:48] = False
    failed = unfitted(there, TRAIL)
    seen = view(there, TRAIL, 8.05)
    design = np.stack([trail_shape(there, seen.footprint, TRAIL), np.ones(len(seen.use))], 1)[seen.use > 0]
    expected = np.linalg.solve(design.T @ design, design.T @ seen.values[seen.use > 0])
    assert (failed.flux, failed.level) == pytest.approx(tuple(expected))
    assert (failed.ndata, failed.converged, failed.segment) == (seen.use.sum(), False, TRAIL)
    assert np.isnan([failed.level_err, failed.chi2, *failed.covariance.ravel()]).all()
