import math
from dataclasses import replace

import galsim
import numpy as np
import pytest

from benchmarks.measurement.pulls import correlated_noise
from kernels.image.noise import Noise
from kernels.measure.star_residue import share_left
from kernels.measure.surroundings import blob_pixels, residual_features, sharpness, static_light
from kernels.measure.vetoes.subtraction import lobes
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment, stadium
from kernels.trails.scene import Scene, trail_shape, view
from kernels.trails.trail_fit import TrailFit, fit_trail
from kernels.trails.trail_model import trail_image
from schemas.dia_source import RESIDUALS, STATIC, UNKNOWN

PSF = moffat_mixture(2.3, 3.0)
SHAPE = (60, 70)
NOISE, CORRELATION = correlated_noise(np.random.default_rng(4), SHAPE)


def scene(pixels):
    return Scene((pixels + 10 * NOISE).astype(np.float32), np.ones(SHAPE, bool), PSF, 2.3, Noise(10.0, CORRELATION))


def source(x, y, length=0.0, angle=0.0, flux=2000.0):
    return flux * trail_image(SHAPE, x, y, length, angle, PSF)


def test_dipole_has_as_much_below_as_above_and_a_source_nothing():
    dipole = lobes(scene(source(35, 30) - source(37, 31)), Segment(35, 30, 0, 0), 0.0)
    assert dipole.fraction == pytest.approx(1, abs=0.25)
    assert dipole.lowest < -8
    for trail in ((35, 30, 0.0, 0.0), (35, 30, 18.0, 50.0)):
        assert lobes(scene(source(*trail)), Segment(*trail), 0.0).fraction < 0.05


def test_smoothed_noise_has_unit_variance():
    there = scene(np.zeros(SHAPE))
    whole = Segment(34.5, 29.5, 300, 40)
    light = lobes(there, whole, 0.0)
    # E[max(z - 2, 0)] = 0.0085 per pixel of unit variance; a few hundred independent ones are here
    count = len(stadium(SHAPE, whole, 3 * 2.3).y)
    assert light.positive + light.negative == pytest.approx(2 * 0.0085 * count, rel=0.5)


def test_pure_noise_has_no_lobe_to_speak_of():
    light = lobes(scene(np.zeros(SHAPE)), Segment(35, 30, 10, 0), 0.0)
    assert light.lowest > -5
    assert light.positive < 30


def test_level_counts_as_neither():
    there = scene(source(35, 30) + 300)
    assert lobes(there, Segment(35, 30, 0, 0), 300.0).fraction < 0.05


def test_source_is_as_sharp_as_its_psf_and_a_cosmic_ray_sharper():
    trail = scene(source(35.3, 29.6, 12, 40, 4000))
    assert sharpness(trail, fit_trail(trail, Segment(35, 30, 10, 45))) == pytest.approx(1, abs=0.1)
    ray = np.zeros(SHAPE)
    ray[30, 30:36] = 600
    assert sharpness(scene(ray), fit_trail(scene(ray), Segment(33, 30, 5, 0))) > 1.35
    hit = np.zeros(SHAPE)
    hit[30, 35] = 1500
    assert sharpness(scene(hit), fit_trail(scene(hit), Segment(35, 30, 0, 0))) > 1.8


def test_blob_is_neither_a_column_nor_a_cosmic_ray():
    bad = np.zeros(SHAPE, bool)
    bad[:, 40:42] = True
    bad[25, 20:30] = True
    assert blob_pixels(~bad, Segment(35, 30, 10, 0), 15) == 0
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    bad |= np.hypot(x - 45, y - 22) < 5
    assert blob_pixels(~bad, Segment(35, 30, 10, 0), 15) > 30
    assert blob_pixels(~bad, Segment(10, 50, 0, 0), 10) == 0


def test_dark_light_beside_a_trail_is_told_by_where_along_it_lies():
    trail = Segment(35, 30, 30, 0)
    bright = source(35, 30, 30, 0, 6000)
    assert lobes(scene(bright), trail, 0.0).beside < 0.3
    assert 0.2 < lobes(scene(bright - source(26, 34, 0, 0, 1000)), trail, 0.0).beside < 0.6
    assert lobes(scene(bright - source(35, 34, 30, 0, 6000)), trail, 0.0).beside > 0.8


