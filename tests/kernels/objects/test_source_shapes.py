import math

import numpy as np
import pytest
import sep
from photutils.profiles import CurveOfGrowth

from kernels.objects import source_shapes
from kernels.objects.source_shapes import (
    _crossings,
    _extracted,
    _gaussian,
    _sources,
    any_in_boxes,
    find_shapes,
    in_wings,
    petrosian_radii,
)
from tests.support.science import FWHM, SIGMA, bare, drawn


def found(sources, shape=(160, 180), **settings):
    return find_shapes(
        bare(drawn(sources, shape)), FWHM, **{"threshold": 6.0, "min_area": 3, "contrast": 0.005} | settings
    )


def test_finds_stars_and_galaxies_with_their_shapes():
    sources = [(40.3, 40.7, 3e4, 0, 1, 0), (120.2, 60.4, 6e4, 5.0, 0.4, 30), (60.0, 120.0, 5e4, 4.0, 0.5, 150)]
    shapes = found(sources)
    assert len(shapes.x) == 3
    np.testing.assert_allclose(shapes.x, [40.3, 120.2, 60.0], atol=0.1)
    np.testing.assert_allclose(shapes.y, [40.7, 60.4, 120.0], atol=0.1)
    assert shapes.elongation[0] < 1.1
    assert (shapes.elongation[1:] > 1.5).all()
    np.testing.assert_allclose(shapes.angle[1:], [30, 150], atol=4)
    assert shapes.half_light[0] < 0.8 * shapes.half_light[1]
    assert not shapes.blended.any()


def test_the_half_light_radius_is_that_of_the_curve_of_growth():
    pixels = drawn([(80.0, 80.0, 2e5, 5.0, 1.0, 0)], (160, 160))
    shapes = find_shapes(bare(pixels), FWHM, 6.0, 3, 0.005)
    growth = CurveOfGrowth(pixels, (80, 80), np.arange(1, 45))
    growth.normalize()
    assert shapes.half_light[0] == pytest.approx(growth.calc_radius_at_ee(0.5), rel=0.05)


def test_the_petrosian_radius_of_an_exponential_disc_is_the_known_one():
    scale = 6.0  # of the disc; GalSim's half-light radius is 1.678 of it
    pixels = drawn([(150.0, 150.0, 1e7, 1.678 * scale, 1.0, 0)], (301, 301))
    (radius,) = petrosian_radii(bare(pixels), np.array([150.0]), np.array([150.0]), np.array([1.678 * scale]))
    r = np.linspace(0.01, 12, 4000)  # in disc scales: eta = I(annulus) / <I>

    def light(u):
        return 1 - (1 + u) * np.exp(-u)

    eta = (light(1.25 * r) - light(0.8 * r)) / (1.25**2 - 0.8**2) / light(r)
    expected = scale * r[np.argmax(eta < 0.2)]
    assert radius == pytest.approx(expected, rel=0.04)  # the PSF widens it a little


def test_close_neighbours_are_taken_apart_and_flagged():
    shapes = found([(80.0, 80.0, 4e4, 0, 1, 0), (86.5, 80.0, 4e4, 0, 1, 0), (30.0, 30.0, 4e4, 0, 1, 0)])
    assert len(shapes.x) == 3
    assert shapes.blended.tolist() == [False, True, True]
    assert len(found([(80.0, 80.0, 4e4, 0, 1, 0), (86.5, 80.0, 4e4, 0, 1, 0)], contrast=1.0).x) == 1


def test_what_the_image_cuts_is_told():
    shapes = found([(0.0, 80.0, 4e4, 0, 1, 0), (90.0, 80.0, 4e4, 0, 1, 0)])
    cut = shapes.truncated | (shapes.box[:, 2] == 0)
    assert cut[np.argsort(shapes.x)].tolist() == [True, False]


def test_noise_alone_has_hardly_any_and_nothing_is_no_error():
    assert len(found([]).x) == 0
    blank = find_shapes(bare(np.zeros((60, 60), np.float32)), FWHM, 3.0, 3, 0.005)
    assert len(blank.x) == len(blank.box) == 0


