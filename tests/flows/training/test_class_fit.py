from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from flows.pipeline.weights import read_card
from flows.simulation.star_colours import star_table
from flows.training import class_fit
from flows.training.class_fit import ClassFit, fit_class_model, thinned
from flows.training.spectral import SIMULATED_STARS
from flows.training.spectral_sample import Sample
from kernels.objects.class_model import class_model
from schemas.archive_columns import FEATURE_SETS
from schemas.errors import BadInput
from tests.support.cards import model_card

CLASSES = ("A", "G", "K", "M")
PLAN = ClassFit(rounds=20, reference=200)


def stars(count, seed):
    columns, code = star_table(count, seed, CLASSES, faint=17.0)
    return Sample(columns, code, CLASSES, np.arange(count))


@pytest.fixture(scope="module")
def model():
    """Learnt from magnitudes of two digits, without noise: quantiles of more values than bins take most of a fit."""
    rows, plan = stars(800, 1), replace(PLAN, noise=0.0)
    rounded = {band: (np.round(values * 50) / 50).astype(np.float32) for band, values in rows.columns.items()}
    rows = replace(rows, columns=rounded)
    card = model_card(stage="star_subclass", classes=CLASSES, input={"features": FEATURE_SETS["photometry"]})
    return class_model(card, fit_class_model(rows, FEATURE_SETS["photometry"], plan, 1))


def test_a_class_of_one_plate_cannot_be_learnt():
    rows = stars(120, 1)
    rows = replace(rows, group=np.where(rows.code == 3, 99, np.arange(120) % 20))
    with pytest.raises(BadInput, match="class M: has so few rows, or spectroscopic plates"):
        fit_class_model(rows, FEATURE_SETS["photometry"], replace(PLAN, rounds=1, reference=20), 1)


def test_a_feature_without_values_cannot_be_learnt():
    rows = stars(120, 1)
    empty = {name: np.full(120, np.nan, np.float32) for name in ("u", "redshift")}
    rows = replace(rows, columns={**rows.columns, **empty})
    with pytest.raises(BadInput, match="feature u-g, u-r, u-i, u-z, redshift: has no value in any row"):
        fit_class_model(rows, FEATURE_SETS["photometry-redshift"], replace(PLAN, rounds=1, reference=20), 1)


def test_of_two_surveys_no_row_has_all_bands():
    rows, plan = stars(400, 1), replace(PLAN, rounds=1, reference=20)
    columns = {name: values.copy() for name, values in rows.columns.items()}
    columns["u"][:200], columns["z"][200:] = np.nan, np.nan
    arrays = fit_class_model(replace(rows, columns=columns), FEATURE_SETS["n5"], plan, 1)
    assert arrays["slope"][5] == arrays["slope"][4]
    assert arrays["novelty_limit"][5] == arrays["novelty_limit"][4]


def test_tells_unseen_stars_apart(model):
    unseen = stars(400, 2)
    probability, outlier = model(unseen.columns)
    assert (probability.argmax(1) == unseen.code).mean() > 0.9
    np.testing.assert_allclose(probability.sum(1), 1)
    assert (outlier <= 1).mean() > 0.95
    assert (model.by_nearest_colour(unseen.columns).argmax(1) == unseen.code).mean() > 0.6


def test_probabilities_are_what_they_say(model):
    probability, _ = model(stars(4000, 3).columns)
    right = probability.argmax(1) == stars(4000, 3).code
    assert abs(probability.max(1).mean() - right.mean()) < 0.03


@pytest.mark.parametrize("lost", ["u", "z", "uz", "gr"])
def test_missing_bands_are_no_obstacle(model, lost):
    unseen = stars(400, 2)
    columns = {band: np.full(400, np.nan, np.float32) if band in lost else unseen.columns[band] for band in "ugriz"}
    given, outlier = model(columns)
    assert (given.argmax(1) == unseen.code).mean() > 0.8
    assert (outlier <= 1).mean() > 0.95
    absent = {band: values for band, values in columns.items() if band not in lost}
    np.testing.assert_array_equal(model(absent).probability, given)


def test_nothing_is_said_of_one_band(model):
    probability, outlier = model({"r": np.array([15.0], np.float32)})
    assert np.isnan(probability).all()
    assert np.isnan(outlier).all()


def test_what_was_never_seen_is_an_outlier(model):
    strange = {band: np.array([value], np.float32) for band, value in zip("ugriz", (20, 15, 19, 14, 20), strict=True)}
    assert model(strange).outlier[0] > 2


def test_copies_lose_bands_but_never_all():
    rows = stars(200, 1)
    many = thinned(rows, PLAN, 1)
    assert len(many.code) == 600
    bands = np.sum([np.isfinite(values) for values in many.columns.values()], axis=0)
    assert (bands[:200] == 5).all()
    assert set(bands[200:]) == {2, 3, 4, 5}
    np.testing.assert_array_equal(many.columns["r"][:200], rows.columns["r"])


def test_the_settings_are_those_of_the_shipped_models():
    for stage, name in (("star_subclass", "ugriz"), ("superclass", "redshift"), ("superclass", "colours")):
        assert read_card(stage, name).training["fit"] == vars(ClassFit())
    shipped = read_card("star_subclass", "ugriz").training["rows_per_class"]
    assert sum(shipped.values()) == pytest.approx(0.8 * SIMULATED_STARS, rel=1e-3)