SHAPE_RESIDUAL = (61, 71)
FWHM = 2.4
PSF_RESIDUAL = moffat_mixture(FWHM, 3.0)
POINT = Segment(35.3, 30.2, 0.0, 0.0)
TRAIL = Segment(35.3, 30.2, 14.0, 30.0)
SIGMA = 2.0
FLUX = 2000.0
MISFITS = [name for name in RESIDUALS if name.endswith("misfit")]
AMPLITUDES = [name for name in RESIDUALS if not name.endswith("misfit")]


def fitted(scene, segment, radius, flux, level=0.0):
    """Fit that gave this trail on this level."""
    seen = view(scene, segment, radius)
    shape = trail_shape(scene, seen.footprint, segment)
    return TrailFit(flux, segment, level, np.full((5, 5), np.nan), np.nan, 0.0, 0, True, seen, shape)


def of(pixels, segment=POINT, flux=FLUX, usable=None):
    """Features of the residual of a fit that gave this trail, on a level of 0."""
    usable = np.ones(SHAPE_RESIDUAL, bool) if usable is None else usable
    scene = Scene(pixels.astype(np.float32), usable, PSF_RESIDUAL, FWHM, Noise(SIGMA, np.ones((1, 1)), np.inf))
    fit = fitted(scene, segment, 3.5 * FWHM, flux)
    found = residual_features(scene, fit, flux)
    assert found.dtype == np.float32
    return dict(zip(RESIDUALS, found.tolist(), strict=True))


def modelled(segment):
    return trail_image(SHAPE_RESIDUAL, *segment[:4], PSF_RESIDUAL)


def star(fwhm=FWHM, dx=0.0):
    """Draw the point source by GalSim."""
    profile = galsim.Moffat(beta=3.0, fwhm=fwhm, flux=FLUX)
    offset = galsim.PositionD(POINT.x + dx - (SHAPE_RESIDUAL[1] - 1) / 2, POINT.y - (SHAPE_RESIDUAL[0] - 1) / 2)
    return profile.drawImage(nx=SHAPE_RESIDUAL[1], ny=SHAPE_RESIDUAL[0], scale=1.0, offset=offset).array.astype(
        np.float64
    )


def noise(seed=0):
    return np.random.default_rng(seed).normal(0, SIGMA, SHAPE_RESIDUAL)


@pytest.mark.parametrize("segment", [POINT, TRAIL], ids=["point", "trail"])
def test_a_perfect_model_leaves_white_noise(segment):
    light = FLUX * modelled(segment)
    drawn = [of(light + noise(seed), segment) for seed in range(300)]
    for name in MISFITS:
        if name == "dark_misfit":  # half of the noise is dark
            assert np.mean([math.expm1(one[name]) for one in drawn]) == pytest.approx(0.5, abs=0.03)
        else:
            assert np.mean([math.exp(one[name]) for one in drawn]) == pytest.approx(1, abs=0.08)
    for name in AMPLITUDES:
        if name == "hollowness" and not segment.length:
            continue  # of a point: its two sides of a pixel or two
        assert np.mean([one[name] ** 2 for one in drawn]) == pytest.approx(1, abs=0.33)


def test_a_star_with_the_right_psf_is_no_misfit():
    found = of(star() + noise())
    assert max(abs(found[name]) for name in MISFITS) < 0.6
    assert max(abs(found[name]) for name in AMPLITUDES) < 4


@pytest.mark.parametrize(("width", "sign"), [(1.35, 1), (0.75, -1)])
def test_a_star_of_another_width_is_broad_or_narrow(width, sign):
    found = of(star(width * FWHM) + noise())
    assert sign * found["broadness"] > 10
    assert found["core_misfit"] > 2
    assert found["far_misfit"] < 1


def test_a_shifted_star_is_brighter_on_one_side():
    found = of(star(dx=0.4) + noise())
    assert found["imbalance"] > 10
    assert found["near_misfit"] > 1.5
    assert abs(found["broadness"]) < 0.5 * found["imbalance"]


@pytest.mark.parametrize(("name", "other", "axis"), [("ringing_x", "ringing_y", 1), ("ringing_y", "ringing_x", 0)])
def test_ringing_goes_by_columns_or_by_rows(name, other, axis):
    signs = 1 - 2 * (np.indices(SHAPE_RESIDUAL)[axis] % 2)
    found = of(star() * (1 + 0.3 * signs) + noise())
    assert found[name] > 15
    assert found[other] < 5


