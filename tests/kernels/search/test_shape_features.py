import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.special import erf

from kernels.image.search_image import SearchImage
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.search import shape_features as module
from kernels.search.candidate_search import find_candidates, lines_of
from kernels.search.line_search import Peaks
from kernels.search.shape_features import FEATURES, shape_features
from kernels.trails.trail_model import trail_image

PSF = GaussianMixture(np.array([1.0]), np.array([np.sqrt((2.3 / np.sqrt(8 * np.log(2))) ** 2 + 1 / 12)]))


def described(image, usable=None):
    usable = np.ones(image.shape, bool) if usable is None else usable
    plane = SearchImage(image.astype(np.float32), usable, 0.0, 1.0, np.array([[1.0]]), 2.3)
    snr, peaks = find_candidates(plane, 4.5)
    features = shape_features(plane, snr, peaks, lines_of(plane, snr, peaks))
    return dict(zip(FEATURES, features[peaks.snr.argmax()], strict=True))


def test_a_clean_trail_fits_a_trail_and_no_point():
    found = described(400 * trail_image((160, 160), 80.0, 80.0, 30.0, 25.0, PSF))
    assert found["trail_chi2"] < 0.3 * found["point_chi2"]
    assert found["trail_share"] > 0.9
    assert found["length"] == pytest.approx(30, abs=5)
    assert found["off_axis"] == pytest.approx(25, abs=2)


@pytest.mark.parametrize(("x", "y"), [(80.0, 80.0), (80.3, 79.6)])
def test_a_star_fits_a_point_and_no_trail(x, y):
    found = described(600 * trail_image((160, 160), x, y, 0.0, 0.0, PSF))
    assert found["point_chi2"] < 0.1 * found["trail_chi2"]


def test_a_single_hot_pixel_is_sharper_than_a_star():
    star = described(60 * trail_image((160, 160), 80.0, 80.0, 0.0, 0.0, PSF))
    image = np.zeros((160, 160))
    image[80, 80] = 20
    assert described(image)["sharpest"] > star["sharpest"] + 0.2


def test_a_dipole_is_dark_on_one_side():
    bright = 60 * trail_image((160, 160), 80.0, 80.0, 0.0, 0.0, PSF)
    dipole = bright - 60 * trail_image((160, 160), 83.0, 80.0, 0.0, 0.0, PSF)
    assert described(dipole)["least_1"] < -3
    assert described(bright)["least_1"] > -1


def test_masked_pixels_are_counted():
    usable = np.ones((160, 160), bool)
    usable[86:90, 70:90] = False
    found = described(200 * trail_image((160, 160), 80.0, 80.0, 20.0, 0.0, PSF), usable)
    assert found["masked_far"] > 40


