import numpy as np
import pytest

from flows.simulation.star_colours import star_table
from flows.training import spectral_compare
from flows.training.spectral_compare import (
    FOREST_MOST,
    KNN_MOST,
    MODELS,
    SVM_EXACT,
    ClusterLabels,
    Compared,
    Thinned,
    compare,
    pipeline,
    smote_neighbours,
    split,
    table,
)
from flows.training.spectral_sample import Sample
from kernels.statistics.class_scores import class_scores
from schemas.archive_columns import FEATURE_SETS
from schemas.errors import BadInput

CLASSES = ("A", "G", "M")


def stars(count=300, groups=30):
    columns, code = star_table(count, 1, CLASSES)
    return Sample(columns, code, CLASSES, np.arange(count) % groups)


def test_every_row_is_validated_once_and_groups_stay_together():
    rows = stars()
    seen = np.zeros(len(rows.code), int)
    for fit, validate in split(rows, 1):
        assert not set(rows.group[fit]) & set(rows.group[validate])
        seen[validate] += 1
    assert (seen == 1).all()


def test_compares_on_rows_that_were_not_fitted():
    said = []
    found = compare(stars(), FEATURE_SETS["photometry"], "none", 1, said.append, ("majority", "tree"))
    majority, tree = found
    assert majority.validation.accuracy < 0.4
    assert tree.validation.accuracy > 0.9
    assert tree.train.accuracy >= tree.validation.accuracy
    assert tree.validation.n == 300
    assert len(said) == 2
    lines = table(found).splitlines()
    assert len(lines) == 4
    assert f"{tree.validation.accuracy:.4f}" in lines[3]
    assert found[1].figures()["validation"]["confusion"] == tree.validation.confusion.tolist()


def test_validation_does_not_depend_on_made_up_rows():
    """Labels without a pattern: rows made by SMOTE before the split would leak, and look learnable."""
    rows = stars(400, 400)
    code = np.where(np.random.default_rng(3).random(400) < 0.1, 0, 1).astype(np.int16)
    rows = Sample(rows.columns, code, ("rare", "usual"), rows.group)
    (found,) = compare(rows, FEATURE_SETS["photometry"], "smote", 1, lambda _: None, ("knn_5",))
    assert found.validation.confusion.sum() == 400
    assert found.validation.recall < 0.65
    assert found.train.recall > found.validation.recall


def test_a_class_too_small_for_smote_is_an_error():
    rows = stars(60)
    code = np.array([0] * 59 + [1], np.int16)
    with pytest.raises(BadInput, match="SMOTE needs two rows"):
        compare(Sample(rows.columns, code, ("a", "b"), np.arange(60)), ("g-r",), "smote", 1, print, ("tree",))


def blobs(rows=300, share=(0.6, 0.3, 0.1), seed=1):
    rng = np.random.default_rng(seed)
    code = rng.choice(3, rows, p=share)
    return (rng.normal(0, 0.5, (rows, 5)) + 2 * code[:, None]).astype(np.float32), code


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"majority", "ffnn"}))
def test_every_classifier_tells_what_is_apart(name):
    rows, code = blobs()
    unseen, truth = blobs(seed=2)
    unseen[0, 2] = np.nan
    model = pipeline(name, code, "none", 0).fit(rows, code)
    assert (model.predict(unseen) == truth).mean() > (0.85 if name == "knn_100" else 0.95)


@pytest.mark.parametrize(("rebalance", "fitted"), [("none", 60), ("rarest", 12)])
def test_neighbours_are_as_many_as_there_are_rows(rebalance, fitted):
    rows, code = blobs()
    kept = np.r_[np.flatnonzero(code == 0)[:28], np.flatnonzero(code == 1)[:28], np.flatnonzero(code == 2)[:4]]
    model = pipeline("knn_100", code[kept], rebalance, 0).fit(rows[kept], code[kept])
    assert model["model"].inner.n_neighbors == fitted
    assert len(model.predict(rows)) == len(rows)


def test_the_network_is_that_of_the_study():
    rows, code = blobs()
    model = pipeline("ffnn", code, "none", 0)
    model.set_params(model__max_iter=1)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        net = model.fit(rows, code)["model"]
    assert sum(part.size for part in (*net.coefs_, *net.intercepts_)) == 69_123