def test_light_that_was_subtracted_has_left_its_noise():
    rng = np.random.default_rng(5)
    light = star()
    spread = np.sqrt(SIGMA**2 + light / light.max() * (6 * SIGMA) ** 2)
    drawn = [of(light + rng.normal(0, spread)) for _ in range(20)]
    peak, near, far = (np.mean([one[f"{name}_misfit"] for one in drawn]) for name in ("peak", "near", "far"))
    assert min(one["peak_misfit"] for one in drawn) > 0.7
    assert peak > near > 1 > 0.5 > far


def test_a_halo_and_a_dark_ring():
    wide = galsim.Gaussian(fwhm=3 * FWHM, flux=0.4 * FLUX).drawImage(
        nx=SHAPE_RESIDUAL[1], ny=SHAPE_RESIDUAL[0], scale=1.0, offset=galsim.PositionD(0.3, 0.2)
    )
    assert of(star() + wide.array + noise())["halo"] > 10
    dark = of(star() - wide.array + noise())
    assert dark["halo"] < -10
    assert dark["dark_misfit"] > of(star() + noise())["dark_misfit"] + 1


def test_a_trail_that_is_two_points_is_hollow():
    along = np.cos(np.radians(30)), np.sin(np.radians(30))
    ends = [Segment(TRAIL.x + s * along[0], TRAIL.y + s * along[1], 0.0, 0.0) for s in (-6, 6)]
    found = of(FLUX / 2 * sum(modelled(end) for end in ends) + noise(), TRAIL)
    assert found["hollowness"] > 10
    assert found["imbalance"] < 4


def test_without_a_usable_pixel_there_is_nothing_to_say():
    found = of(noise(), usable=np.zeros(SHAPE_RESIDUAL, bool))
    assert set(found.values()) == {0.0}


def test_what_is_unusable_does_not_count():
    usable = np.random.default_rng(1).random(SHAPE_RESIDUAL) > 0.2
    pixels = star() + noise()
    spoilt = np.where(usable, pixels, 1e6)
    assert of(spoilt, usable=usable) == of(np.where(usable, pixels, 0), usable=usable)


SHAPE_STATIC_LIGHT, FWHM_STATIC_LIGHT, SIGMA_STATIC_LIGHT = (120, 140), 2.4, 3.0
PSF_STATIC_LIGHT = moffat_mixture(FWHM_STATIC_LIGHT, 3.0)
POINT_STATIC_LIGHT, TRAIL_STATIC_LIGHT = Segment(40.3, 60.2, 0.0, 0.0), Segment(90.0, 50.0, 30.0, 20.0)


def light(flux, segment, psf=PSF_STATIC_LIGHT):
    return flux * trail_image(SHAPE_STATIC_LIGHT, *segment, psf)


def scene_of(difference, usable=None):
    whole = np.ones(SHAPE_STATIC_LIGHT, bool) if usable is None else usable
    noise_static_light = Noise(SIGMA_STATIC_LIGHT, np.ones((1, 1)))
    return Scene(
        difference.astype(np.float32), whole, PSF_STATIC_LIGHT, FWHM_STATIC_LIGHT, noise_static_light, background=1.5
    )


@pytest.fixture
def noise_static_light():
    return np.random.default_rng(3).normal(1.5, SIGMA_STATIC_LIGHT, SHAPE_STATIC_LIGHT)


def of_static_light(scene, science, segment):
    science = None if science is None else science.astype(np.float32)
    return dict(zip(STATIC, static_light(scene, science, [segment])[0].tolist(), strict=True))


@pytest.mark.parametrize("segment", [POINT_STATIC_LIGHT, TRAIL_STATIC_LIGHT], ids=["point", "trail"])
@pytest.mark.parametrize("sky", [0.0, 900.0])
def test_what_came_into_the_light_by_itself_has_none_beneath(noise_static_light, segment, sky):
    difference = noise_static_light + light(2000, segment)
    found = of_static_light(scene_of(difference), difference + sky, segment)
    assert found == dict.fromkeys(STATIC, 0.0)