def test_noise_and_borders_give_finite_numbers():
    image = np.random.default_rng(1).normal(size=(130, 140))
    image[3, 4], image[128, 70] = 50, 40
    plane = SearchImage(image.astype(np.float32), np.ones(image.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    snr, peaks = find_candidates(plane, 3.5)
    features = shape_features(plane, snr, peaks, lines_of(plane, snr, peaks))
    assert features.shape == (len(peaks.y), len(FEATURES))
    assert np.isfinite(features).all()


def test_every_feature_has_a_name_of_its_own():
    assert len(set(FEATURES)) == len(FEATURES)


def expected(raw, snr, masked, x, y, length, angle):
    """Return features of a line computed with numpy and scipy; all but what is copied."""
    out = {}
    ux, uy = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    half = max(round(length / 2), 1)
    t = np.arange(-half, half + 1)

    def on(values, t, across=0.0):
        return map_coordinates(values, [y + t * uy + across * ux, x + t * ux - across * uy], order=1)

    line, light = on(snr, t), on(raw, t)
    size = max(abs(line.mean()), 0.3)
    out["line_snr"], out["even_snr"] = line.sum() / len(t) ** 0.5, np.clip(line, -6, 6).sum() / len(t) ** 0.5
    out["peak"], out["raw_peak"], out["mean"] = line.max(), light.max(), line.mean()
    out["evenness"], out["spread"], out["lowest"] = line.max() / size, line.std() / size, line.min() / size
    out["uneven_halves"] = abs(line[t < 0].sum() - line[t > 0].sum()) / half / size
    out["middle"] = line[2 * abs(t) <= half].mean() / size
    beyond = [on(snr, sign * np.arange(half + 3, half + 7)).mean() / size for sign in (1, -1)]
    out["beyond_most"], out["beyond_least"] = max(beyond), min(beyond)
    aside = [sum(on(raw, t, sign * d).sum() for sign in (1, -1)) / 2 for d in range(3)]
    out["raw_middle"] = aside[0] / len(t)
    out["raw_1"], out["raw_2"] = aside[1] / max(abs(aside[0]), 0.3), aside[2] / max(abs(aside[0]), 0.3)
    i, j = np.rint(x + t * ux).astype(int), np.rint(y + t * uy).astype(int)
    four = sum(raw[j + down, i + right] for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))) / 4
    out["sharpest"] = (raw[j, i] - four).max() / max(light.max(), 1)
    for d in (1, 2, 3, 4, 6):
        left, right = on(snr, t, d).sum(), on(snr, t, -d).sum()
        out[f"across_{d}"] = (left + right) / 2 / max(abs(line.sum()), 1)
        out[f"sides_{d}"] = abs(left - right) / max(abs(line.sum()), 1)
    rows, columns = np.indices(raw.shape)
    apart = np.hypot(columns - x, rows - y)
    inner = -1.0
    for n, outer in enumerate((2, 4, 7, 12, 24)):
        ring, inner = snr[(apart > inner) & (apart <= outer)].astype(float), outer
        out[f"most_{n}"], out[f"least_{n}"] = ring.max(), ring.min()
        out[f"mean_{n}"], out[f"rms_{n}"] = ring.clip(-30, 30).mean(), np.square(ring.clip(-30, 30)).mean() ** 0.5
    sigma = float(PSF.sigmas[0])
    u, v = (columns - x) * ux + (rows - y) * uy, (rows - y) * ux - (columns - x) * uy
    strip = (abs(u) <= length / 2 + 3 * sigma + 1) & (abs(v) <= 3 * sigma + 1) & ~masked
    u, v, seen = u[strip] / sigma / 2**0.5, v[strip] / sigma / 2**0.5, raw[strip]
    point = np.exp(-u * u - v * v)
    ends = length / 2 / sigma / 2**0.5
    trail = np.exp(-v * v) * (erf(u + ends) - erf(u - ends)) / 2 if length else point
    for name, shape, amplitude in (("trail", trail, "amplitude"), ("point", point, "point_amplitude")):
        out[amplitude] = np.linalg.lstsq(shape[:, None], seen, rcond=None)[0][0]
        out[f"{name}_chi2"] = np.square(seen - out[amplitude] * shape).mean()
    rest = seen - out["amplitude"] * trail
    out["most_above"], out["most_below"] = max(rest.max(), 0), min(rest.min(), 0)
    out["trail_share"] = 1 - np.square(rest).sum() / np.square(seen).sum()
    out["off_axis"] = min(angle % 90, 90 - angle % 90)
    out["masked_near"], out["masked_far"] = masked[apart <= 4].sum(), masked[apart <= 12].sum()
    bright = (apart <= 7) & ~masked & (raw > 1)
    axes = np.cov(columns[bright], rows[bright], aweights=raw[bright], ddof=0) if bright.any() else np.zeros((2, 2))
    out["narrow"], out["wide"] = np.sqrt(np.maximum(np.linalg.eigvalsh(axes), 0))
    return out


def test_features_are_those_computed_with_numpy_and_scipy():
    rng = np.random.default_rng(4)
    image = rng.normal(7.0, 2.0, (150, 170))  # background, noise
    for x, y, length, angle, light in ((80, 70, 30, 25, 500), (40, 110, 0, 0, 200), (120, 40, 14, 130, 300)):
        image += light * trail_image(image.shape, x + 0.3, y - 0.2, length, angle, PSF)
    image[100, 120] += 60
    usable = rng.random(image.shape) > 0.01
    correlation = np.array([[0.0, 0.1, 0.0], [0.2, 1.0, 0.2], [0.0, 0.1, 0.0]])
    plane = SearchImage(image.astype(np.float32), usable, 7.0, 2.0, correlation, 2.3)
    snr, peaks = find_candidates(plane, 4.0)
    lines = lines_of(plane, snr, peaks)
    features = shape_features(plane, snr, peaks, lines)
    margin = 60
    raw = np.pad(np.where(usable, (plane.pixels - 7.0) / 2.0, 0), margin)
    point, masked = np.pad(snr, margin).astype(float), np.pad(~usable, margin, constant_values=True)
    assert len(lines) > 5
    found = zip(features, peaks.y, peaks.x, peaks.snr, lines, strict=True)
    for row, y, x, best, (dx, dy, length, angle, fine) in found:
        wanted = expected(raw, point, masked, margin + x + dx, margin + y + dy, length, angle)
        wanted |= {"snr": best, "length": length, "fine_snr": fine, "fwhm": 2.3, "neighbour_correlation": 0.2}
        assert wanted.keys() == set(FEATURES)
        for name, value in zip(FEATURES, row, strict=True):
            assert value == pytest.approx(wanted[name], rel=1e-3, abs=1e-3), name


