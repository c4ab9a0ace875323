import galsim
import numpy as np
import pytest
import sep
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.image.noise import background_and_noise
from kernels.psf import seeing
from kernels.psf.seeing import bright_stars, fit_moffat, fit_stars, psf_of


def field(fwhm, beta, *, stars=60, dipoles=0, rays=0, seed=1, side=500):
    rng = np.random.default_rng(seed)
    image = galsim.Image(side, side, scale=1.0)
    for x, y in rng.uniform(10, side - 10, (stars, 2)):
        psf = galsim.Moffat(beta=beta, fwhm=fwhm, flux=float(rng.uniform(2e3, 2e4)))
        psf.drawImage(image, center=galsim.PositionD(x, y), add_to_image=True)
    pixels = image.array + rng.normal(100, 5, (side, side))
    for x, y in rng.integers(20, side - 20, (dipoles, 2)):
        pixels[y : y + 3, x : x + 3] += 800
        pixels[y : y + 3, x + 3 : x + 6] -= 800
    for x, y in rng.integers(20, side - 20, (rays, 2)):
        pixels[y, x : x + 6] += 3000
    return pixels.astype(np.float32)


def estimate(image, saturation=None):
    usable = np.ones(image.shape, bool)
    return psf_of(bright_stars(image, usable, *background_and_noise(image, usable), saturation, 25))


@pytest.mark.parametrize(("fwhm", "beta"), [(1.8, 3.0), (2.6, 2.5), (4.2, 4.0)])
def test_finds_the_width_of_stars(fwhm, beta):
    found = estimate(field(fwhm, beta))
    assert found[0] == pytest.approx(fwhm, rel=0.05)


def test_residuals_and_cosmic_rays_do_not_pass_for_stars():
    found = estimate(field(2.4, 3.0, stars=20, dipoles=60, rays=60))
    assert found[0] == pytest.approx(2.4, rel=0.1)


def test_saturated_stars_are_left_out():
    image = np.minimum(field(3.0, 3.0), 600)  # flat tops look wide
    assert estimate(image, saturation=600.0)[0] == pytest.approx(3.0, rel=0.1)


def test_an_empty_sky_gives_none():
    assert estimate(field(2.0, 3.0, stars=0)) is None


def test_two_stars_are_not_enough():
    assert estimate(field(2.0, 3.0, stars=2)) is None


def star(fwhm, beta, flux=1.0, shift=(0.0, 0.0), side=25):
    drawn = galsim.Moffat(beta=beta, fwhm=fwhm, flux=flux).shift(*shift).drawImage(nx=side, ny=side, scale=1.0)
    return drawn.array


@settings(deadline=None, max_examples=25)
@given(
    fwhm=st.floats(1.5, 5),
    beta=st.floats(2, 4.5),
    flux=st.floats(1e-3, 1e5),
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
)
def test_recovers_what_galsim_drew(fwhm, beta, flux, dx, dy):
    found = fit_moffat(star(fwhm, beta, flux, (dx, dy)))
    assert found[0] == pytest.approx(fwhm, rel=0.02)
    assert found[1] == pytest.approx(beta, rel=0.15)


def test_noise_background_and_missing_pixels_are_borne():
    stamp = star(2.4, 3.0, 5000.0) + np.random.default_rng(1).normal(40, 5, (25, 25))
    stamp[3:5, 7:9] = np.nan
    fwhm, _ = fit_moffat(stamp)
    assert fwhm == pytest.approx(2.4, rel=0.05)


@settings(deadline=None, max_examples=25)
@given(st.tuples(*(st.floats(*limits) for limits in ((0.5, 2), (-0.5, 0.5), (5, 7), (3, 6), (0.5, 9), (1.2, 19)))))
def test_slopes_are_those_of_the_profile(parameters):
    at = np.array(parameters)
    for n, step in enumerate(1e-6 * np.eye(6)):
        change = seeing._profile(at + step, (9, 12)) - seeing._profile(at - step, (9, 12))
        np.testing.assert_allclose(seeing._slopes(at, (9, 12))[..., n], change / 2e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("stamp", "message"),
    [
        (np.zeros((25, 25)), "no peak"),
        (np.zeros((4, 25)), "too small"),
        (np.full((25, 25), np.nan), "too small"),
    ],
)
def test_says_what_is_no_star(stamp, message):
    with pytest.raises(ValueError, match=message):
        fit_moffat(stamp)