def test_a_science_image_of_another_sharpness_and_scale_is_granted(noise_static_light):
    difference = noise_static_light + light(3000, POINT_STATIC_LIGHT)
    science = (
        noise_static_light + 500 + 1.1 * light(3000, POINT_STATIC_LIGHT, moffat_mixture(1.06 * FWHM_STATIC_LIGHT, 3.0))
    )
    assert of_static_light(scene_of(difference), science, POINT_STATIC_LIGHT)["log_static"] < 0.5


@pytest.mark.parametrize("flux", [1e4, 3e5])
def test_a_star_beneath_is_told_in_units_of_the_noise(noise_static_light, flux):
    star, residual = light(flux, POINT_STATIC_LIGHT), light(0.02 * flux, POINT_STATIC_LIGHT)
    found = of_static_light(
        scene_of(noise_static_light + residual), noise_static_light + residual + star + 700, POINT_STATIC_LIGHT
    )
    unit = light(1, POINT_STATIC_LIGHT)
    mean = (1 - 0.3 * 0.02) * flux * (unit**2).sum() / SIGMA_STATIC_LIGHT
    assert np.expm1(found["log_static"]) == pytest.approx(mean, rel=0.1)
    assert np.expm1(found["log_static_peak"]) == pytest.approx(flux * unit.max() / SIGMA_STATIC_LIGHT, rel=0.05)


def test_a_star_beneath_a_part_of_a_trail_shows_in_the_peak(noise_static_light):
    star = light(20000, Segment(100.0, 53.5, 0.0, 0.0))
    found = of_static_light(
        scene_of(noise_static_light + light(3000, TRAIL_STATIC_LIGHT)),
        noise_static_light + light(3000, TRAIL_STATIC_LIGHT) + star,
        TRAIL_STATIC_LIGHT,
    )
    assert found["log_static_peak"] > found["log_static"] + 1 > 1


def test_unknown_where_nothing_tells(noise_static_light):
    unknown = dict(zip(STATIC, UNKNOWN, strict=True))
    science = noise_static_light + 100
    assert of_static_light(scene_of(noise_static_light), None, POINT_STATIC_LIGHT) == unknown
    science[50:70, 40:] = np.nan
    assert of_static_light(scene_of(noise_static_light), science, POINT_STATIC_LIGHT) == unknown
    hidden = np.ones(SHAPE_STATIC_LIGHT, bool)
    hidden[:, 40:] = False
    assert (
        of_static_light(scene_of(noise_static_light, hidden), noise_static_light + 100, POINT_STATIC_LIGHT) == unknown
    )
    assert of_static_light(scene_of(noise_static_light), noise_static_light, Segment(-60.0, -60.0, 0.0, 0.0)) == unknown
    assert static_light(scene_of(noise_static_light), noise_static_light.astype(np.float32), []).shape == (
        0,
        len(STATIC),
    )


def beyond(segment, shape):
    """Place along a trail, across it, and distance from it, of each pixel."""
    y, x = np.indices(shape)
    theta = math.radians(segment.angle)
    along = (x - segment.x) * math.cos(theta) + (y - segment.y) * math.sin(theta)
    across = (y - segment.y) * math.cos(theta) - (x - segment.x) * math.sin(theta)
    return along, across, np.hypot(np.maximum(abs(along) - segment.length / 2, 0), across)


@pytest.mark.parametrize("segment", [POINT, TRAIL, Segment(35.0, 30.0, 6.0, 90.0)])
def test_sharpness_is_light_over_model_within_three_quarters_of_a_pixel_of_the_axis(segment):
    pixels = FLUX * modelled(segment) * (1 + 0.3 * noise()) + 7
    usable = np.random.default_rng(2).random(SHAPE_RESIDUAL) > 0.2
    there = Scene(pixels.astype(np.float32), usable, PSF_RESIDUAL, FWHM, Noise(SIGMA, np.ones((1, 1))))
    fit = fitted(there, segment, 8.0, 1500.0, 5.0)
    core = (beyond(segment, SHAPE_RESIDUAL)[2] <= 0.75) & usable
    expected = (there.pixels[core] - 5.0).sum() / (1500 * modelled(segment)[core].sum())
    assert sharpness(there, fit) == pytest.approx(expected, rel=1e-5)
    assert math.isnan(sharpness(there, replace(fit, flux=0.0)))
    blind = there._replace(usable=np.zeros(SHAPE_RESIDUAL, bool))
    assert math.isnan(sharpness(blind, fit))


