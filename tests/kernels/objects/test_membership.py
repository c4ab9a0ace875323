import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier

from flows.pipeline.weights import read_weights
from flows.training.membership import _trees
from kernels.objects.membership import (
    FEATURES,
    TYPICAL_ERROR,
    RedSequence,
    colour_region,
    membership_features,
    membership_model,
    platt_scaled,
    raw_probability,
    redness,
)

SEQUENCE = RedSequence(np.array([1.3, 3.0, 2.0, -0.05]), np.array([0.1]))


def galaxies(n=50, seed=1, **given):
    rng = np.random.default_rng(seed)
    cluster_z = rng.uniform(0.02, 0.2, n)
    columns = {
        "g": rng.uniform(16, 20, n),
        "r": rng.uniform(15, 19, n),
        "z": rng.uniform(14, 18, n),
        "zphot": cluster_z + rng.normal(0, 0.03, n),
        "zphot_err": rng.uniform(0.005, 0.03, n),
        "cluster_z": cluster_z,
        "radius": rng.uniform(0, 1, n),
    }
    return columns | {name: np.full(n, value) for name, value in given.items()}


def test_redness_is_the_distance_from_the_ridge_in_scatters():
    columns = galaxies(1, r=16.5, cluster_z=0.1, g=18.0, z=16.0)
    ridge = 1.3 + 3.0 * 0.1 + 2.0 * 0.01
    assert redness(columns, SEQUENCE)[0] == pytest.approx((2.0 - ridge) / 0.1)


def test_regions_follow_redness_and_what_is_not_known_has_none():
    assert colour_region(np.array([4.0, -1.9, -2.0, -2.1, -4.9, -5.0, -5.1, np.nan])).tolist() == [
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        -1,
    ]


def test_features_have_the_names_that_are_told_and_hide_what_is_missing():
    columns = galaxies(3, zphot_err=0.022, zphot=0.16, cluster_z=0.1, radius=np.nan)
    found = dict(zip(FEATURES, membership_features(columns, SEQUENCE).T, strict=True))
    assert found["offset"] == pytest.approx(np.full(3, 0.06 / 1.1))
    assert found["deviation"] == pytest.approx(np.full(3, 0.06 / 0.022))
    assert (found["radius"] > 5).all(), "not given"
    assert np.isfinite(np.stack(list(found.values()))).all()


def test_an_error_that_is_not_given_is_a_typical_one():
    unknown = membership_features(galaxies(zphot_err=np.nan), SEQUENCE)
    typical = galaxies()
    typical["zphot_err"] = TYPICAL_ERROR * (1 + typical["cluster_z"])
    assert unknown == pytest.approx(membership_features(typical, SEQUENCE))


@given(st.integers(0, 1000))
def test_the_trees_say_what_scikit_learn_says(seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(80, 4)).astype(np.float32)
    label = (features[:, 0] + rng.normal(0, 0.5, 80) > 0).astype(int)
    model = ExtraTreesClassifier(5, min_samples_leaf=3, random_state=seed).fit(features, label)
    theirs = np.clip(model.predict_proba(features)[:, list(model.classes_).index(1)], 1e-3, 1 - 1e-3)
    assert raw_probability(features, _trees(model)) == pytest.approx(theirs, abs=1e-6)


def test_calibration_keeps_the_order_and_a_line_of_slope_one_keeps_all():
    raw = np.linspace(0.01, 0.99, 50)
    assert platt_scaled(raw, 1.0, 0.0) == pytest.approx(raw)
    assert (np.diff(platt_scaled(raw, 1.4, -0.3)) > 0).all()


def test_the_shipped_model_wants_a_photometric_redshift_near_the_clusters():
    model = membership_model(*read_weights("membership", "default"))
    ridge = redness(galaxies(1, r=16.5, cluster_z=0.1, g=0.0, z=0.0), model.sequence)[0] * model.sequence.scatter[0]
    red = {"r": 16.5, "z": 16.0, "g": 16.0 - ridge, "cluster_z": 0.1, "radius": 0.2, "zphot_err": 0.012}
    near, far, none = (model(galaxies(1, **red, zphot=value))[0] for value in (0.101, 0.25, np.nan))
    assert near > 0.85
    assert far < 0.1
    assert np.isnan(none)


def test_the_simplest_rules_take_what_is_nearer_than_their_limit():
    card, arrays = read_weights("membership", "default")
    limits = card.calibration | {"photometric_redshift_cut": 0.05, "red_sequence_cut": 2.0}
    arrays = arrays | {"ridge": np.zeros(4), "scatter": np.ones(1)}  # redness is g - z
    model = membership_model(card.model_copy(update={"calibration": limits}), arrays)
    zphot = np.array([0.05, 0.0499, -0.05, -0.0499, 0.3, np.nan])
    found = model.by_photometric_redshift(galaxies(6, cluster_z=0.0) | {"zphot": zphot})
    assert found.tolist() == [0, 1, 0, 1, 0, 0]
    g = np.array([18.0, 17.99, 14.0, 14.01, 20.0, np.nan])
    assert model.by_red_sequence(galaxies(6, z=16.0) | {"g": g}).tolist() == [0, 1, 0, 1, 0, 0]