def scene(*sources, seed=1, side=63):
    """Noise of 5 about 200, with sources of (profile, x, y), drawn by GalSim."""
    image = galsim.ImageF(side, side, init_value=0.0)
    for profile, x, y in sources:
        profile.drawImage(image, center=(x + 1, y + 1), add_to_image=True, scale=1.0)
    noisy = image.array + np.random.default_rng(seed).normal(200, 5, (side, side))
    return noisy.astype(np.float32), np.ones((side, side), bool)


def star_stamp_stars(fwhm, flux=20000.0, beta=3.0):
    return galsim.Moffat(beta=beta, fwhm=fwhm, flux=flux)


@pytest.mark.parametrize(("fwhm", "beta"), [(1.7, 2.3), (2.2, 3.0), (3.7, 8.0)])
def test_finds_place_and_width(fwhm, beta):
    image, usable = scene((star_stamp_stars(fwhm, 60000.0, beta), 20.3, 41.6))
    ((x, y, width, slope),) = fit_stars(image, usable, 200.0, 5.0)
    assert (x, y) == (pytest.approx(20.3, abs=0.1), pytest.approx(41.6, abs=0.1))
    assert width == pytest.approx(fwhm, rel=0.03)
    assert slope == pytest.approx(beta, rel=0.25)


def test_brightest_first():
    image, usable = scene((star_stamp_stars(2.0), 12, 12), (star_stamp_stars(2.0, 40000.0), 45, 40))
    assert [round(x) for x, *_ in fit_stars(image, usable, 200.0, 5.0)] == [45, 12]


@pytest.mark.parametrize(
    "sources",
    [
        [],
        [(star_stamp_stars(2.0, 400.0), 30, 30)],  # faint
        [(star_stamp_stars(2.0), 3, 30)],  # cut by the edge
        [(star_stamp_stars(2.0).shear(g1=0.4, g2=0.0), 30, 30)],  # a trail or a galaxy
        [(star_stamp_stars(2.0), 30, 30), (star_stamp_stars(2.0, 15000.0), 37, 30)],  # two that touch
        [(star_stamp_stars(8.5, 200000.0), 30, 30)],  # wide
        [(star_stamp_stars(2.0, -20000.0), 30, 30)],  # a hole
    ],
    ids=["none", "faint", "edge", "long", "double", "wide", "hole"],
)
def test_leaves_out_what_is_no_star(sources):
    image, usable = scene(*sources)
    assert fit_stars(image, usable, 200.0, 5.0).shape == (0, 4)


def test_leaves_out_a_cosmic_ray():
    image, usable = scene()
    image[30, 30] += 5000
    image[30, 31] += 3000
    assert len(fit_stars(image, usable, 200.0, 5.0)) == 0


def test_leaves_out_a_star_with_an_unusable_pixel():
    image, usable = scene((star_stamp_stars(2.0), 30, 30))
    usable[33, 30] = False
    assert len(fit_stars(image, usable, 200.0, 5.0)) == 0


def test_the_profile_is_the_mean_over_five_by_five_places_in_each_pixel():
    amplitude, base, x0, y0, fwhm, beta = parameters = np.array([3.0, 0.5, 4.3, 2.8, 2.2, 2.7])
    row, column, j, i = np.ogrid[:7, :9, -0.4:0.5:0.2, -0.4:0.5:0.2]
    square = (column + i - x0) ** 2 + (row + j - y0) ** 2
    moffat = (1 + 4 * (2 ** (1 / beta) - 1) * square / fwhm**2) ** -beta
    expected = amplitude * moffat.mean((2, 3)) + base
    np.testing.assert_allclose(seeing._profile(parameters, (7, 9)), expected, rtol=1e-12)


