import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import NearestCentroid

from flows.training.class_fit import trees_of
from kernels.objects.class_model import (
    POINT_SHARE,
    SKY_STARS,
    Calibration,
    ClassModel,
    ClassTrees,
    ClassVerdict,
    at_shares,
    bands_present,
    calibrated,
    class_logits,
    class_means,
    class_model,
    class_trees,
    colour_features,
    judged,
    nearest_colour,
    novelty,
    superclass_verdict,
)
from schemas.archive_columns import FEATURE_SETS
from schemas.classes import STELLAR_CLASSES
from tests.support.cards import model_card

CARD = model_card(
    stage="superclass",
    name="toy",
    version="3",
    input={"features": ["g-r", "r"]},
    classes=("a", "b", "c"),
    threshold=1.0,
)
ARRAYS = {
    "root": np.array([[0, 3, 4]], np.int32),
    "feature": np.array([0, -1, -1, -1, -1], np.int16),
    "limit": np.array([0.5, 0, 0, 0, 0], np.float32),
    "missing_left": np.zeros(5, np.uint8),
    "left": np.array([1, 0, 0, 0, 0], np.int32),
    "right": np.array([2, 0, 0, 0, 0], np.int32),
    "value": np.array([0, -3, 3, 1, 0], np.float32),
    "base": np.zeros(3),
    "slope": np.ones(6),
    "offset": np.zeros((6, 3)),
    "novelty_limit": np.full(6, 0.5),
    "reference": np.array([[0.2, 17.0]] * 3, np.float32),
    "scale": np.ones(2, np.float32),
    "centroid": np.array([[0.9, 17], [0.1, 17], [0.1, 20]], np.float32),
}


def magnitudes(**bands):
    return {band: np.array(values, np.float32) for band, values in bands.items()}


@pytest.fixture
def model():
    return class_model(CARD, ARRAYS)


def test_is_made_of_the_arrays_of_its_file(model):
    assert isinstance(model, ClassModel)
    assert isinstance(model.trees, ClassTrees)
    assert model.version == "toy 3"
    assert model.features == ("g-r", "r")


def test_judges_by_trees_and_calibration(model):
    probability, outlier = model(magnitudes(g=[17.2, 18.0], r=[17.0, 17.0]))
    np.testing.assert_allclose(probability, softmax([[-3, 1, 0], [3, 1, 0]], axis=1), rtol=1e-6)
    np.testing.assert_allclose(outlier, [0, np.sqrt(0.8**2 / 2) / 0.5], atol=1e-5)
    assert model.by_nearest_colour(magnitudes(g=[17.1, 17.9], r=[17.0, 17.0])).argmax(1).tolist() == [1, 0]


def test_one_band_says_nothing(model):
    probability, outlier = model(magnitudes(g=[np.nan, 17.0], r=[17.0, 17.0]))
    assert np.isnan(probability[0]).all()
    assert np.isnan(outlier[0])
    assert np.isfinite(probability[1]).all()


def test_only_rows_with_a_colour_go_through_the_trees(model, monkeypatch):
    rng = np.random.default_rng(4)
    given = {band: np.where(rng.random(40) < 0.5, rng.uniform(15, 21, 40), np.nan) for band in "gr"}
    seen = []
    monkeypatch.setattr(
        "kernels.objects.class_model.class_logits",
        lambda rows, trees: seen.append(len(rows)) or class_logits(rows, trees),
    )
    together = model(magnitudes(**given))
    both = np.isfinite(given["g"]) & np.isfinite(given["r"])
    assert seen == [both.sum()]
    alone = [model(magnitudes(g=[g], r=[r])) for g, r in zip(given["g"], given["r"], strict=True)]
    np.testing.assert_array_equal(together.probability, np.concatenate([one.probability for one in alone]))
    np.testing.assert_array_equal(together.outlier, np.concatenate([one.outlier for one in alone]))
    np.testing.assert_array_equal(np.isnan(together.outlier), ~both)


def test_calibration_depends_on_the_number_of_bands():
    logits = np.array([[2.0, 0.0], [2.0, 0.0]])
    offset = np.zeros((6, 2))
    offset[3] = [0, 2.0]
    slope = np.ones(6)
    slope[2] = 0.5
    found = calibrated(logits, np.array([2, 3]), Calibration(slope, offset, np.ones(6)))
    np.testing.assert_allclose(found, [softmax([1.0, 0.0]), [0.5, 0.5]])


