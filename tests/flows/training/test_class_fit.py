import numpy as np
import pytest

from flows.simulation.star_colours import star_table
from flows.training.class_fit import ClassFit, fit_class_model, thinned
from flows.training.spectral_sample import Sample
from kernels.objects.class_model import class_model
from schemas.archive_columns import FEATURE_SETS
from schemas.model_card import ModelCard

CLASSES = ("A", "G", "K", "M")
PLAN = ClassFit(rounds=20, reference=200)


def stars(count, seed):
    columns, code = star_table(count, seed, CLASSES, faint=17.0)
    return Sample(columns, code, CLASSES, np.arange(count))


@pytest.fixture(scope="module")
def model():
    card = ModelCard(
        stage="star_subclass", name="ugriz", version="1", sha256="", classes=CLASSES, training={}, metrics={},
        input={"features": FEATURE_SETS["photometry"]}, threshold=1.0, false_alarm_rate="",
    )  # fmt: skip
    return class_model(card, fit_class_model(stars(800, 1), FEATURE_SETS["photometry"], PLAN, 1))


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