def test_five_by_five_pixels_are_enough_if_all_are_known():
    stamp = star(1.5, 3.0, side=5)
    assert fit_moffat(stamp)[0] == pytest.approx(1.5, rel=0.2)
    for small in (stamp[:, :4], stamp[:4], np.where(stamp == stamp.max(), stamp, np.nan)):
        with pytest.raises(ValueError, match="too small"):
            fit_moffat(small)
    stamp[0, 0] = np.nan
    with pytest.raises(ValueError, match="too small"):
        fit_moffat(stamp)
    with pytest.raises(ValueError, match="too small"):
        fit_moffat(star(1.5, 3.0)[:4])
    with pytest.raises(ValueError, match="no peak"):
        fit_moffat(np.full((9, 9), 3.0))


@pytest.mark.parametrize(("flux", "level"), [(1e-3, 0.0), (1.0, 0.0), (1e4, -3000.0), (1e4, 500.0)])
def test_missing_pixels_do_not_matter_whatever_the_unit(flux, level):
    stamp = level + star(2.4, 3.0, flux, (0.2, -0.4))
    stamp[2:4, 20:] = stamp[11, 13] = np.nan
    assert fit_moffat(stamp) == pytest.approx((2.4, 3.0), rel=0.03)


def test_a_source_at_the_side_of_its_stamp_and_a_second_beside_it():
    assert fit_moffat(star(2.4, 3.0, shift=(7.6, -8.3))) == pytest.approx((2.4, 3.0), rel=0.03)
    stamp = star(2.4, 3.0, shift=(-5.0, 0.0)) + 0.5 * star(2.4, 3.0, shift=(8.0, 4.0))
    assert fit_moffat(stamp)[0] == pytest.approx(2.4, rel=0.05)


def test_slopes_end_at_1_1_and_20():
    y, x = np.mgrid[:25, :25] - 12.0
    _, beta = fit_moffat(np.exp(-(x * x + y * y) / 8))
    assert beta == pytest.approx(20, abs=0.1)
    fwhm, beta = fit_moffat(1 / (1 + np.hypot(x, y)))  # falls more slowly than any profile
    assert beta == pytest.approx(1.1, abs=0.02)
    assert 0.3 <= fwhm <= 50


def sharp(*sources, side=61, level=200.0):
    """Gaussians (x, y, amplitude, sigma along x, along y) on a level, without noise."""
    image = np.full((side, side), level)
    row, column = np.mgrid[:side, :side]
    for x, y, amplitude, *sigmas in sources:
        wide, high = sigmas if len(sigmas) == 2 else (1.4, 1.4)
        image += amplitude * np.exp(-((column - x) ** 2) / (2 * wide**2) - (row - y) ** 2 / (2 * high**2))
    return image.astype(np.float32)


def stamps(image, saturation=None, usable=None):
    usable = np.ones(image.shape, bool) if usable is None else usable
    return [star.stamp for star in seeing.bright_stars(image, usable, 200.0, 5.0, saturation, 25)]


@pytest.mark.parametrize(
    ("source", "fit"),
    [
        ((30, 30, 100.0), False),  # 20 sigma
        ((30, 30, 100.5), True),
        ((30, 30, 600.0), False),  # 0.8 of the saturation of 1000 with the sky in it
        ((30, 30, 599.5), True),
        ((10, 30, 300.0), True),  # its stamp just inside
        ((9, 30, 300.0), False),
        ((30, 10, 300.0), True),
        ((30, 9, 300.0), False),
        ((50, 30, 300.0), True),
        ((51, 30, 300.0), False),
        ((30, 50, 300.0), True),
        ((30, 51, 300.0), False),
        ((30, 30, 300.0, 1.8, 1.4), True),
        ((30, 30, 300.0, 2.1, 1.4), False),  # longer than 1.4 times its width
        ((30, 30, 300.0, 1.4, 2.1), False),
        ((30, 30, 180.0, 0.6, 0.6), True),  # five pixels above 8 sigma of the smoothed image
        ((30, 30, 160.0, 0.6, 0.6), False),
        ((30.5, 30.5, 250.0, 0.6, 0.6), False),  # four
    ],
)
def test_limits_of_stars_that_are_fitted(source, fit):
    image = sharp(source)
    found = stamps(image, 1000.0)
    assert len(found) == fit
    if fit:
        x, y = source[:2]
        np.testing.assert_array_equal(found[0], image[y - 10 : y + 11, x - 10 : x + 11] - 200)