def test_adds_up_leaves_and_sends_missing_values_where_it_is_told():
    trees = ClassTrees(
        root=np.array([[0, 3]], np.int32),
        feature=np.array([0, -1, -1, 1, -1, -1], np.int16),
        limit=np.array([0.5, 0, 0, 2.0, 0, 0], np.float32),
        missing_left=np.array([1, 0, 0, 0, 0, 0], np.uint8),
        left=np.array([1, 0, 0, 4, 0, 0], np.int32),
        right=np.array([2, 0, 0, 5, 0, 0], np.int32),
        value=np.array([0, 1, 10, 0, 100, 1000], np.float32),
        base=np.array([0.25, 0.5]),
    )
    rows = np.array([[0.5, 2.0], [0.6, 2.1], [np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(class_logits(rows, trees), [[1.25, 100.5], [10.25, 1000.5], [1.25, 1000.5]])
    again = class_trees({name: np.asarray(value) for name, value in trees._asdict().items()})
    np.testing.assert_array_equal(class_logits(rows, again), class_logits(rows, trees))
    assert class_logits(rows[:0], trees).shape == (0, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (600, 4)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    code = np.where(np.isnan(rows[:, 0]), 2, (rows[:, 0] + np.nan_to_num(rows[:, 1]) > 0).astype(int))
    model = HistGradientBoostingClassifier(max_iter=20, random_state=seed).fit(rows, code)
    logits = class_logits(rows, trees_of(model))
    np.testing.assert_allclose(logits, model.decision_function(rows), atol=1e-5)
    np.testing.assert_array_equal(logits.argmax(1), model.predict(rows))


MAGNITUDES = arrays(np.float32, (5, 4), elements=st.floats(10, 25, width=32) | st.just(np.nan))


def table(values):
    return dict(zip("ugriz", values, strict=True))


@given(MAGNITUDES)
def test_photometry_is_ten_colours_and_a_magnitude(values):
    matrix = colour_features(table(values), FEATURE_SETS["photometry"])
    expected = [values[i] - values[j] for i in range(5) for j in range(i + 1, 5)] + [values[2]]
    np.testing.assert_array_equal(matrix, np.stack(expected, axis=1))
    assert matrix.dtype == np.float32


@given(MAGNITUDES)
def test_counts_bands_with_a_magnitude(values):
    np.testing.assert_array_equal(bands_present(table(values)), np.isfinite(values).sum(0))


def test_gives_the_class_that_scikit_learn_gives():
    rng = np.random.default_rng(1)
    rows, code = rng.normal(0, 1, (200, 3)).astype(np.float32), rng.integers(0, 3, 200)
    rows += code[:, None]
    centroid = class_means(rows, code, 3)
    scores = nearest_colour(rows, centroid, np.ones(3, np.float32))
    np.testing.assert_array_equal(scores.argmax(1), NearestCentroid().fit(rows, code).predict(rows))
    np.testing.assert_allclose(scores.sum(1), 1)


def test_what_is_missing_does_not_count():
    rows = np.array([[np.nan, 0.9], [5.0, np.nan]], np.float32)
    centroid = np.array([[5.0, 0.0], [0.0, 1.0]], np.float32)
    assert nearest_colour(rows, centroid, np.ones(2, np.float32)).argmax(1).tolist() == [1, 0]
    means = class_means(np.array([[1, np.nan], [3, 4.0], [0, 0]], np.float32), np.array([0, 0, 1]), 2)
    np.testing.assert_array_equal(means, [[2, 4], [0, 0]])


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 99))
def test_agrees_with_plain_numpy(seed):
    rng = np.random.default_rng(seed)
    rows, reference = rng.normal(0, 1, (7, 3)).astype(np.float32), rng.normal(0, 1, (20, 3)).astype(np.float32)
    rows[0, 1] = np.nan
    scale = np.array([1.0, 2.0, 0.5], np.float32)
    far = np.sqrt(np.nanmean(((rows[:, None] - reference) / scale) ** 2, axis=2))
    np.testing.assert_allclose(novelty(rows, reference, scale), np.sort(far, axis=1)[:, 2], rtol=1e-4)


def test_a_row_without_any_value_is_infinitely_far():
    rows = np.full((1, 2), np.nan, np.float32)
    assert np.isinf(novelty(rows, np.zeros((5, 2), np.float32), np.ones(2, np.float32)))[0]
    assert np.isinf(novelty(np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float32), np.ones(2, np.float32)))[0]


TRAINING = np.array([0.4, 0.5, 0.1])


SKY = np.array([0.7, 0.293, 0.007])


def judge(colours, point, u=True, point_outlier=0.5, outlier=0.2, sky=SKY):
    verdict = ClassVerdict(np.array([colours], float), np.array([outlier], float))
    seen = np.array([u]), np.array([point]), np.array([point_outlier])
    one = superclass_verdict(verdict, TRAINING, np.array([sky]), *seen)
    return one.probability[0], one.outlier[0]


def at_the_sky(point, sky=SKY):
    """Probability of a point source, by Bayes' rule from odds."""
    odds = point / (1 - point) * (1 - POINT_SHARE) / POINT_SHARE * (sky[0] + sky[2]) / sky[1]
    return odds / (1 + odds)


def test_the_image_says_point_or_galaxy_and_colours_which_point():
    probability, outlier = judge((0.6, 0.3, 0.1), 0.9, u=False)
    # odds of star against quasar: likelihoods 0.6 / 0.4 and 0.1 / 0.1, at 100 to 1
    star, point = 1.5 * 100 / (1.5 * 100 + 1), at_the_sky(0.9)
    np.testing.assert_allclose(probability, [point * star, 1 - point, point * (1 - star)])
    assert outlier == 0.5


def test_the_same_by_counting_sources():
    """Of many sources drawn with the shares of a sky, those of one colour and one look have the classes stated."""
    rng = np.random.default_rng(1)
    shares = np.array([0.8, 0.19, 0.01])
    kind = rng.choice(3, 4_000_000, p=shares)
    likelihood, looks = np.array([0.2, 0.2, 0.9]), np.array([0.95, 0.05, 0.95])
    blue = rng.random(len(kind)) < likelihood[kind]  # galaxies and stars alike: colour tells neither
    round_ = rng.random(len(kind)) < looks[kind]
    colours = likelihood * TRAINING / (likelihood * TRAINING).sum()
    # what a calibrated judge says of a round cutout where POINT_SHARE of them are stars
    point = 0.95 * POINT_SHARE / (0.95 * POINT_SHARE + 0.05 * (1 - POINT_SHARE))
    probability, _ = judge(colours, point, sky=shares)
    seen = np.bincount(kind[round_ & blue], minlength=3) / (round_ & blue).sum()
    assert probability[2] / probability[0] == pytest.approx(seen[2] / seen[0], rel=0.03)
    assert probability[1] == pytest.approx(float((kind[round_] == 1).mean()), rel=0.02)


def test_without_an_image_colours_alone_but_only_with_u():
    shares = np.array((0.6, 0.3, 0.1)) / TRAINING * SKY
    probability, outlier = judge((0.6, 0.3, 0.1), np.nan, point_outlier=np.nan)
    np.testing.assert_allclose(probability, shares / shares.sum())
    assert outlier == 0.2
    probability, outlier = judge((0.6, 0.3, 0.1), np.nan, u=False, point_outlier=np.nan)
    assert np.isnan(probability).all()
    assert np.isnan(outlier)


def test_a_judge_of_images_who_has_not_seen_the_like_does_not_count():
    with_u, outlier = judge((0.6, 0.3, 0.1), 0.999, point_outlier=1.2)
    np.testing.assert_allclose(with_u, judge((0.6, 0.3, 0.1), np.nan)[0])
    assert outlier == 0.2
    assert np.isnan(judge((0.6, 0.3, 0.1), 0.999, u=False, point_outlier=1.2)[0]).all()


def test_strange_colours_stay_strange():
    assert judge((0.6, 0.3, 0.1), 0.9, outlier=1.4)[1] == 1.4


def test_without_a_colour_the_image_decides_and_point_sources_are_what_they_mostly_are():
    nothing = (np.nan, np.nan, np.nan)
    probability, outlier = judge(nothing, 0.9, u=False, outlier=np.nan)
    point = at_the_sky(0.9)
    np.testing.assert_allclose(probability, [point * 100 / 101, 1 - point, point / 101])
    assert outlier == 0.5


def test_with_neither_image_nor_colour_nothing_is_said():
    for point, strange in ((np.nan, np.nan), (0.9, 1.2)):
        probability, outlier = judge((np.nan, np.nan, np.nan), point, u=False, point_outlier=strange, outlier=np.nan)
        assert np.isnan(probability).all()
        assert np.isnan(outlier)


def test_a_quasar_needs_more_than_the_colours_of_some():
    assert judge((0.1, 0.1, 0.8), 0.99)[0].argmax() == 0
    assert judge((0.0005, 0.0005, 0.999), 0.99)[0].argmax() == 2


def test_the_same_by_counting():
    """Of many things drawn with other shares, those of one look have the classes stated."""
    rng = np.random.default_rng(1)
    training, shares, looks = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7]), np.array([0.8, 0.3, 0.1])
    given = looks * training / (looks * training).sum()
    kind = rng.choice(3, 1_000_000, p=shares)
    seen = kind[rng.random(len(kind)) < looks[kind]]
    np.testing.assert_allclose(at_shares(given[None], training, shares)[0], np.bincount(seen) / len(seen), atol=3e-3)