def test_a_crowded_image_is_searched_at_a_higher_threshold(monkeypatch):
    monkeypatch.setattr(source_shapes, "_PIXELS", 2000)
    rng = np.random.default_rng(1)
    crowd = [(x, y, 3e3, 0, 1, 0) for x, y in rng.uniform(5, 155, (400, 2))]
    few = found(crowd)
    monkeypatch.setattr(source_shapes, "_PIXELS", 1_000_000)
    higher = [found(crowd, threshold=6.0 * 2**n).x for n in range(1, 6)]
    assert any(np.array_equal(few.x, one) for one in higher)


@pytest.mark.parametrize("seed", [3, 4])
def test_faint_stars_are_found_among_bright_ones(seed):
    rng = np.random.default_rng(seed)
    norm = np.sqrt(np.square(drawn([(60.0, 60.0, 1.0, 0, 1, 0)], noise=0.0)).sum())
    snr = np.where(np.arange(120) % 10, rng.uniform(7, 12, 120), 1000.0)
    places = rng.uniform(15, 585, (120, 2))
    stars = [(*place, SIGMA * one / norm, 0, 1, 0) for place, one in zip(places, snr, strict=True)]
    shapes = find_shapes(bare(drawn(stars, (600, 600))), FWHM, 3.0, 5, 0.005)
    away = np.hypot(shapes.x[:, None] - places[:, 0], shapes.y[:, None] - places[:, 1])
    assert (away.min(axis=0)[snr < 100] < 1.5).mean() >= 0.95
    assert (away.min(axis=1) > 3).sum() <= 20  # noise, in 138,000 independent places


def extracted(pixels, clean):
    return sep.extract(
        pixels, 3.0, err=np.full(pixels.shape, SIGMA, np.float32), minarea=3, clean=clean, deblend_cont=0.0005
    )


@pytest.mark.parametrize("seed", [5, 6])
def test_what_lies_in_the_wings_of_a_brighter_source_is_what_sep_cleans(seed):
    """Here at least: for sep the third brightest of its pixels has to rise above the wings, not the brightest."""
    rng = np.random.default_rng(seed)
    stars = [(*place, flux, 0, 1, 0) for *place, flux in rng.uniform((20, 20, 1e6), (380, 380, 4e6), (12, 3))]
    galaxies = [(*place, 2e5, 15.0, 0.7, 40.0) for place in rng.uniform(40, 360, (4, 2))]
    pixels = drawn([*stars, *galaxies], (400, 400), seed=seed)
    every, cleaned = extracted(pixels, False), extracted(pixels, True)
    kept = np.isin(every["x"] + 1j * every["y"], cleaned["x"] + 1j * cleaned["y"])
    ours = in_wings(every)
    assert (~kept).sum() > 20
    np.testing.assert_array_equal(ours, ~kept)
    assert not ours[every["cpeak"] > 100 * SIGMA].any()
    assert in_wings(every[:0]).shape == (0,)


def test_what_is_not_worth_it_is_not_measured_and_its_pixels_are_of_the_sky():
    image = bare(drawn([(80.0, 80.0, 4e4, 0, 1, 0), (88.0, 80.0, 4e3, 0, 1, 0)], (160, 180)))
    asked = []

    def brighter(asked_of, x, y):
        asked.append((asked_of is image, sorted(np.rint(x)), list(np.rint(y))))
        return x < 84

    both, every = _sources(image, FWHM, 6.0, 3, 0.005, lambda image, x, y: x > 0)
    one, segments = _sources(image, FWHM, 6.0, 3, 0.005, brighter)
    assert asked == [(True, [80, 88], [80, 80])]
    assert (len(both), len(one)) == (2, 1)
    assert both["x"][every[80, 80] - 1] == one["x"][0] == pytest.approx(80, abs=0.1)
    np.testing.assert_array_equal(segments, every == every[80, 80])
    shapes = find_shapes(image, FWHM, 6.0, 3, 0.005, brighter)
    assert len(shapes.x) == 1


