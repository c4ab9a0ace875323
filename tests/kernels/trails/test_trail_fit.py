import numpy as np
import pytest

from benchmarks.measurement.pulls import GAIN, SIDE, SIGMA, correlated_noise, galsim_trail, one, pulls
from kernels.image.noise import Noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails import trail_fit
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from kernels.trails.trail_fit import fit_trail
from kernels.trails.trail_model import trail_image

PSF = moffat_mixture(2.3, 3.0)


def scene(pixels, usable=None, fwhm=2.3):
    _, correlation = correlated_noise(np.random.default_rng(0), (5, 5))
    usable = np.ones(pixels.shape, bool) if usable is None else usable
    return Scene(pixels.astype(np.float32), usable, moffat_mixture(fwhm, 3.0), fwhm, Noise(SIGMA, correlation, GAIN))


def field(seed, shape=(SIDE, SIDE)):
    return SIGMA * correlated_noise(np.random.default_rng(seed), shape)[0]


def apart(one, other):
    """Largest displacement of an end."""
    a, b = np.reshape(one.ends(), (2, 2)), np.reshape(other.ends(), (2, 2))
    return min(np.hypot(*(a - b).T).max(), np.hypot(*(a - b[::-1]).T).max())


def test_errors_are_honest():
    rows, failed = pulls(300, seed=11)
    assert failed <= 1
    spread = rows[:, 2:].std(axis=0)
    assert ((spread > 0.8) & (spread < 1.2)).all(), spread
    assert (np.abs(rows[:, 2:].mean(axis=0)) < 0.2).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lengths", "snrs"), [((4, 8), (8, 50)), ((8, 20), (8, 50)), ((20, 60), (15, 50)), ((4, 60), (15, 50))]
)
def test_errors_are_honest_for_short_and_long_faint_and_bright(lengths, snrs):
    spread = pulls(300, seed=5, lengths=lengths, snrs=snrs)[0][:, 2:].std(axis=0)
    assert ((spread > 0.8) & (spread < 1.2)).all(), spread


def test_recovers_a_trail_without_noise():
    truth = Segment(44.7, 45.9, 17.0, 123.0)
    pixels = 5000 * galsim_trail((SIDE, SIDE), *truth, 2.3, 3.0) + 7
    fit = fit_trail(scene(pixels), Segment(46, 45, 12, 110))
    assert fit.converged
    assert fit.flux == pytest.approx(5000, rel=3e-3)
    assert fit.level == pytest.approx(7, abs=0.3)
    assert apart(fit.segment, truth) < 0.05


@pytest.mark.parametrize("snr", [8, 20, 50])
def test_point_source_has_an_upper_limit_and_no_direction(snr):
    rng = np.random.default_rng(snr)
    fits = [one(rng, 0.0, snr)[0] for _ in range(60)]
    assert all(fit.converged for fit in fits)
    length, error = np.array([(fit.segment.length, fit.errors[3]) for fit in fits]).T
    assert np.isfinite(error).all()
    assert np.mean(length > 2 * error) < 0.3
    assert np.mean(length > 4 * error) < 0.1
    angle_err = np.array([fit.errors[4] for fit in fits])
    assert (angle_err < 90.001).all()
    assert (angle_err[length < 0.5] > 45).all()
    assert np.median(angle_err) > 15


@pytest.mark.parametrize("shape", ["plane", "disc", "middle"])
def test_errors_hold_where_unusable_pixels_hide_an_end(shape):
    rng, (y, x) = np.random.default_rng(3), np.mgrid[:SIDE, :SIDE]
    rows, light = [], []
    for n in range(60):
        truth = Segment(*rng.uniform(43, 47, 2), rng.uniform(15, 40), rng.uniform(0, 180))
        hidden = rng.uniform(0.05, 0.35) * truth.length
        theta = np.radians(truth.angle)
        on = (x - truth.x) * np.cos(theta) + (y - truth.y) * np.sin(theta)
        off = (y - truth.y) * np.cos(theta) - (x - truth.x) * np.sin(theta)
        half = truth.length / 2
        usable = {
            "plane": on < half - hidden,
            "disc": np.hypot(on - half, off) > hidden,
            "middle": abs(on) > hidden / 2,
        }
        pixels = field(n) + 400 * truth.length * trail_image((SIDE, SIDE), *truth, PSF)
        shown = truth.length - hidden
        start = Segment(
            truth.x - 0.5 * hidden * np.cos(theta), truth.y - 0.5 * hidden * np.sin(theta), shown, truth.angle
        )
        fit = fit_trail(scene(pixels, usable[shape]), start)
        if fit.converged:
            rows.append((np.array(fit.segment[:3]) - truth[:3]) / fit.errors[1:4])
            light.append((fit.flux / fit.segment.length - 400) * fit.segment.length / fit.errors[0])
            assert shape != "middle" or fit.errors[3] < 0.6
            assert fit.chi2 / fit.ndata < 1.5
    assert len(rows) >= 57
    assert 0.2 < np.abs(rows).mean() < np.abs(rows).max() < 4
    assert np.abs(np.median(light)) < 1.5  # what is seen is as bright per px as the whole