@pytest.mark.parametrize(("rebalance", "expected"), [("none", None), ("smote", "largest"), ("rarest", "smallest")])
def test_rebalancing_touches_nothing_but_what_is_fitted(rebalance, expected):
    rows, code = blobs()
    seen = []

    class Spy(Thinned):
        def fit(self, features, code):
            seen.append(np.bincount(code))
            return super().fit(features, code)

    model = pipeline("tree", code, rebalance, 0)
    model.set_params(model=Spy(model["model"]))
    model.fit(rows, code)
    count = np.bincount(code)
    sizes = {None: count, "largest": np.full(3, count.max()), "smallest": np.full(3, count.min())}
    np.testing.assert_array_equal(seen[0], sizes[expected])
    assert len(model.predict(rows)) == len(rows)


def test_smote_has_as_many_neighbours_as_the_smallest_class_allows():
    assert [smote_neighbours(size) for size in (2, 3, 6, 100)] == [1, 2, 5, 5]
    rows, code = blobs()
    code[:] = 0
    code[:50], code[:3] = 1, 2
    pipeline("tree", code, "smote", 0).fit(rows, code)


def test_smote_needs_two_rows_of_a_class():
    with pytest.raises(BadInput, match="SMOTE needs two rows of each class, got 1") as error:
        pipeline("tree", np.array([0, 0, 0, 1]), "smote", 0)
    assert error.value.code == "class_too_small"


def test_clusters_have_the_name_of_their_most_frequent_class():
    rows, code = blobs()
    model = ClusterLabels(3).fit(rows, np.array([5, 7, 9])[code])
    assert set(model.predict(rows)) <= {5, 7, 9}


def test_thinning_draws_as_many_rows_as_it_is_told():
    rows, code = blobs()
    seen = []

    class Spy:
        def fit(self, features, code):
            seen.append(len(code))
            self.classes_ = np.unique(code)

    Thinned(Spy(), 100).fit(rows, code)
    Thinned(Spy(), 1000).fit(rows, code)
    assert seen == [100, 300]


def settings(name, rows=1000, seed=3):
    model = MODELS[name](rows, seed)
    return model.get_params()


def test_classifiers_are_set_as_the_documentation_says():
    assert settings("k_means") == {"clusters": 24, "seed": 3}
    for count in (5, 20, 100):
        made = settings(f"knn_{count}")
        assert (made["inner__n_neighbors"], made["most"], made["seed"]) == (count, 200_000, 3)
    assert settings("logistic")["max_iter"] == 500
    assert (settings("tree")["min_samples_leaf"], settings("tree")["random_state"]) == (3, 3)
    boosted = settings("boosted")
    assert (boosted["max_iter"], boosted["learning_rate"]) == (150, 0.06)
    assert (boosted["max_leaf_nodes"], boosted["l2_regularization"]) == (15, 1.0)
    for rows, share in ((1000, 1.0), (200_000, 1.0), (800_000, 0.25)):
        forest = settings("forest", rows)
        assert (forest["n_estimators"], forest["max_samples"]) == (100, share)
    assert (KNN_MOST, SVM_EXACT, FOREST_MOST) == (200_000, 10_000, 200_000)
    exact, approximate = MODELS["svm"](10_000, 3), MODELS["svm"](10_001, 3)
    assert (type(exact).__name__, exact.C) == ("SVC", 10.0)
    assert (approximate.most, approximate.inner["kernel"].n_components, approximate.inner["svm"].C) == (
        200_000,
        300,
        10.0,
    )


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"),
    [(100, 100, 250), (2048, 2048, 250), (4096, 2048, 125), (4097, 2048, 125), (10**6, 2048, 5)],
)
def test_the_network_learns_at_least_250_steps_and_five_passes(rows, batch, epochs):
    made = settings("ffnn", rows)
    assert (made["hidden_layer_sizes"], made["batch_size"], made["max_iter"]) == ((512, 128), batch, epochs)