@pytest.mark.parametrize(
    ("dx", "dy", "value", "fit"),
    [
        (10, -10, -74.9, True),  # 5 sigma and a tenth of the peak
        (10, -10, -75.1, False),
        (5, 5, 149.9, True),  # 0.3 of the peak more than 7 px away
        (5, 5, 150.1, False),
        (-10, 0, 150.1, False),
        (7, 0, 155.0, True),
        (0, -7, 155.0, True),
    ],
)
def test_what_may_lie_beside_a_star(dx, dy, value, fit):
    image = sharp((30, 30, 500.0))
    image[30 + dy, 30 + dx] = 200 + value
    assert len(stamps(image)) == fit
    usable = np.ones(image.shape, bool)
    usable[30 + dy, 30 + dx] = False
    assert not stamps(image, usable=usable)


def test_25_stars_at_most_the_brightest_first():
    places = [(15 + 25 * column, 15 + 25 * row) for row in range(6) for column in range(5)]
    peaks = np.random.default_rng(2).permutation(np.arange(30)) * 10.0 + 300
    found = stamps(sharp(*((x, y, peak) for (x, y), peak in zip(places, peaks, strict=True)), side=160))
    assert [round(float(stamp.max())) for stamp in found] == list(range(590, 340, -10))


def test_the_width_is_the_median_of_those_that_stars_have(monkeypatch):
    widths = [(0.9, 9.0), (0.91, 2.0), (5.0, 4.0), (9.99, 3.0), (10.0, 9.0), (0.5, 9.0), (12.0, 9.0)]

    def told(*fits):
        left = list(fits)
        monkeypatch.setattr(seeing, "fit_moffat", lambda stamp: left.pop())
        return psf_of([seeing.Star(0, 0, np.zeros((21, 21)))] * len(fits))

    assert told(*widths)[:2] == (5.0, 3.0)
    assert told(*widths[:3]) is None
    assert told() is None


@pytest.mark.parametrize("find", [lambda *given: bright_stars(*given, None, 25), fit_stars])
def test_a_frame_of_nothing_but_sources_has_no_stars(find):
    frame = np.full((61, 61), 1000, np.float32)
    assert len(find(frame, np.ones(frame.shape, bool), 200.0, 5.0)) == 0


@pytest.mark.parametrize("before", [10, 10**6])
def test_stars_do_not_depend_on_what_was_searched_before(before):
    image, usable = scene((star_stamp_stars(2.0), 30, 30))
    sep.set_extract_pixstack(before)
    assert len(fit_stars(image, usable, 200.0, 5.0)) == 1
    assert sep.get_extract_pixstack() == image.size, "takes more memory than a small image needs"