@pytest.mark.parametrize(
    ("length", "usable"),
    [
        (0.0, lambda x, y: np.hypot(x - 45, y - 45) > 1.6),
        (3.0, lambda x, y: x != 47),
        (20.0, lambda x, y: x != 55),
    ],
)
def test_a_core_or_a_column_that_is_masked_costs_a_short_trail_no_light(length, usable):
    y, x = np.mgrid[:SIDE, :SIDE]
    truth, pulls = Segment(45.0, 45.0, length, 0.0), []
    for seed in range(20):
        pixels = field(seed) + 5000 * trail_image((SIDE, SIDE), *truth, PSF)
        fit = fit_trail(scene(pixels, usable(x, y)), truth._replace(x=45.3))
        assert fit.converged
        assert fit.chi2 / fit.ndata < 1.5
        pulls.append((fit.flux - 5000) / fit.errors[0])
    assert np.abs(pulls).max() < 4


def test_length_error_shrinks_with_signal():
    errors = [one(np.random.default_rng(2), 12.0, snr)[0].errors[3] for snr in (10, 20, 40)]
    assert errors[0] > 1.7 * errors[1] > 2.5 * errors[2]


@pytest.mark.parametrize("turn", [-2.0, 0.0, 2.0])
def test_long_trail_is_followed_past_stars(turn):
    rng = np.random.default_rng(4)
    truth = Segment(180.0, 120.0, 310.0, 174.0)
    pixels = field(4, (240, 360)) + 60 * truth.length * trail_image((240, 360), *truth, PSF)
    for x in (60, 140, 171, 260, 300):  # on the trail and just beside it, up to thirty times as bright
        y = 120 - (x - 180) * np.tan(np.radians(6)) + rng.uniform(-4, 4)
        pixels += rng.uniform(3e3, 3e4) * trail_image((240, 360), x, y, 0, 0, PSF)
    fit = fit_trail(scene(pixels), Segment(184, 122, 270, truth.angle + turn))
    assert fit.converged
    assert apart(fit.segment, truth) < 2
    assert abs(fit.segment.angle - truth.angle) < 0.3


def test_parallel_trails_ten_pixels_apart_stay_two():
    one_trail, other = Segment(45, 40, 30, 20), Segment(45, 50, 30, 20)
    pixels = field(6) + sum(4000 * trail_image((SIDE, SIDE), *s, PSF) for s in (one_trail, other))
    for truth in (one_trail, other):
        fit = fit_trail(scene(pixels), truth._replace(x=46, length=26, angle=23))
        assert apart(fit.segment, truth) < 1.5
        assert fit.flux == pytest.approx(4000, rel=0.1)


def test_trail_that_leaves_the_image_ends_at_its_border():
    pixels = field(7) + 200 * 300 * trail_image((SIDE, SIDE), 45, 45, 300, 30, PSF)
    fit = fit_trail(scene(pixels), Segment(45, 45, 60, 28))
    assert fit.converged
    x1, _, x2, _ = fit.segment.ends()
    assert sorted((x1, x2)) == pytest.approx([-0.5, SIDE - 0.5], abs=0.5)
    assert fit.flux == pytest.approx(200 * fit.segment.length, rel=0.05)
    assert fit.segment.angle == pytest.approx(30, abs=0.3)