def test_a_pixel_three_quarters_from_the_axis_is_of_its_core():
    segment = Segment(35.0, 30.25, 4.0, 0.0)
    there = scene(np.ones(SHAPE))._replace(pixels=np.ones(SHAPE, np.float32))
    fit = fitted(there, segment, 8.0, 1.0)
    model = trail_image(SHAPE, *segment, PSF)[[30, 31], 33:38]  # rows 0.25 and 0.75 px from it
    assert sharpness(there, fit) == pytest.approx(10 / model.sum(), rel=1e-6)


@pytest.mark.parametrize("side", [(0, 12), (12, 0), (53, 12), (12, 63)])
def test_blobs_are_counted_up_to_the_pixel_beside_the_border(side):
    usable = np.ones(SHAPE, bool)
    y, x = side
    usable[y : y + 7, x : x + 7] = False  # seven by seven px, at one of the borders
    assert blob_pixels(usable, Segment(x + 3.0, y + 3.0, 0.0, 0.0), 20) == 25
    usable[y + 3, x + 3] = True
    assert blob_pixels(usable, Segment(x + 3.0, y + 3.0, 0.0, 0.0), 20) == 16


def features_by_formula(pixels, usable, segment, flux, level=0.0):
    """Features of a residual in units of the noise, from whole images."""
    along, _, away = beyond(segment, SHAPE_RESIDUAL)
    here = usable & (away <= 3.5 * FWHM)
    shapes = []
    for wider in (1.0, 1.25, 2.5):
        psf = PSF_RESIDUAL._replace(sigmas=PSF_RESIDUAL.sigmas * wider)
        shapes.append(trail_image(SHAPE_RESIDUAL, *segment, psf)[here])
    y, x = np.indices(SHAPE_RESIDUAL)
    y, x, along, away = y[here], x[here], along[here], away[here]
    model = abs(flux) / SIGMA * shapes[0]
    left = (pixels[here] - level) / SIGMA - math.copysign(1, flux) * model
    near = away <= FWHM

    def mean(values, weight):
        return max((values * weight).sum() / weight.sum(), 1e-3) if weight.sum() > 0 else 1.0

    def amplitude(pattern):
        return (left * pattern).sum() / np.sqrt((pattern**2).sum())

    def contrast(part):
        one, other = ((model[side] ** 2).sum() for side in (part, ~part))
        if min(one, other) <= 0:
            return 0.0
        bright, dark = ((left * model)[side].sum() / size for side, size in ((part, one), (~part, other)))
        return (bright - dark) / np.sqrt(1 / one + 1 / other)

    other = [shape - model * (shape @ model) / (model @ model) for shape in shapes[1:]]
    found = {
        "core_misfit": np.log(mean(left**2, model)),
        "peak_misfit": np.log(mean(left**2, model**2)),
        "near_misfit": np.log(mean(left**2, near)),
        "far_misfit": np.log(mean(left**2, ~near)),
        "dark_misfit": np.log1p(mean(np.minimum(left, 0) ** 2, shapes[1])),
        "ringing_x": abs(amplitude(model * np.where(x % 2, -1, 1))),
        "ringing_y": abs(amplitude(model * np.where(y % 2, -1, 1))),
        "broadness": amplitude(other[0]),
        "halo": amplitude(other[1]),
        "imbalance": abs(contrast(along > 0)),
        "hollowness": contrast(abs(along) > segment.length / 4),
    }
    return {name: float(np.clip(value, -20, 20)) for name, value in found.items()}


@pytest.mark.parametrize("segment", [POINT, TRAIL, Segment(30.6, 25.1, 7.0, 100.0)])
@pytest.mark.parametrize("flux", [300.0, -300.0])
def test_features_are_those_of_their_formulas(segment, flux):
    rng = np.random.default_rng(7)
    usable = rng.random(SHAPE_RESIDUAL) > 0.1
    pixels = (1.1 * flux * modelled(segment) + noise(3)).astype(np.float32)
    expected = features_by_formula(pixels.astype(float), usable, segment, flux)
    found = of(pixels, segment, flux, usable)
    assert found == pytest.approx({name: expected[name] for name in RESIDUALS}, rel=1e-3, abs=2e-4)