def accepted(image, usable=None, fit=(2.0, 3.0)):
    """Stars that are fitted, whatever the fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeing, "fit_moffat", lambda stamp: fit)
        return fit_stars(image, np.ones(image.shape, bool) if usable is None else usable, 200.0, 5.0)


@pytest.mark.parametrize(
    ("source", "fit"),
    [
        ((30, 30, 60.0, 2.0, 2.0), False),  # 12 sigma
        ((30, 30, 60.5, 2.0, 2.0), True),
        ((7, 30, 300.0), True),  # its stamp just inside
        ((6, 30, 300.0), False),
        ((30, 7, 300.0), True),
        ((30, 6, 300.0), False),
        ((53, 30, 300.0), True),
        ((54, 30, 300.0), False),
        ((30, 53, 300.0), True),
        ((30, 54, 300.0), False),
        ((30, 30, 300.0, 1.8, 1.4), True),
        ((30, 30, 300.0, 2.1, 1.4), False),
        ((30, 30, 300.0, 1.4, 2.1), False),
        ((30, 30, 180.0, 0.6, 0.6), True),
        ((30, 30, 160.0, 0.6, 0.6), False),
        ((30.5, 30.5, 250.0, 0.6, 0.6), False),
    ],
)
def test_limits_of_stars_whose_width_is_told(source, fit):
    found = accepted(sharp(source))
    assert len(found) == fit
    if fit:
        assert found[0] == pytest.approx([*source[:2], 2.0, 3.0], abs=1e-4)


@pytest.mark.parametrize(
    ("apart", "share", "stars"),
    [(10.0, 1.0, 0), (11.0, 1.0, 2), (9.0, 0.08, 1), (9.0, 0.12, 0), (11.0, 0.12, 2)],
)
def test_a_star_is_alone_within_10_5_px_but_for_a_tenth_of_its_light(apart, share, stars):
    for x, y in ((30 + apart, 30), (30, 30 + apart), (30 - apart, 30)):
        assert len(accepted(sharp((30, 30, 2e4, 0.9, 0.9), (x, y, share * 2e4, 0.9, 0.9)))) == stars


@pytest.mark.parametrize(("width", "told"), [(0.9, 0), (0.91, 1), (6.99, 1), (7.0, 0), (0.3, 0), (9.0, 0)])
def test_stars_are_as_wide_as_stars_can_be(width, told):
    assert len(accepted(sharp((30, 30, 300.0)), fit=(width, 3.0))) == told


def test_what_is_not_usable_is_not_looked_at():
    image, usable = sharp((30, 30, 300.0), (12, 12, 900.0)), np.ones((61, 61), bool)
    image[:20, :20], usable[:20, :20] = np.nan, False
    ((x, y, *_),) = accepted(image, usable)
    assert (x, y) == pytest.approx((30, 30), abs=1e-4)
    for row, column in ((23, 30), (37, 37), (30, 23)):
        cut = np.ones((61, 61), bool)
        cut[row, column] = False
        assert len(accepted(sharp((30, 30, 300.0)), cut)) == 0
    cut[...], cut[22, 30] = True, False
    assert len(accepted(sharp((30, 30, 300.0)), cut)) == 1


def test_a_fit_begins_at_the_brightest_pixel_and_stays_near_it(monkeypatch):
    given = {}

    def least_squares(residuals, start, slopes, **more):
        given.update(more, start=start, misfit=residuals(np.array([1.0, 0.0, 7.0, 5.0, 2.0, 3.0])))
        return type("Result", (), {"x": np.arange(6.0)})

    monkeypatch.setattr(seeing.scipy.optimize, "least_squares", least_squares)
    stamp = np.full((12, 14), 3.0)
    stamp[5, 7], stamp[5, 8], stamp[4, 7], stamp[6, 7], stamp[0, 0] = 13.0, 8.5, 9.0, 8.0, np.nan
    assert fit_moffat(stamp) == (4, 5)
    assert given["start"] == pytest.approx([1, 0, 7, 5, 2 * np.sqrt(3 / np.pi), 3])  # three above half of the peak
    low, high = given["bounds"]
    assert low == [0.2, -0.5, 5, 3, 0.3, 1.1]
    assert high == [20, 0.5, 9, 7, 28, 20]
    model = seeing._profile(np.array([1.0, 0.0, 7.0, 5.0, 2.0, 3.0]), (12, 14))
    np.testing.assert_allclose(given["misfit"], (model - (stamp - 3) / 10)[np.isfinite(stamp)])
    assert (given["x_scale"], given["max_nfev"]) == ([1, 0.1, 1, 1, 1, 1], 200)
    single = np.zeros((9, 9))
    single[4, 4] = 1.0
    fit_moffat(single)
    assert given["start"][4] == pytest.approx(2 / np.sqrt(np.pi))
    single[4, 5] = 0.5  # half is not above it
    fit_moffat(single)
    assert given["start"][4] == pytest.approx(2 / np.sqrt(np.pi))


@pytest.mark.parametrize(("words", "told"), [("internal pixel buffer full", False), ("memory", True)])
def test_more_pixels_than_sep_holds_are_no_stars_and_what_else_fails_is_told(monkeypatch, words, told):
    calls, extract = [], sep.extract

    def fail(data, *arguments, **options):
        calls.append(data)
        if len(calls) == 1:
            raise RuntimeError(words)
        return extract(data, *arguments, **options)

    monkeypatch.setattr(sep, "extract", fail)
    image = field(3.0, 3.0, side=100)
    if told:
        with pytest.raises(RuntimeError, match="memory"):
            seeing._extracted(image, np.ones(image.shape, bool), 5.0)
    else:
        assert len(seeing._extracted(image, np.ones(image.shape, bool), 5.0)) == 0
