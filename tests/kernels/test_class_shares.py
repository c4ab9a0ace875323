import numpy as np
import pytest

from kernels.class_shares import SKY_STARS, at_shares
from schemas.stellar_class import STELLAR_CLASSES


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