def test_features_end_at_20_and_a_perfect_fit_is_a_thousandth():
    bright = of(np.full(SHAPE_RESIDUAL, 1e9))
    assert bright["near_misfit"] == bright["halo"] == 20
    assert of(np.full(SHAPE_RESIDUAL, -1e9))["halo"] == -20
    exact = of(FLUX * modelled(POINT))
    for name in ("core_misfit", "near_misfit", "far_misfit"):
        assert exact[name] == pytest.approx(math.log(1e-3), rel=1e-5)
    assert exact["dark_misfit"] == pytest.approx(math.log1p(1e-3), rel=1e-4)


def test_without_light_in_the_model_nothing_is_said_of_its_shape():
    found = of(noise(), flux=0.0)
    assert [found[name] for name in ("core_misfit", "peak_misfit", "imbalance", "hollowness", "ringing_x")] == [0.0] * 5
    assert found["broadness"] != 0


def static_by_formula(scene, science, segment):
    """Light of the science image alone: the mean under a trail, and the peak of its core."""
    away = beyond(segment, SHAPE_STATIC_LIGHT)[2]
    reference = np.where(scene.usable, science.astype(float) - scene.pixels, np.nan)
    near, around = away <= 2.5 * FWHM_STATIC_LIGHT, away <= 8 * FWHM_STATIC_LIGHT
    shape = trail_image(SHAPE_STATIC_LIGHT, *segment, PSF_STATIC_LIGHT)
    excess = reference - np.nanmedian(reference[around]) - 0.3 * abs(scene.pixels - 1.5)
    seen = near & np.isfinite(reference)
    mean = (excess * shape)[seen].sum() / shape[seen].sum() / SIGMA_STATIC_LIGHT
    peak = excess[seen & (shape >= 0.3 * shape[seen].max())].max() / SIGMA_STATIC_LIGHT
    left = share_left(scene, science) * (excess * shape)[seen].sum() / math.sqrt((shape[seen] ** 2).sum())
    return [math.log1p(max(mean, 0)), math.log1p(max(peak, 0)), 0.0, math.log1p(max(left / SIGMA_STATIC_LIGHT, 0))]


@pytest.mark.parametrize("segment", [POINT_STATIC_LIGHT, TRAIL_STATIC_LIGHT, Segment(3.0, 100.0, 9.0, 90.0)])
def test_static_light_is_that_of_its_formula(segment, noise_static_light):
    rng = np.random.default_rng(6)
    usable = rng.random(SHAPE_STATIC_LIGHT) > 0.15
    difference = scene_of(noise_static_light + light(700, segment), usable)
    for star in (0.0, 400.0, 3000.0):
        beside = Segment(segment.x + 3, segment.y - 2, 0.0, 0.0)
        reference = 300 + rng.normal(0, 2, SHAPE_STATIC_LIGHT) + light(star, beside)
        science = (difference.pixels + reference).astype(np.float32)
        science[rng.random(SHAPE_STATIC_LIGHT) < 0.05] = np.nan
        found = static_light(difference, science, [segment])[0]
        np.testing.assert_allclose(found, static_by_formula(difference, science, segment), rtol=1e-4, atol=1e-5)


def test_a_source_on_a_star_is_measured_by_what_is_left_of_other_stars(noise_static_light, monkeypatch):
    """As faint as two hundredths of its star, where the subtraction leaves so much of each."""
    monkeypatch.setattr("kernels.measure.star_residue._STARS", 1)
    difference = noise_static_light + light(0.02 * 1e5, POINT_STATIC_LIGHT)
    science = difference + light(1e5, POINT_STATIC_LIGHT)
    found = of_static_light(scene_of(difference), science, POINT_STATIC_LIGHT)
    unit = light(1, POINT_STATIC_LIGHT)
    assert np.expm1(found["log_left"]) == pytest.approx(2e3 * math.sqrt((unit**2).sum()) / SIGMA_STATIC_LIGHT, rel=0.05)


def test_half_of_a_trail_must_be_seen_to_tell_what_is_beneath(noise_static_light):
    unknown = dict(zip(STATIC, UNKNOWN, strict=True))
    for more, known in ((1, True), (0, False)):  # with the column in its middle it is more than half
        hidden = np.ones(SHAPE_STATIC_LIGHT, bool)
        hidden[:, 40 + more :] = False
        found = of_static_light(scene_of(noise_static_light, hidden), noise_static_light + 9, Segment(40.0, 60.0, 0, 0))
        assert (found != unknown) == known
