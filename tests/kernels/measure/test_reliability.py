import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.image.noise import Noise
from kernels.image.search_image import squash
from kernels.measure.reliability import STAMP_CHANNELS, STAMP_SIDE, FittedTrail, candidate_stamps, feature_matrix
from kernels.measure.reliability_net import ReliabilityNet, reliability_of
from kernels.nets.reliability_cnn import ReliabilityCnn
from kernels.nets.tree_ensemble import TreeEnsemble
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from kernels.trails.trail_model import trail_image
from schemas.dia_source import CAUSES, DIA_SOURCE, RESIDUALS, STATIC, DetectionFlag
from schemas.dia_source import FEATURES as FEATURES_VERDICT
from tests.support.cards import model_card
from tests.support.filled import filled


def rows(**columns):
    return filled(DIA_SOURCE.schema, len(next(iter(columns.values()))), **columns)


def matrix_of(table, fwhm_px, snr=None):
    """Feature matrix of candidates whose trail fit has S/N ``snr``."""
    count = len(table)
    trail_snr = np.zeros(count) if snr is None else np.array(snr)
    return feature_matrix(table, fwhm_px, trail_snr, residuals(count), static(count))


def residuals(count):
    return np.arange(count * len(RESIDUALS), dtype=np.float32).reshape(count, len(RESIDUALS)) - 5


def static(count):
    return np.linspace(0, 3, count * len(STATIC), dtype=np.float32).reshape(count, len(STATIC))


def test_columns_are_what_the_schema_says():
    evidence = {f"{name}Evidence": [0.25 * n, 0.0] for n, (name, _, _) in enumerate(CAUSES)}
    table = rows(
        logitSum=[np.e - 1, -3.0], logitPeak=[4.0, -1.0], nHits=[9, 0], trailLengthPx=[4.0, 0.0],
        trailChi2=[300.0, None], psfChi2=[900.0, None], trailNdata=[200, 0], sharpness=[1.0, None],
        negativeFraction=[0.25, None], maskedFraction=[0.1, 0.0],
        flags=[int(DetectionFlag.NEAR_BRIGHT_STAR), int(DetectionFlag.DIPOLE | DetectionFlag.FIT_FAILED)], **evidence,
    )  # fmt: skip
    matrix = matrix_of(table, 2.0, [12.0, -2.0])
    assert matrix.dtype == np.float32
    trail, point = np.sqrt(300 - 260) / 12, np.sqrt(900 - 260) / 12
    causes = [0.25 * n for n in range(len(CAUSES))]
    expected = [1, 4, np.log(10), np.log(13), np.log(3), trail, point, np.log(2), 0.25, 0.1, 1, 0, 0]
    np.testing.assert_allclose(matrix[0], [*expected, *causes, np.log(2), *residuals(2)[0], *static(2)[0]], rtol=1e-6)
    faint = [0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(
        matrix[1], [*faint, *[0] * len(CAUSES), np.log(2), *residuals(2)[1], *static(2)[1]], rtol=1e-6
    )


def test_misfit_is_the_same_for_a_brighter_source_and_bounded():
    chi2 = 400 + 60 + (0.3 * np.array([50.0, 500.0])) ** 2
    table = rows(trailChi2=[*chi2, 1e6], trailNdata=[200, 200, 200])
    misfit = matrix_of(table, 2.0, [50.0, 500.0, 5.0])[:, FEATURES_VERDICT.index("trail_misfit")]
    assert misfit[0] == pytest.approx(np.sqrt(chi2[0] - 260) / 50)
    assert misfit[1] == pytest.approx(0.3, rel=0.01)
    assert misfit[2] == 3.0


def test_no_candidates_give_an_empty_matrix():
    assert matrix_of(DIA_SOURCE.empty(), 2.0).shape == (0, len(FEATURES_VERDICT))


CARD = model_card(stage="reliability", classes=("false", "real"))
COUNT, FEATURES = 75, 6
TREES = TreeEnsemble(  # 0.5 + 3 where feature 2 is above 0.1, 0.5 - 2 elsewhere
    np.array([0], np.int32), np.array([2, -1, -1], np.int16), np.array([0.1, 0, 0]), np.array([1, 0, 0], np.int32),
    np.array([2, 0, 0], np.int32), np.array([0, -2.0, 3.0]), np.array([0.5]),
)  # fmt: skip


@pytest.fixture(scope="module")
def net():
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(ReliabilityCnn(FEATURES).eval())
    return ReliabilityNet(tuple(members), TREES, 1.7, -0.3, CARD)


@pytest.fixture(scope="module")
def seen():
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(COUNT, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE))
    return rng.normal(size=(COUNT, FEATURES)).astype(np.float32), stamps.astype(np.float32)