def test_boxes_hold_what_they_hold():
    mask = np.ones((20, 20), np.uint16)
    mask[5, 7] = 3
    boxes = np.array([[0, 5, 0, 7], [6, 9, 0, 9], [5, 5, 7, 7]])
    assert any_in_boxes(mask, np.uint16(2), boxes).tolist() == [True, False, True]


def test_a_neighbour_does_not_widen_a_source():
    alone = found([(80.0, 80.0, 4e4, 0, 1, 0)])
    pair = found([(80.0, 80.0, 4e4, 0, 1, 0), (87.0, 80.0, 4e4, 0, 1, 0)])
    assert len(pair.x) == 2
    np.testing.assert_allclose(pair.half_light, alone.half_light[0], rtol=0.25)


def test_a_large_image_has_the_sources_that_it_has_as_a_whole(monkeypatch):
    """Stars and galaxies all over, many across the sides of blocks: none is lost, none is there twice."""
    rng = np.random.default_rng(8)
    stars = [(*place, flux, 0, 1, 0) for *place, flux in rng.uniform((5, 5, 2e3), (395, 345, 2e4), (150, 3))]
    galaxies = [(100.0 * n, 101.5, 6e4, 4.0, 0.5, 30.0 * n) for n in (1, 2, 3)]
    image = bare(drawn([*stars, *galaxies], (350, 400)))
    image.bad[200:230, 90:120] = True
    image.pixels[image.bad] = 0
    whole = find_shapes(image, FWHM, 3.0, 5, 0.005)
    monkeypatch.setattr("schemas.pixels.WHOLE_PIXELS", 1000)
    monkeypatch.setattr(source_shapes, "BLOCK", 100)
    monkeypatch.setattr(source_shapes, "MARGIN", 70)
    parts = find_shapes(image, FWHM, 3.0, 5, 0.005)
    assert len(parts.x) == len(whole.x) > 120
    assert (np.diff(parts.y) >= 0).all()
    away = np.hypot(whole.x[:, None] - parts.x, whole.y[:, None] - parts.y)
    same = away.argmin(axis=1)
    assert len(set(same)) == len(same)
    assert away.min(axis=1).max() < 2  # whose faint pixels are between two is drawn by lot (sep, after SExtractor)
    alone = ~whole.blended
    assert 60 < alone.sum() < len(alone)
    for name, column in whole._asdict().items():
        found = getattr(parts, name)[same[alone]]
        np.testing.assert_allclose(found, column[alone], rtol=1e-6, atol=1e-6, err_msg=name)


def shapes_by_sep(pixels, noise, bad, fwhm):
    """Shapes as SExtractor has them: light in 2.5 Kron radii, and the circle that holds half of it."""
    half = max(1, round(fwhm))
    offset = np.arange(-half, half + 1)
    kernel = np.exp(-4 * np.log(2) * np.add.outer(offset**2, offset**2) / fwhm**2).astype(np.float32)
    objects, segments = sep.extract(
        pixels, 6.0 * np.sqrt(np.sum(kernel**2)) / np.sum(kernel), err=noise, mask=bad, minarea=3, filter_kernel=kernel,
        filter_type="conv", deblend_nthresh=32, deblend_cont=0.005, segmentation_map=True,
    )  # fmt: skip
    order = np.lexsort((objects["x"], objects["y"]))
    one, own = objects[order], {"mask": bad, "segmap": segments, "seg_id": (order + 1).astype(np.int32)}
    x, y, a, b = one["x"], one["y"], np.maximum(one["a"], 0.3), np.maximum(one["b"], 0.3)
    theta = np.clip(one["theta"], -np.pi / 2, np.pi / 2)
    kron = np.clip(np.nan_to_num(sep.kron_radius(pixels, x, y, a, b, theta, 6.0, **own)[0]), 1.4, 8)
    total = sep.sum_ellipse(pixels, x, y, a, b, theta, 2.5 * kron, subpix=1, **own)[0]
    radius = np.clip(2.5 * kron * a, 3, 200)
    light = sep.flux_radius(pixels, x, y, radius, 0.5, normflux=total, subpix=5, **own)[0]
    light = np.where((total > 0) & (light > 0), light, np.nan)
    guess = np.where(np.isfinite(light), light, fwhm / 2)
    wx, wy, flag = sep.winpos(pixels, x, y, np.minimum(guess, 5 * fwhm) / 1.17741, mask=bad, subpix=5)
    good = (flag == 0) & (np.hypot(wx - x, wy - y) < np.maximum(1, guess))
    flags = (one["flag"] & sep.OBJ_MERGED) > 0, (one["flag"] & sep.OBJ_TRUNC) > 0
    box = np.stack([one["ymin"], one["ymax"], one["xmin"], one["xmax"]], 1)
    centres = np.where(good, wx, x), np.where(good, wy, y)
    return *centres, light, a / b, np.degrees(theta) % 180, box, *flags, guess, own