def test_copies_are_what_the_seed_says():
    rows = stars(100, 1)
    many = thinned(rows, ClassFit(noise=0.05), 3)
    assert len(many.code) == 300
    assert many.code.tolist() == rows.code.tolist() * 3
    for k, band in enumerate("ugriz"):
        noise = many.columns[band][100:].astype(np.float64) - np.tile(rows.columns[band], 2)
        found = [np.isnan(noise).sum(), np.nansum(noise), np.nansum(noise**2)]
        np.testing.assert_allclose(found, GOLDEN_COPIES[k], rtol=1e-5, atol=1e-4)
        assert 0.03 < np.nanstd(noise) < 0.07
    lost = np.sum([np.isnan(many.columns[band][100:]) for band in "ugriz"], axis=0)
    assert np.bincount(lost).tolist() == GOLDEN_LOST
    assert len(thinned(rows, ClassFit(drops=0), 3).code) == 100


GOLDEN_COPIES = [
    [63, 0.41837120056152344, 0.29064759776883875],
    [53, 0.7278909683227539, 0.28621755675249005],
    [57, 1.2051000595092773, 0.3552244146912926],
    [58, -0.4513559341430664, 0.38699117254418525],
    [64, 0.09705066680908203, 0.3370925085973795],
]
GOLDEN_LOST = [52, 50, 49, 49]


def test_copies_weigh_half_as_much_as_rows(monkeypatch):
    seen = []

    class Model:
        def __init__(self, **settings):
            seen.append(settings)

        def fit(self, matrix, code, weight):
            seen.append((len(matrix), code, weight))

    monkeypatch.setattr(class_fit, "HistGradientBoostingClassifier", Model)
    monkeypatch.setattr(class_fit, "trees_of", lambda model: None)
    rows = stars(50, 1)
    class_fit._fit(rows, FEATURE_SETS["photometry"], ClassFit(7, 0.1, 5, 2.0, 3), 9)
    assert seen[0] == {
        "max_iter": 7, "learning_rate": 0.1, "max_leaf_nodes": 5, "l2_regularization": 2.0, "early_stopping": False,
        "random_state": 9,
    }  # fmt: skip
    assert seen[1][0] == 200
    assert seen[1][2].tolist() == [1.0] * 50 + [0.5] * 150


def test_limits_are_rounded_down():
    limit = np.array([0.1, 0.5, 1 / 3, -0.1, 16777217.0])
    found = class_fit._rounded_down(limit)
    assert (found <= limit).all()
    assert (np.nextafter(found, np.float32(np.inf)) > limit).all()
    assert found[1] == 0.5


def test_familiar_rows_are_as_many_of_each_class():
    rows = stars(400, 2)
    features = FEATURE_SETS["photometry"]
    found, scale = class_fit._familiar(rows, features, ClassFit(reference=43), 1)
    matrix = rows.matrix(features)
    place = [int(np.flatnonzero((matrix == row).all(1))[0]) for row in found]
    assert place == sorted(place)
    assert np.bincount(rows.code[place]).tolist() == [10] * 4
    np.testing.assert_allclose(scale, np.maximum(matrix.std(0), 1e-3), rtol=1e-5)
    flat = Sample({band: np.full(8, 18, np.float32) for band in "ugriz"}, np.arange(8) % 4, CLASSES, np.arange(8))
    np.testing.assert_allclose(class_fit._familiar(flat, features, ClassFit(), 1)[1], 1e-3, rtol=1e-6)


def test_calibration_finds_the_slope_and_offsets_of_each_number_of_bands():
    rng = np.random.default_rng(5)
    logits, bands = rng.normal(0, 2, (40_000, 3)), rng.integers(2, 6, 40_000)
    true_slope, true_offset = np.array([0.5, 1.0, 1.5, 2.0]), np.array([[1.0, -0.5], [0, 0], [-1, 1], [0.5, 0.5]])
    shift = np.concatenate([true_offset, np.zeros((4, 1))], 1)[bands - 2]
    share = softmax(true_slope[bands - 2, None] * logits + shift, axis=1).cumsum(1)
    code = (rng.random((40_000, 1)) > share).sum(1).astype(np.int16)
    far = rng.random(40_000).astype(np.float32)
    slope, offset, limit = class_fit._calibration(code, bands, logits, far, ClassFit(familiar=0.9))
    np.testing.assert_allclose(slope[2:], true_slope, rtol=0.06)
    np.testing.assert_allclose(offset[2:, :2], true_offset, atol=0.1)
    assert (offset[:, 2] == 0).all()
    assert (slope.shape, offset.shape, limit.shape) == ((6,), (6, 3), (6,))
    assert (slope[:2].tolist(), offset[:2].tolist(), limit[:2].tolist()) == ([1, 1], [[0] * 3] * 2, [1, 1])
    np.testing.assert_allclose(limit[2:], [np.quantile(far[bands == n], 0.9) for n in range(2, 6)], rtol=1e-6)