def test_mean_of_trees_and_networks_calibrated(net, seen):
    features, stamps = (torch.from_numpy(part) for part in seen)
    with torch.no_grad():
        networks = np.mean([one(stamps, features).double().numpy() for one in net.nets], axis=0)
    odds = (networks + np.where(seen[0][:, 2] > 0.1, 3.5, -1.5)) / 2
    np.testing.assert_allclose(net.log_odds(*seen), odds, atol=1e-5)
    found = net(*seen)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(1.7 * odds - 0.3))), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=COUNT, unique=True))
def test_an_answer_does_not_depend_on_the_company(net, seen, chosen):
    whole = net.log_odds(*seen)
    np.testing.assert_array_equal(net.log_odds(*(part[chosen] for part in seen)), whole[chosen])


def test_no_candidates(net, seen):
    assert net(*(part[:0] for part in seen)).shape == (0,)


def test_calibration_keeps_order_and_ends():
    odds = np.linspace(-30, 30, 101)
    found = reliability_of(odds, 0.5, 1.0)
    assert found.dtype == np.float32
    assert (np.diff(found) >= 0).all()
    assert found[0] < 1e-5
    assert found[-1] == pytest.approx(1)
    assert reliability_of(np.array([-2.0]), 0.5, 1.0)[0] == 0.5


PSF = moffat_mixture(2.2, 3.0)
SHAPE = (150, 160)


def scene_of(pixels, usable=None):
    usable = np.ones(SHAPE, bool) if usable is None else usable
    return Scene(pixels.astype(np.float32), usable, PSF, 2.2, Noise(2.0, np.ones((1, 1)), np.inf))


def squashed(values):
    out = np.array(values, np.float32)
    squash(out)
    return out


def test_a_perfect_fit_leaves_nothing():
    trail = Segment(70.3, 81.6, 12.0, 30.0)
    pixels = 5.0 + 900.0 * trail_image(SHAPE, trail.x, trail.y, trail.length, trail.angle, PSF)
    (stamp,) = candidate_stamps(scene_of(pixels), [FittedTrail(trail, 900.0, 5.0)])
    assert stamp.shape == (STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE)
    np.testing.assert_allclose(stamp[0], squashed((pixels[82 - 16 : 82 + 16, 70 - 16 : 70 + 16] - 5) / 2), atol=1e-4)
    np.testing.assert_allclose(stamp[0], stamp[2], atol=1e-4)
    np.testing.assert_allclose(stamp[1], 0, atol=1e-3)
    assert not stamp[3].any()


def test_coarse_pictures_add_up_squares_about_the_same_pixel():
    rng = np.random.default_rng(3)
    pixels, usable = rng.normal(0, 2, SHAPE), rng.random(SHAPE) > 0.1
    (stamp,) = candidate_stamps(scene_of(pixels, usable), [FittedTrail(Segment(80.0, 75.0, 0.0, 0.0), 10.0, 0.0)])
    box = np.s_[75 - 49 : 75 + 47, 80 - 49 : 80 + 47]
    blocks = np.where(usable, pixels / 2, 0)[box].reshape(32, 3, 32, 3).sum((1, 3)) / 3
    np.testing.assert_allclose(stamp[4], squashed(blocks), atol=1e-4)
    np.testing.assert_allclose(stamp[5], (~usable)[box].reshape(32, 3, 32, 3).mean((1, 3)), atol=1e-5)


@pytest.mark.parametrize("place", [(0.0, 0.0), (159.0, 149.0), (-3.0, 60.0)])
def test_beyond_the_border_nothing_counts(place):
    (stamp,) = candidate_stamps(scene_of(np.full(SHAPE, 50.0)), [FittedTrail(Segment(*place, 3.0, 10.0), 100.0, 0.0)])
    outside = stamp[3] == 1
    assert outside.any()
    assert (stamp[0][outside] == 0).all()
    assert (stamp[1][outside] == 0).all()
    assert np.isfinite(stamp).all()


@pytest.mark.parametrize(("x", "y"), [(70.0, 80.0), (3.0, 149.0), (158.0, -2.0), (-40.0, 75.0), (230.0, 75.0)])
def test_the_last_picture_is_of_what_does_not_move(x, y):
    rng = np.random.default_rng(8)
    pixels, usable = rng.normal(0, 2, SHAPE), rng.random(SHAPE) > 0.1
    static = 7 + 300.0 * trail_image(SHAPE, 75.0, 85.0, 0.0, 0.0, PSF)
    science = (pixels + static).astype(np.float32)
    science[82, 72] = np.nan
    (stamp,) = candidate_stamps(scene_of(pixels, usable), [FittedTrail(Segment(x, y, 0, 0), 1.0, 0.0)], science)
    (blind,) = candidate_stamps(scene_of(pixels, usable), [FittedTrail(Segment(x, y, 0, 0), 1.0, 0.0)])
    known = np.pad(np.where(usable & np.isfinite(science), static, np.nan), 100, constant_values=np.nan)
    around = known[int(y) + 84 : int(y) + 116, int(x) + 84 : int(x) + 116]
    level = np.nanmedian(around) if np.isfinite(around).any() else 0
    expected = np.where(np.isfinite(around), (around - level) / 2, 0)
    np.testing.assert_allclose(stamp[6], squashed(expected), atol=2e-4)
    np.testing.assert_array_equal(stamp[:6], blind[:6])
    assert not blind[6].any()


