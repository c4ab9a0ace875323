import numpy as np
import pytest

from flows.simulation.star_colours import star_table
from flows.training.spectral_compare import compare, split, table
from flows.training.spectral_sample import Sample
from schemas.class_features import FEATURE_SETS
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