@pytest.mark.parametrize("fwhm", [FWHM, 1.2, 4.0])
def test_shapes_are_those_of_sextractor(fwhm):
    rng = np.random.default_rng(5)
    sources = [(40.3, 40.7, 3e4, 0, 1, 0), (120.2, 60.4, 6e4, 5.0, 0.4, 30), (60.0, 120.0, 5e4, 9.0, 0.2, 150)]
    sources += [(80.0, 20.0, 4e4, 0, 1, 0), (86.5, 20.0, 4e4, 0, 1, 0), (178.0, 100.0, 4e4, 0, 1, 0)]
    sources += [(x, y, flux, 0, 1, 0) for x, y, flux in rng.uniform((5, 5, 300), (175, 155, 3000), (25, 3))]
    pixels, bad = drawn(sources, (160, 180)), np.zeros((160, 180), bool)
    pixels[140, 20] += 900  # one pixel alone
    pixels[139:143, 60:62] += [200, -190]
    bad[58:61, 122] = True
    image = bare(pixels, bad)
    image.pixels[100:104, 100:104] += [[90], [-70], [100], [-80]]
    shapes = find_shapes(image, fwhm, 6.0, 3, 0.005)
    *expected, guess, own = shapes_by_sep(image.pixels, image.noise, bad, fwhm)
    names = [name for name in shapes._fields if name != "petrosian"]
    for found, known in zip((getattr(shapes, name) for name in names), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-5, atol=1e-5)
    assert shapes.blended.any()
    assert shapes.box.dtype == np.int64
    own.pop("mask")
    np.testing.assert_array_equal(shapes.petrosian, petrosian_radii(image, shapes.x, shapes.y, guess, **own))


def test_petrosian_radii_are_read_off_fourteen_circles():
    image = bare(drawn([(60.0, 60.0, 2e5, 4.0, 1.0, 0), (20.0, 20.0, 3e4, 0, 1, 0), (95.0, 90.0, 3e4, 6.0, 0.5, 20)]))
    x, y, half = np.array([60.0, 20, 95, 110]), np.array([60.0, 20, 90, 30]), np.array([4.0, 1.4, 6.0, 2.0])
    found = petrosian_radii(image, x, y, half)
    for n in range(4):
        radii = 0.5 * half[n] * 1.25 ** np.arange(14)
        light = [
            sep.sum_circle(image.pixels, x[n : n + 1], y[n : n + 1], r, subpix=5 if k < 7 else 1)[0][0]
            for k, r in enumerate(radii)
        ]
        mean = [light[k] / (np.pi * radii[k] ** 2) for k in range(14)]
        ratio = [
            (light[k + 1] - light[k - 1]) / (np.pi * (radii[k + 1] ** 2 - radii[k - 1] ** 2)) / mean[k]
            if light[k] > 0 else np.nan
            for k in range(1, 13)
        ]  # fmt: skip
        expected = _crossings(radii[None, 1:-1], np.array([ratio]))
        assert found[n : n + 1] == pytest.approx(expected, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    ("ratio", "radius"),
    [
        ([0.9, 0.6, 0.3, 0.1], 4 * 2**0.5),  # halfway between 0.3 and 0.1
        ([0.9, 0.25, 0.0, 0.1], 2 * 2**0.2),
        ([0.9, 0.2, 0.1, 0.0], 2.0),
        ([0.1, 0.6, 0.3, 0.1], 1.0),
        ([0.2, 0.6, 0.3, 0.25], math.nan),
        ([0.9, math.nan, 0.1, 0.1], math.nan),
        ([math.nan, 0.9, 0.3, 0.1], 4 * 2**0.5),
    ],
)
def test_a_profile_is_followed_to_where_it_first_falls_below_a_fifth(ratio, radius):
    found = _crossings(np.array([[1.0, 2.0, 4.0, 8.0]]), np.array([ratio]))
    assert found == pytest.approx(np.array([radius]), nan_ok=True)