def by_hand(light, height, usable, seed):
    """A plane of pixels with a spread of ``light`` noises, S/N of points with a spread of ``height``, and lines."""
    rng = np.random.default_rng(seed)
    raw = np.where(rng.random((110, 120)) < 0.1, 1.0, light * rng.normal(0.3, 1, (110, 120)))
    pixels, good = (7 + 2 * raw).astype(np.float32), rng.random(raw.shape) < usable
    pixels[rng.random(raw.shape) < 0.01] = np.nan
    pixels[rng.random(raw.shape) < 0.01] = -np.inf
    pixels[rng.random(raw.shape) < 0.01] = 3e30  # 1.5e30 noises
    plane = SearchImage(pixels, good, 7.0, 2.0, np.array([[1.0]]), 2.3)
    snr = (height * rng.normal(0.2, 1, raw.shape)).astype(np.float32)
    lines = np.array([
        (0, 0, 0, 0, 5), (0.4, -0.3, 0, 77, 6), (0, 0, 1, 0, 7), (-1.7, 0.6, 2, 90, 8), (0, 0, 3, 135, 9),
        (0.2, 2.2, 13, 45, 10), (0, 0, 14, 179, 11), (3.1, -2.4, 24, 112, 12), (0.3, 0.1, 48, 30, 13),
        (-0.65, 0.85, 61, 146, 14), (0, 0, 20, 0, 15), (0, 0, 7, 90, 16), (0.1, 0.1, 68, 45, 17), (0.1, 0, 5, 91, 18),
    ])  # fmt: skip
    y, x = rng.integers(0, 110, len(lines)), rng.integers(0, 120, len(lines))
    y[2:4], x[2:4] = (0, 109), (119, 0)
    best = rng.uniform(4, 9, len(lines)).astype(np.float32)
    return plane, snr, Peaks(y, x, np.zeros(len(lines), np.int32), best), lines


@pytest.mark.parametrize(
    ("light", "height", "usable"), [(0.05, 0.05, 0.9), (1.0, 1.0, 0.97), (40.0, 60.0, 0.9), (1.0, 5.0, 0.25)]
)
def test_features_of_faint_bright_and_masked_places_are_those_computed_with_numpy(light, height, usable):
    margin = 70
    plane, snr, peaks, lines = by_hand(light, height, usable, 5)
    raw = (plane.pixels.astype(float) - 7) / 2
    known = plane.usable & (np.abs(raw) < 1e30)
    raw = np.pad(np.where(known, raw, 0), margin)
    point, masked = np.pad(snr, margin).astype(float), np.pad(~known, margin, constant_values=True)
    features = shape_features(plane, snr, peaks, lines)
    found = zip(features, peaks.y, peaks.x, peaks.snr, lines, strict=True)
    for row, y, x, best, (dx, dy, length, angle, fine) in found:
        wanted = expected(raw, point, masked, margin + x + dx, margin + y + dy, length, angle)
        wanted |= {"snr": best, "length": length, "fine_snr": fine, "fwhm": 2.3, "neighbour_correlation": 0}
        for name, value in zip(FEATURES, row, strict=True):
            near = 0.02 if name in ("wide", "narrow") else 2e-5
            assert value == pytest.approx(wanted[name], rel=2e-5, abs=near), name


def test_where_nothing_is_known_there_is_no_light():
    plane, snr, peaks, lines = by_hand(1.0, 1.0, 1.0, 6)
    blind = plane._replace(usable=np.zeros_like(plane.usable))
    found = dict(zip(FEATURES, shape_features(blind, snr, peaks, lines).T, strict=True))
    for name in (
        "raw_peak", "raw_middle", "raw_1", "raw_2", "sharpest", "trail_chi2", "point_chi2", "most_above", "most_below",
        "amplitude", "point_amplitude", "trail_share", "wide", "narrow",
    ):  # fmt: skip
        assert (found[name] == 0).all(), name
    assert (found["masked_near"][lines[:, 0] == 0] == 49).all()  # pixels within 4 px of one
    assert (found["masked_far"][lines[:, 0] == 0] == 441).all()


def test_nothing_beyond_its_own_square_is_read(monkeypatch):
    """As plain Python, which checks bounds."""
    plane, snr, peaks, lines = by_hand(1.0, 1.0, 0.9, 7)
    chosen = np.array([0, 12])
    given = plane, snr, peaks.take(chosen), lines[chosen]
    compiled = shape_features(*given)
    for name in ("_at", "_along", "_beside", "_fits", "_rings", "_surroundings", "_describe"):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    np.testing.assert_allclose(shape_features(*given), compiled, rtol=1e-5, atol=1e-5)


def test_the_noise_of_neighbours_is_that_to_the_right():
    plane, snr, peaks, lines = by_hand(1.0, 1.0, 1.0, 8)
    plane = plane._replace(correlation=np.arange(25.0).reshape(5, 5) / 25)
    found = shape_features(plane, snr, peaks, lines)[:, FEATURES.index("neighbour_correlation")]
    np.testing.assert_allclose(found, 13 / 25, rtol=1e-6)