def test_rebalanced_rows_are_counted_for_the_classifier(monkeypatch):
    seen = []
    monkeypatch.setitem(MODELS, "spy", lambda rows, seed: seen.append((rows, seed)) or ClusterLabels())
    code = np.array([0] * 12 + [2] * 7 + [3] * 4)  # no row is of class 1
    for rebalance in ("none", "smote", "rarest"):
        made = pipeline("spy", code, rebalance, 9)
    assert seen == [(23, 9), (36, 9), (12, 9)]
    assert made.named_steps["impute"].strategy == "median"
    assert pipeline("spy", code, "smote", 9)["smote"].k_neighbors == 3


def test_thinned_rows_are_in_order_and_drawn_by_the_seed():
    rows, code = np.arange(50.0)[:, None], np.arange(50) % 3
    seen = []

    class Spy:
        def fit(self, features, code):
            seen.append((features[:, 0].tolist(), code.tolist()))
            self.classes_ = np.unique(code)

    for most in (50, 49):
        Thinned(Spy(), most, 4).fit(rows, code)
    assert seen[0][0] == list(range(50))
    expected = sorted(np.random.default_rng(4).permutation(50)[:49].tolist())
    assert seen[1] == (expected, [n % 3 for n in expected])


def test_a_cluster_has_its_most_frequent_class():
    rows = np.repeat([[0.0], [10.0], [20.0]], 10, axis=0) + np.linspace(0, 0.1, 30)[:, None]
    code = np.array([4] * 6 + [8] * 4 + [8] * 9 + [4] + [6] * 10)
    model = ClusterLabels(3, 1).fit(rows, code)
    assert model.predict(np.array([[0.05], [10.05], [20.05]])).tolist() == [4, 8, 6]
    assert len(ClusterLabels(24, 1).fit(rows[:7], code[:7]).label_) == 7


def test_one_fifth_is_held_out_of_more_than_fifty_thousand_rows(monkeypatch):
    monkeypatch.setattr(spectral_compare, "_FOLDED", 60)
    assert len(list(split(stars(60, 60), 1))) == 5
    ((fit, validate),) = split(stars(61, 61), 1)
    assert (len(validate), len(fit)) == (12, 49)
    assert sorted([*fit, *validate]) == list(range(61))


def test_fifty_thousand_rows_are_folded_and_scored_at_most(monkeypatch):
    assert (spectral_compare._FOLDED, spectral_compare._SCORED, spectral_compare.FOLDS) == (50_000, 50_000, 5)
    monkeypatch.setattr(spectral_compare, "_SCORED", 40)
    (found,) = compare(stars(150, 150), FEATURE_SETS["photometry"], "none", 1, lambda _: None, ("majority",))
    assert (found.train.n, found.validation.n) == (5 * 40, 5 * 30)
    monkeypatch.setattr(spectral_compare, "_SCORED", 30)
    (found,) = compare(stars(150, 150), FEATURE_SETS["photometry"], "none", 1, lambda _: None, ("majority",))
    assert (found.train.n, found.validation.n) == (5 * 30, 5 * 30)


def test_a_row_of_the_table_tells_both_scores_and_the_time():
    train = class_scores(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 2)
    check = class_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    one = Compared("tree", train, check, 1.2345)
    low, high = check.accuracy_interval
    least, most = check.macro_f1_interval
    assert table([one]).splitlines()[2] == (
        f"| tree | 1.2 | 1.0000 | 1.0000 | 0.7500 ({low:.4f}-{high:.4f}) | {check.precision:.4f} | 0.7500 "
        f"| {check.macro_f1:.4f} ({least:.4f}-{most:.4f}) |"
    )
    figures = one.figures()
    assert (figures["seconds"], figures["train"]["confusion"]) == (1.23, [])


def test_seconds_and_said_lines_tell_of_each_classifier(monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(spectral_compare.time, "perf_counter", lambda: next(clock))
    said = []
    (found,) = compare(stars(60, 60), FEATURE_SETS["photometry"], "none", 1, said.append, ("majority",))
    assert found.seconds == 2.5
    score = found.validation
    assert said == [f"majority: accuracy {score.accuracy:.4f}, macro F1 {score.macro_f1:.4f}, 2.5 s"]