def test_first_estimate_may_be_a_piece_of_the_trail():
    truth = Segment(100, 100, 150, 40)
    pixels = field(8, (200, 200)) + 80 * 150 * trail_image((200, 200), *truth, PSF)
    fit = fit_trail(scene(pixels), Segment(112, 111, 30, 44))
    assert apart(fit.segment, truth) < 1.5


def test_masked_pixels_change_nothing_but_the_errors():
    truth = Segment(45, 45, 20, 60)
    pixels = field(9) + 5000 * trail_image((SIDE, SIDE), *truth, PSF)
    usable = np.ones((SIDE, SIDE), bool)
    usable[43:47] = False
    whole = fit_trail(scene(pixels), truth)
    pixels[43:47] = np.nan
    fit = fit_trail(scene(pixels, usable), truth)
    assert fit.converged
    assert apart(fit.segment, truth) < 1
    assert fit.errors[0] > whole.errors[0]


def test_what_cannot_be_fitted_keeps_the_first_estimate():
    start = Segment(45, 45, 10, 30)
    fit = fit_trail(scene(field(1), np.zeros((SIDE, SIDE), bool)), start)
    assert not fit.converged
    assert fit.segment == start
    assert np.isnan(fit.covariance).all()
    assert fit.ndata == 0


def test_fit_that_strays_to_another_source_has_failed():
    start = Segment(40, 40, 6, 0)
    pixels = field(5) - 6000 * trail_image((SIDE, SIDE), *start, PSF)
    pixels += 9000 * trail_image((SIDE, SIDE), 49, 47, 12, 120, PSF)
    fit = fit_trail(scene(pixels), start)
    assert not fit.converged
    assert fit.segment == start
    assert fit.flux < 0


HONEST = np.array([100.0, 3.0, 4.0, 0.0, 0.6, 2.0])


def stretched(length, resolved, flux_err=5.0, length_err=0.3, angle_err=0.02):
    covariance = np.diag(np.square([flux_err, 0.1, 0.2, length_err, angle_err, 0.5]))
    p = HONEST.copy()
    p[3] = length
    return trail_fit._honest(covariance, p, resolved, 2.0)


def test_errors_of_a_resolved_bright_trail_are_the_usual_ones():
    found = stretched(20.0, 20.0, flux_err=1e-6)
    expected = np.diag([1, 1, 1, (20 - np.sqrt(400 - 24)) / 2 / 0.3, 57.29578])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_faint_trail_wanders_along_itself():
    """S/N 20, of a FWHM 20 / sqrt(10): the factor is sqrt(1 + 8 / 40)."""
    found, wander = stretched(20.0, 20.0), np.sqrt(1.2)
    direction = np.array([np.cos(0.6), np.sin(0.6)])
    np.testing.assert_allclose(found[1:3, 1:3], np.eye(2) + (wander - 1) * np.outer(direction, direction), rtol=1e-6)
    assert found[3, 3] == pytest.approx(wander * (20 - np.sqrt(376)) / 2 / 0.3, rel=1e-6)
    assert (found[0, 0], found[4, 4]) == pytest.approx((1, 57.29578))
    assert (found[0, 1:] == 0).all()
    weak = stretched(20.0, 20.0, flux_err=1e4)  # no S/N is below 0.1
    assert weak[3, 3] == pytest.approx(np.sqrt(1 + 8 / 0.001) * (20 - np.sqrt(376)) / 2 / 0.3)
    for length, wanders in ((2.0, False), (2.01, True)):
        assert (stretched(length, length)[1, 2] != 0) == wanders


def test_errors_of_a_short_trail_follow_from_the_square_of_its_length():
    # q = 1, err(q) = 2 1.5 0.3 = 0.9: half of 1 - sqrt(1 - 2.6 0.9) counts as half of 1, sqrt(1.9) - 1 is less.
    assert stretched(1.0, 1.5)[3, 3] == pytest.approx(0.5 / 0.3)
    # q = 0: the root of err(q)
    point = stretched(0.0, 1.5)
    assert point[3, 3] == pytest.approx(np.sqrt(0.9) / 0.3)
    assert point[4, 4] == pytest.approx(90 / 0.02)
    # q = 2.25, err = 0.9: half of 1.5 - sqrt(2.25 - chance err), where a free direction makes 2 errors more
    chance = 2 + 0.6 * np.exp(-((2.25 / 3.6) ** 2))
    assert stretched(1.5, 1.5)[3, 3] == pytest.approx((1.5 - np.sqrt(2.25 - chance * 0.9)) / 2 / 0.3)
    assert stretched(1.0, 1.5)[4, 4] == pytest.approx(57.29578 * 1.5**2)
    assert stretched(1.0, 1.5, angle_err=1.0)[4, 4] == pytest.approx(90)