def test_the_same_shares_change_nothing_and_nan_stays():
    given = np.array([[0.2, 0.5, 0.3], [np.nan] * 3])
    shares = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(at_shares(given, shares, 7 * shares), given)


def test_every_stellar_class_has_a_share_and_carbon_stars_are_rare():
    assert set(SKY_STARS) == set(STELLAR_CLASSES)
    assert sum(SKY_STARS.values()) == pytest.approx(1, abs=0.01)
    even = np.full(len(STELLAR_CLASSES), 0.1)
    red = np.array([[0.0, 0, 0, 0, 0, 0.35, 0.15, 0, 0.5, 0]])  # colours as of K and carbon stars
    found = at_shares(red, even, np.array([SKY_STARS[name] for name in STELLAR_CLASSES]))[0]
    assert STELLAR_CLASSES[found.argmax()] == "K"
    assert found[STELLAR_CLASSES.index("C")] < 1e-3


@pytest.mark.parametrize("bands", [2, 3, 4, 5])
def test_each_number_of_bands_has_its_own_calibration(bands):
    offset = np.arange(18.0).reshape(6, 3) ** 2 / 50
    slope, limit = np.array([9, 8, 0.5, 0.6, 0.7, 0.8]), np.array([9, 8, 0.1, 0.2, 0.3, 0.4])
    one = class_model(CARD, ARRAYS | {"offset": offset, "slope": slope, "novelty_limit": limit})
    given = {band: [17.0 + (band == "g")] for band in "grizu"[:bands]}
    probability, outlier = one(magnitudes(**given))
    np.testing.assert_allclose(probability[0], softmax(slope[bands] * np.array([3, 1, 0]) + offset[bands]), rtol=1e-6)
    assert outlier[0] == pytest.approx(np.sqrt(0.8**2 / 2) / limit[bands], rel=1e-5)


