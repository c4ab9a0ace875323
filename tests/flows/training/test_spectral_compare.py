import numpy as np
import pytest

from flows.simulation.star_colours import star_table
from flows.training.spectral_compare import (
    MODELS,
    ClusterLabels,
    Thinned,
    compare,
    pipeline,
    smote_neighbours,
    split,
    table,
)
from flows.training.spectral_sample import Sample
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