def test_an_error_of_the_ellipticity_is_one_of_the_square_of_the_length():
    covariance, p = np.diag(np.square([5.0, 0.1, 0.2, 0.3, 0.02, 0.5])), HONEST.copy()
    found = trail_fit._honest(covariance, p, 1.5, 2.0, 1.2)  # q = 0, err(q) = 0.9 from noise and 1.2
    assert found[3, 3] == pytest.approx(np.sqrt(1.5) / 0.3)


def test_a_trail_longer_than_any_on_other_images_is_sought_in_a_narrower_strip_of_a_large_one():
    small, large = ((6144, 6144), (30_000, 30_000))
    of = {
        shape: scene(np.empty((1, 1)))._replace(pixels=np.broadcast_to(np.float32(0), shape))
        for shape in (small, large)
    }
    for length in (50.0, 3000.0, 8000.0):
        assert trail_fit._aside(of[large], length) == trail_fit._aside(of[small], length) == 0.03 * length
    areas = [length * trail_fit._aside(of[large], length) for length in (9000.0, 20_000.0, 40_000.0)]
    assert areas == pytest.approx([0.06 * 6144**2] * 3)


def test_the_narrower_strip_gives_the_same_trail(monkeypatch):
    monkeypatch.setattr(trail_fit, "is_large", lambda shape: True)
    truth = Segment(200.3, 60.2, 300.0, 4.0)
    seen = scene(galsim_trail((120, 400), *truth, 2.3, 3.0) * 40_000 + field(3, (120, 400)))
    start = Segment(201.0, 60.0, 290.0, 4.4)
    whole = fit_trail(seen, start)
    monkeypatch.setattr(trail_fit, "WHOLE_PIXELS", 20_000)
    narrow = fit_trail(seen, start)
    assert whole.converged
    assert narrow.converged
    assert apart(narrow.segment, whole.segment) < 0.02


@pytest.mark.parametrize(
    ("length", "is_long", "blurred"),
    [(0.0, False, False), (1.99, False, False), (2.0, False, True), (8.0, False, True), (8.01, True, True)],
)
def test_a_first_fit_is_blurred_from_two_fwhm_on_and_looks_beside_trails_longer_than_eight(
    monkeypatch, length, is_long, blurred
):
    """Lengths in FWHM; light that could draw a long trail aside is cut, and a wider area is looked at."""
    asked, cut = [], []
    capped = trail_fit.capped

    def best(scene, seen, first, free, blur_fwhm):
        asked.append((seen, free, blur_fwhm))
        return first[0], True

    monkeypatch.setattr(trail_fit, "_best", best)
    monkeypatch.setattr(trail_fit, "capped", lambda seen, sigma: cut.append(sigma) or capped(seen, sigma))
    image, start = scene(field(1, (120, 120)), fwhm=2.0), Segment(60.0, 60.0, 2.0 * length, 20.0)
    trail_fit._first_fit(image, start)
    ((seen, free, blur),) = asked
    assert (free, blur) == (5, 0.8 if blurred else 0.0)  # at a fixed level
    assert cut == [SIGMA] * is_long
    narrow = trail_fit.view(image, start, trail_fit._radius(image))
    assert (seen.use.sum() > narrow.use.sum()) == is_long


@pytest.mark.parametrize("error", [0.05, 0.2])
def test_what_is_not_known_of_the_shape_of_the_psf_may_be_length(error):
    """The second moment of a trail is that of a line, length^2 / 12; an ellipticity adds its share of sigma^2."""
    pixels = field(5) + 2e6 * trail_image((SIDE, SIDE), 45, 45, 0, 0, moffat_mixture(4.0, 3.0))
    fit = fit_trail(scene(pixels, fwhm=4.0)._replace(ellipticity_err=error), Segment(45, 45, 0, 0))
    assert fit.converged
    assert fit.segment.length < 0.5
    assert fit.errors[3] ** 2 == pytest.approx(12 * (4.0 / 2.3548) ** 2 * error, rel=0.3)