def test_none():
    assert candidate_stamps(scene_of(np.zeros(SHAPE)), []).shape == (0, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE)


def test_misfit_is_what_exceeds_three_deviations_over_the_snr_of_three_at_least():
    pixels, snr = np.array([50.0, 50.0, 200.0, 1.0, 0.0]), np.array([2.0, 10.0, 4.0, 3.0, 0.5])
    excess = np.array([1.2, 9.0, 13.0, 1.0, 4.0])
    counted = np.maximum(pixels, 1)
    chi2 = counted + 3 * np.sqrt(2 * counted) + excess**2
    table = rows(trailChi2=chi2.tolist(), psfChi2=(chi2 - 1.44).tolist(), trailNdata=pixels.astype(int).tolist())
    matrix = matrix_of(table, 2.0, snr)
    np.testing.assert_allclose(
        matrix[:, FEATURES_VERDICT.index("trail_misfit")], [0.4, 0.9, 3.0, 1 / 3, 4 / 3], rtol=1e-5
    )
    assert matrix[0, FEATURES_VERDICT.index("psf_misfit")] == pytest.approx(0, abs=1e-3)


def test_logarithms_begin_at_zero():
    names = ("log_logit_sum", "log_snr", "log_sharpness", "log_length")
    table = rows(logitSum=[-0.5, 0.5], sharpness=[-0.5, 0.5], trailLengthPx=[0.0, 1.5])
    matrix = matrix_of(table, 3.0, [-0.5, 0.5])
    found = matrix[:, [FEATURES_VERDICT.index(name) for name in names]]
    np.testing.assert_allclose(found, [[0] * 4, [np.log(1.5)] * 4], rtol=1e-6)


def test_values_that_are_not_finite_count_as_zero():
    table = rows(logitPeak=[np.inf, -np.inf, np.nan], negativeFraction=[np.nan, np.inf, 0.5])
    matrix = matrix_of(table, 2.0, [np.nan, np.inf, -np.inf])
    assert not matrix[:, FEATURES_VERDICT.index("log_snr")].any()
    assert not matrix[:, FEATURES_VERDICT.index("logit_peak")].any()
    assert matrix[:, FEATURES_VERDICT.index("negative_fraction")].tolist() == [0, 0, 0.5]


@pytest.mark.parametrize(("place", "pixel"), [((70.49, 81.5), (70, 82)), ((70.5, 81.49), (71, 81))])
def test_a_stamp_is_about_the_pixel_of_the_centre(place, pixel):
    pixels = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) / 1e4
    (stamp,) = candidate_stamps(scene_of(pixels), [FittedTrail(Segment(*place, 5.0, 20.0), 400.0, 0.5)])
    x, y = pixel
    np.testing.assert_allclose(stamp[0], squashed((pixels[y - 16 : y + 16, x - 16 : x + 16] - 0.5) / 2), atol=1e-5)
    model = 400 * trail_image(SHAPE, *place, 5.0, 20.0, PSF)[y - 16 : y + 16, x - 16 : x + 16]
    np.testing.assert_allclose(stamp[2], squashed(model / 2), atol=1e-4)
    left = (pixels[y - 16 : y + 16, x - 16 : x + 16] - 0.5 - model) / 2
    np.testing.assert_allclose(stamp[1], squashed(left), atol=1e-3)


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_what_is_beyond_the_border_is_told_to_the_pixel(corner):
    y, x = (place * (size - 1) for place, size in zip(corner, SHAPE, strict=True))
    usable = np.ones(SHAPE, bool)
    usable[abs(y - 3), abs(x - 2)] = False
    (stamp,) = candidate_stamps(scene_of(np.full(SHAPE, 2.0), usable), [FittedTrail(Segment(x, y, 0, 0), 1.0, 0.0)])
    there = np.pad(usable, 60)
    around = there[y + 44 : y + 76, x + 44 : x + 76]
    np.testing.assert_array_equal(stamp[3], ~around)
    np.testing.assert_allclose(stamp[0], squashed(1.0 * around), atol=1e-6)
    wide = there[y + 11 : y + 107, x + 11 : x + 107].reshape(32, 3, 32, 3)
    np.testing.assert_allclose(stamp[5], 1 - wide.mean((1, 3)), atol=1e-5)
    np.testing.assert_allclose(stamp[4], squashed(wide.sum((1, 3)) / 3), atol=1e-5)