def test_scores_fall_with_half_the_squared_distance():
    rows, centroid = np.array([[1.0, 2.0]], np.float32), np.array([[0, 0], [1, 5], [3, 2]], np.float32)
    found = nearest_colour(rows, centroid, np.array([2.0, 3.0], np.float32))
    squares = np.array([0.25 + 4 / 9, 1.0, 1.0])
    np.testing.assert_allclose(found[0], softmax(-squares / 2), rtol=1e-6)


def test_a_judge_of_images_counts_up_to_an_outlier_score_of_one():
    point, outlier = np.array([0.9, 0.9, np.nan, 0.9]), np.array([1.0, 1.001, 0.5, np.nan])
    assert judged(point, outlier).tolist() == [True, False, False, False]
    assert judge((0.6, 0.3, 0.1), 0.9, u=False, point_outlier=1.0)[1] == 1.0


def test_shares_of_stars():
    rare = {"O": 1e-5, "C": 1e-4, "d": 1e-4, "B": 1e-3, "D": 0.008, "A": 0.01}  # by hand, as is said there
    common = {"F": 0.15, "G": 0.25, "K": 0.30, "M": 0.28}
    assert rare | common == SKY_STARS


def test_distance_to_the_third_nearest_whatever_the_order():
    reference = np.array([[0.0], [1.0], [2.0], [4.0]], np.float32)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2], [3, 0, 1, 2], [0, 3, 2, 1]):
        found = novelty(np.array([[0.0], [4.0], [1.0]], np.float32), reference[order], np.ones(1, np.float32))
        assert found.tolist() == [2.0, 3.0, 1.0]