def test_a_full_memory_doubles_the_threshold_five_times_at_most(monkeypatch):
    asked, failures = [], iter(())

    def extract(pixels, threshold, **settings):
        asked.append(threshold)
        message = next(failures, None)
        if message:
            raise Exception(message)
        return "objects", "segments"

    monkeypatch.setattr(source_shapes.sep, "extract", extract)
    image = bare(np.zeros((20, 20), np.float32))
    share = np.sqrt(np.sum(_gaussian(FWHM) ** 2)) / np.sum(_gaussian(FWHM))  # noise of the filtered image
    failures = iter(["internal pixel buffer full", "object deblending overflow"])
    assert _extracted(image, FWHM, 3.0, 3, 0.005) == ("objects", "segments")
    assert asked == pytest.approx(share * np.array([3.0, 6.0, 12.0]))
    asked.clear()
    failures = iter(["full"] * 9)
    with pytest.raises(Exception, match="full"):
        _extracted(image, FWHM, 3.0, 3, 0.005)
    assert asked == pytest.approx(share * np.array([3.0, 6.0, 12.0, 24.0, 48.0, 96.0]))
    asked.clear()
    failures = iter(["something else"])
    with pytest.raises(Exception, match="something else"):
        _extracted(image, FWHM, 3.0, 3, 0.005)
    assert asked == pytest.approx([3.0 * share])


@pytest.mark.parametrize(("fwhm", "half"), [(0.3, 1), (1.4, 1), (2.6, 3), (4.0, 4)])
def test_the_filter_is_as_wide_as_the_psf(fwhm, half):
    kernel = _gaussian(fwhm)
    offset = np.arange(-half, half + 1)
    expected = 0.5 ** (np.add.outer(offset**2, offset**2) / (fwhm / 2) ** 2)
    np.testing.assert_allclose(kernel, expected, rtol=1e-6, atol=1e-30)
    assert kernel.dtype == np.float32


def test_a_block_without_a_good_pixel_has_no_sources(monkeypatch):
    image = bare(drawn([(200.3, 60.4, 3e4, 0, 1, 0)], (120, 300)))
    image.bad[:, :120] = True
    image.pixels[image.bad] = 0
    monkeypatch.setattr("schemas.pixels.WHOLE_PIXELS", 1000)
    monkeypatch.setattr(source_shapes, "BLOCK", 100)
    monkeypatch.setattr(source_shapes, "MARGIN", 10)
    looked, real = [], source_shapes._sources

    def sources(piece, *settings):
        looked.append(piece.bad.all())
        return real(piece, *settings)

    monkeypatch.setattr(source_shapes, "_sources", sources)
    shapes = find_shapes(image, FWHM, 6.0, 3, 0.005)
    np.testing.assert_allclose([shapes.x, shapes.y], [[200.3], [60.4]], atol=0.1)
    assert not any(looked)
