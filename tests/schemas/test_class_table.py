import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.class_table import CLASSES as CLASSES_STAR_GALAXY
from schemas.class_table import (
    SPECTRAL_CLASS,
    STAR_GALAXY,
    TYPE_COLUMNS,
    UNKNOWN,
    class_columns,
    class_dataset,
    class_table,
    probability_column,
)
from schemas.classes import STELLAR_CLASSES
from schemas.dataset import DatasetError, column

CLASSES = ("star", "galaxy")
DATASET = class_dataset("star_galaxy", CLASSES)


def verdicts(probability, outlier):
    ids = np.arange(len(probability), dtype=np.int64)
    return class_columns(CLASSES, ids, np.array(probability).reshape(-1, 2), np.array(outlier, float), "mlp 1")


def test_columns_in_their_order():
    names = ["objectId", "classLabel", "pStar", "pGalaxy", "classScore", "outlierScore", "modelVersion"]
    assert DATASET.schema.names == names
    assert DATASET.schema.field("pStar").type == pa.float32()
    assert [field.name for field in DATASET.schema if not field.nullable] == ["objectId", "classLabel", "modelVersion"]
    assert all(field.metadata[b"doc"] for field in DATASET.schema)


def test_a_known_an_outlying_and_an_empty_object():
    table = class_table(DATASET, verdicts([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan]], [0.5, 1.5, np.nan]))
    DATASET.check(table)
    assert table["classLabel"].to_pylist() == ["star", UNKNOWN, UNKNOWN]
    np.testing.assert_allclose(table["classScore"].to_pylist()[:2], [0.9, 0.8], rtol=1e-6)
    assert table["pGalaxy"].to_pylist()[2] is None
    assert table["outlierScore"].to_pylist()[2] is None
    assert table["modelVersion"].to_pylist() == ["mlp 1"] * 3


def test_no_object_gives_no_row():
    assert class_table(DATASET, verdicts([], [])).num_rows == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), max_size=20))
def test_the_label_is_the_most_probable_class_within_the_limit(rows):
    table = class_table(DATASET, verdicts([[p, 1 - p] for p, _ in rows], [far for _, far in rows]))
    for (p, far), label, score in zip(
        rows, table["classLabel"].to_pylist(), table["classScore"].to_pylist(), strict=True
    ):
        assert score == pytest.approx(max(p, 1 - p), abs=1e-6)
        assert label == (UNKNOWN if far > 1 else "star" if p >= 1 - p else "galaxy")


@pytest.mark.parametrize("bad", [[0.5, 0.2], [1.5, -0.5]])
def test_refuses_what_are_no_probabilities(bad):
    with pytest.raises(DatasetError, match=r"sum to 1, got .* in row 1"):
        verdicts([[1.0, 0.0], bad], [0, 0])


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ([0.5, 0.5009], True), ([0.5, 0.4991], True), ([0.5, 0.5011], False), ([0.5, 0.4989], False),
        ([1.0, 0.0], True), ([1.0005, -0.0005], False), ([-0.0005, 1.0005], False),
    ],
)  # fmt: skip
def test_probabilities_sum_to_one_within_a_thousandth_and_none_is_below_zero(row, right):
    if right:
        assert len(verdicts([[1.0, 0.0], row], [0, 0])["pStar"]) == 2
    else:
        with pytest.raises(DatasetError, match="in row 1"):
            verdicts([[1.0, 0.0], row], [0, 0])


@pytest.mark.parametrize("probability", [[np.nan, 0.5], [0.5, np.nan], [0.9, 0.1]])
@pytest.mark.parametrize("outlier", [0.0, 1.0, np.nan, np.inf])
def test_what_is_not_known_in_full_is_not_said_in_part(probability, outlier):
    columns = verdicts([[0.2, 0.8], probability], [0.3, outlier])
    known = np.isfinite([*probability, outlier]).all()
    assert columns["classLabel"].to_pylist() == ["galaxy", "star" if known else UNKNOWN]
    for name in ("pStar", "pGalaxy", "classScore", "outlierScore"):
        assert [one is None for one in columns[name].to_pylist()] == [False, not known]


@pytest.mark.parametrize(("outlier", "label"), [(1.0, "star"), (1 + 2**-52, UNKNOWN)])
def test_the_limit_of_what_was_trained_on_is_known(outlier, label):
    columns = verdicts([[0.9, 0.1]], [outlier])
    assert columns["classLabel"].to_pylist() == [label]
    assert columns["classScore"].to_pylist() == [pytest.approx(0.9)]


def test_verdicts_are_published_wherever_they_are_read():
    assert DATASET.product
    assert not DATASET.synthetic


def test_refuses_shapes_that_do_not_fit():
    with pytest.raises(DatasetError, match=r"must be \(2, 2\) and \(2,\), got \(2, 3\)"):
        class_columns(CLASSES, np.arange(2), np.full((2, 3), 1 / 3), np.zeros(2), "1")
    with pytest.raises(DatasetError, match=r"got \(2, 2\) and \(3,\)"):
        class_columns(CLASSES, np.arange(2), np.full((2, 2), 1 / 2), np.zeros(3), "1")


@pytest.mark.parametrize("classes", [("star",), ("star", UNKNOWN)])
def test_refuses_classes_that_are_none(classes):
    with pytest.raises(DatasetError, match="needs two classes"):
        class_dataset("x", classes)


def test_refuses_columns_that_sql_takes_for_one():
    with pytest.raises(DatasetError, match=r"columns \['pD'\] have one name"):
        class_dataset("x", ("D", "d"))


def test_further_columns_come_before_the_version():
    more = class_dataset("x", CLASSES, [column("subclassLabel", pa.string(), "", "Finer class.")])
    assert more.schema.names[-2:] == ["subclassLabel", "modelVersion"]


def test_names_of_columns():
    assert [probability_column(one) for one in ("star", "SBa", "O")] == ["pStar", "pSBa", "pO"]


def test_has_a_probability_for_each_class():
    names = STAR_GALAXY.schema.names
    assert [probability_column(one) for one in CLASSES_STAR_GALAXY] == ["pStar", "pGalaxy"]
    assert {"objectId", "classLabel", "pStar", "pGalaxy", "classScore", "outlierScore", "modelVersion"} == set(names)


def test_a_column_for_each_class_and_each_type():
    names = SPECTRAL_CLASS.schema.names
    assert {"pStar", "pGalaxy", "pQuasar", "classLabel", "typeLabel", "modelVersion", "typeModelVersion"} <= set(names)
    assert tuple(TYPE_COLUMNS) == STELLAR_CLASSES
    assert set(TYPE_COLUMNS.values()) <= set(names)


def test_names_differ_in_more_than_case():
    names = [name.lower() for name in SPECTRAL_CLASS.schema.names]
    assert len(names) == len(set(names))


def test_classes_are_published():
    assert STAR_GALAXY.product
    assert SPECTRAL_CLASS.product


def test_a_name_of_one_letter_is_a_capital():
    assert [probability_column(one) for one in ("d", "M", "wd")] == ["pD", "pM", "pWd"]


def test_three_classes_are_told_apart_in_every_place():
    probability = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.25, 0.5, 0.25]])
    columns = class_columns(("a", "b", "c"), np.arange(3), probability, np.zeros(3), "1")
    assert columns["classLabel"].to_pylist() == ["c", "a", "b"]
    assert columns["pC"].to_pylist() == pytest.approx([0.7, 0.2, 0.25])
    assert columns["classScore"].to_pylist() == pytest.approx([0.7, 0.5, 0.5])
    assert columns["objectId"].to_pylist() == [0, 1, 2]
