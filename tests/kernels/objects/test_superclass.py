import numpy as np
import pytest

from kernels.objects.class_model import ClassVerdict
from kernels.objects.superclass import SKY, SKY_STARS, at_shares, superclass_verdict
from schemas.classes import STELLAR_CLASSES

TRAINING = np.array([0.4, 0.5, 0.1])


def judge(colours, point, u=True, point_outlier=0.5, outlier=0.2):
    verdict = ClassVerdict(np.array([colours], float), np.array([outlier], float))
    one = superclass_verdict(verdict, TRAINING, np.array([u]), np.array([point]), np.array([point_outlier]))
    return one.probability[0], one.outlier[0]


def test_the_image_says_point_or_galaxy_and_colours_which_point():
    probability, outlier = judge((0.6, 0.3, 0.1), 0.9, u=False)
    # odds of star against quasar: likelihoods 0.6 / 0.4 and 0.1 / 0.1, at 100 to 1
    star = 1.5 * 0.5 / (1.5 * 0.5 + 1.0 * 0.005)
    np.testing.assert_allclose(probability, [0.9 * star, 0.1, 0.9 * (1 - star)])
    assert outlier == 0.5


def test_the_same_by_counting_sources():
    """Of many sources drawn with these shares, those of one colour and one look have the classes stated."""
    rng = np.random.default_rng(1)
    shares = np.array([0.8, 0.19, 0.01])
    kind = rng.choice(3, 2_000_000, p=shares)
    blue = rng.random(len(kind)) < np.array([0.2, 0.2, 0.9])[kind]  # galaxies and stars alike: colour tells neither
    round_ = rng.random(len(kind)) < np.array([0.95, 0.05, 0.95])[kind]
    likelihood = np.array([0.2, 0.2, 0.9])
    colours = likelihood * TRAINING / (likelihood * TRAINING).sum()
    among = round_ & blue
    point = float((kind[round_] != 1).mean())  # as a calibrated judge of this sky says of what is round
    probability, _ = judge(colours, point)
    seen = np.bincount(kind[among], minlength=3) / among.sum()
    odds = (probability[2] / probability[0]) / (SKY[2] / SKY[0]) * (shares[2] / shares[0])
    assert odds == pytest.approx(seen[2] / seen[0], rel=0.03)
    assert probability[1] == pytest.approx(float((kind[round_] == 1).mean()), abs=1e-9)


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
    np.testing.assert_allclose(probability, [0.9 * 100 / 101, 0.1, 0.9 / 101])
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
