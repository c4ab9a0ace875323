"""What tells trails, points and satellites apart, beside scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from flows.pipeline.weights import read_weights
from flows.training.reliability import fit_kinds, kind_figures, with_prior
from kernels.measure.reliability_net import SHARES, KindShares, build_reliability, kind_shares
from schemas.dia_source import FEATURES, KINDS, STATIC, UNKNOWN
from schemas.stage import Weights
from tests.support.candidates import exposure
from tests.support.models import write_reliability

LENGTH, FWHM = FEATURES.index("log_length"), FEATURES.index("log_fwhm")
STARS = [FEATURES.index(name) for name in STATIC]


def sky(seed, counts=(60, 200, 15)):
    """Candidates of each kind, whose lengths overlap, and artefacts like any of them."""
    rng = np.random.default_rng(seed)
    one = exposure(seed, real=counts[0], false=counts[1] + counts[2] + 50)
    label = np.repeat([1, 3, 2, 0], [*counts, 50])
    features = rng.normal(size=one.features.shape).astype(np.float32)
    features[:, FWHM] = np.log(2.0)
    features[:, LENGTH] = rng.normal(np.select([label == 1, label == 2], [1.0, 3.0], 0.0), 0.5)
    features[np.ix_(rng.random(len(label)) < 0.4, STARS)] = UNKNOWN
    return replace(one, features=features, label=label)


def test_kinds_follow_label_and_length():
    one = sky(0, (3, 2, 1))
    lengths = np.array([0.99, 1.0, 40.0])  # FWHM is 2 px
    one = replace(one, targets=replace(one.targets, length=lengths))
    assert one.kind.tolist() == [1, 0, 0, 1, 1, 2] + [-1] * 50


def fitted():
    rng, count = np.random.default_rng(0), len(FEATURES)
    mean, scale = rng.normal(size=count), rng.uniform(0.5, 2.0, count)
    return KindShares(mean, scale, rng.normal(0, 0.4, (3, count)), rng.normal(size=3), np.array([0.0, -0.5, -1.0]))


def softmax(features, of):
    """Shares of a softmax of all measurements, each cut at five spreads."""
    standard = ((features - of.mean) / of.scale).clip(-5, 5)
    odds = np.exp(standard @ of.weight.T + of.bias + of.shift)
    return odds / odds.sum(axis=1, keepdims=True)


def test_shares_without_a_science_image_are_those_of_a_softmax():
    features = np.random.default_rng(1).normal(0, 3, (50, len(FEATURES))).astype(np.float32)
    features[0, LENGTH] = 1e9
    features[:, STARS] = UNKNOWN
    np.testing.assert_allclose(kind_shares(features, fitted()), softmax(features, fitted()), rtol=1e-6)


def test_a_star_beneath_a_trail_makes_no_satellite_of_it():
    features = np.random.default_rng(2).normal(size=(50, len(FEATURES))).astype(np.float32)
    hidden = features.copy()
    hidden[:, STARS] = UNKNOWN
    seen, without = kind_shares(features, fitted()), kind_shares(hidden, fitted())
    np.testing.assert_allclose(seen[:, 1], softmax(features, fitted())[:, 1], rtol=1e-6)  # points are told by all
    assert np.abs(seen[:, 1] - without[:, 1]).max() > 0.1
    np.testing.assert_allclose(seen[:, 2] / seen[:, 0], without[:, 2] / without[:, 0], rtol=1e-6)
    np.testing.assert_allclose(seen.sum(axis=1), 1.0, rtol=1e-12)


def test_the_prior_is_that_of_the_exposures_it_is_set_on():
    shares = fit_kinds([sky(n) for n in range(6)])
    for counts in ((60, 200, 15), (200, 20, 5)):
        known = [sky(20 + n, counts) for n in range(6)]
        ready = with_prior(with_prior(shares, known[:1]), known)
        stated = kind_shares(known[0].features[known[0].kind >= 0], ready).mean(0)
        np.testing.assert_allclose(stated, np.array(counts) / sum(counts), atol=0.04)


def test_they_tell_apart_as_well_as_a_joint_fit():
    learn, test = [sky(n) for n in range(6)], [sky(90 + n) for n in range(6)]
    figures = kind_figures(test, with_prior(fit_kinds(learn), learn), learn)
    parts = [(one.features[one.kind >= 0], one.kind[one.kind >= 0]) for one in learn + test]
    joint = LogisticRegression(max_iter=2000).fit(*map(np.concatenate, zip(*parts[:6], strict=True)))
    accuracy = joint.score(*map(np.concatenate, zip(*parts[6:], strict=True)))
    assert figures["accuracy"] == pytest.approx(accuracy, abs=0.02)
    assert figures["interval"][0] < figures["accuracy"] < figures["interval"][1]
    assert figures["calibration_error"] < 0.05
    assert figures["prior"] == pytest.approx(np.array([60, 200, 15]) / 275, abs=1e-3)
    assert np.sum(figures["confusion"]) == figures["candidates"] == 6 * 275
    assert np.trace(figures["confusion"]) / figures["candidates"] == pytest.approx(figures["accuracy"], abs=1e-4)


def test_kinds_that_were_fitted_before_a_measurement_was_added_look_at_their_own():
    learn, columns = [sky(n) for n in range(4)], tuple(range(len(FEATURES) - 1))
    fitted = fit_kinds(learn)
    fitted.weight[:, -1] = 0.0  # as if the last were not there
    fewer = fitted._replace(**{name: getattr(fitted, name)[..., :-1] for name in ("mean", "scale", "weight")})
    ready = with_prior(fewer, learn, columns)
    np.testing.assert_allclose(ready.shift, with_prior(fitted, learn).shift, rtol=1e-9)
    assert kind_figures(learn, ready, learn, columns) == kind_figures(learn, with_prior(fitted, learn), learn)


def test_a_kind_that_is_not_there_is_next_to_impossible():
    learn = [sky(n, (60, 200, 0)) for n in range(4)]
    shares = kind_shares(learn[0].features, with_prior(fit_kinds(learn), learn))
    assert shares[:, KINDS.index("satellite")].mean() < 0.01


def test_without_a_prior_on_the_card_the_kinds_are_as_they_were_fitted(tmp_path):
    write_reliability(tmp_path)
    fitted = fit_kinds([sky(0)])
    card, arrays = read_weights("reliability", str(tmp_path))[:2]
    own = {f"{SHARES}{name}": value for name, value in fitted._asdict().items() if name != "shift"}
    net = build_reliability(Weights(card, {**arrays, **own}))
    np.testing.assert_array_equal(net.kinds.shift, np.zeros(len(KINDS)))
    np.testing.assert_array_equal(net.kinds.weight, fitted.weight)
