import numpy as np
import pytest

from flows.simulation.star_colours import star_table
from flows.training.spectral_sample import (
    FIELD_STARS,
    Sample,
    archive_sample,
    filtered,
    held_out_rows,
    large_classes,
    with_stars,
)
from schemas.archive_columns import FEATURE_SETS
from schemas.errors import BadInput

FEATURES = FEATURE_SETS["n5"]


def sample(code, r=None, classes=("star", "galaxy", "quasar"), group=None, **more):
    code = np.array(code, np.int16)
    columns = {band: np.full(len(code), 18, np.float32) for band in "ugriz"} | more
    columns["r"] = np.arange(len(code), dtype=np.float32) if r is None else np.array(r, np.float32)
    return Sample(columns, code, classes, np.arange(len(code)) if group is None else np.array(group))


def write(tmp_path, *lines):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines))
    return path


def test_reads_labels_and_counts_what_has_none(tmp_path):
    path = write(
        tmp_path,
        "u,g,r,i,z,class,plate",
        "18,17,16,15,14,STAR,300",
        "18,17,16,15,14,GALAXY,300",
        "18,17,16,15,14,SKY,301",
        "-9999,-9999,-9999,-9999,-9999,QSO,301",
    )
    found = archive_sample(path, "superclass", FEATURES)
    assert found.classes == ("star", "galaxy")
    np.testing.assert_array_equal(found.code, [0, 1])
    np.testing.assert_array_equal(found.group, [300, 300])
    assert found.notes["labels_without_class"] == {"SKY": 1}
    assert (found.notes["rows_without_class"], found.notes["rows_without_band"]) == (1, 1)
    assert found.notes["split_by"] == "plate"


def test_classes_of_one_kind_only_are_refused(tmp_path):
    path = write(tmp_path, "u,g,r,i,z,class", *["18,17,16,15,14,STAR"] * 3)
    with pytest.raises(BadInput, match=r"two classes with 1 rows or more are required, got {'star': 3}") as error:
        archive_sample(path, "superclass", FEATURES)
    assert error.value.code == "one_class"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("18,17,16,15,14,2", r"no row has a class of \['star', .* and a magnitude: labels are \['2'\]"),
        ("-999,99,99,,-9999,STAR", "and a magnitude: none of those has magnitudes"),
    ],
)
def test_says_which_labels_are_none_or_that_there_are_no_magnitudes(tmp_path, row, problem):
    with pytest.raises(BadInput, match=problem) as error:
        archive_sample(write(tmp_path, "u,g,r,i,z,class", row, row), "superclass", FEATURES)
    assert error.value.code == "no_labels"


def test_stars_and_galaxies_by_their_own_labels(tmp_path):
    path = write(tmp_path, "u,g,r,i,z,subClass", "18,17,16,15,14,F5V (30743)", "18,17,16,15,14,CV", "18,17,16,15,14,M3")
    found = archive_sample(path, "star", FEATURES)
    assert [found.classes[k] for k in found.code] == ["F", "M"]
    path = write(tmp_path, "u,g,r,i,z,gz2class", "18,17,16,15,14,SBc2m", "18,17,16,15,14,A", "18,17,16,15,14,Ei")
    found = archive_sample(path, "galaxy", FEATURES)
    assert [found.classes[k] for k in found.code] == ["SBc", "Ee"]


def test_small_classes_are_left_out_and_named():
    found = large_classes(sample([0] * 5 + [1] * 2 + [2] * 5), 3, "here")
    assert found.classes == ("star", "quasar")
    assert found.code.tolist() == [0] * 5 + [1] * 5
    assert found.notes["classes_left_out"] == {"galaxy": 2}


def test_filters_of_brightness_and_size():
    large = np.array([5, 20, 30, np.nan], np.float32)
    rows = sample([0, 1, 0, 1], r=[16, 16, 18, 16], petroRad_r=large)
    assert len(filtered(rows).code) == 4
    assert filtered(rows, brighter=17).columns["r"].tolist() == [16, 16, 16]
    assert filtered(rows, brighter=17, larger=17).columns["petroRad_r"].tolist() == [20]
    with pytest.raises(BadInput, match="no row passes"):
        filtered(rows, larger=100)
    with pytest.raises(BadInput, match=r"\['petroRad_r'\].* a filter needs it"):
        filtered(sample([0, 1]), larger=17)


def test_held_out_rows_are_whole_groups():
    groups = np.random.default_rng(1).integers(0, 40, 1000)
    rows = sample(np.zeros(1000, int), group=groups)
    held = held_out_rows(rows, 0.2, 3)
    assert not set(groups[held]) & set(groups[~held])
    assert 0.12 < held.mean() <= 0.2
    np.testing.assert_array_equal(held, held_out_rows(rows, 0.2, 3))
    assert (held != held_out_rows(rows, 0.2, 4)).any()


def test_simulated_stars_are_added_to_those_of_the_table():
    rows = sample([0, 1, 2, 1], group=[300, 300, 301, 301], redshift=np.zeros(4, np.float32))
    more = with_stars(rows, 1000, 5)
    np.testing.assert_array_equal(more.code, [0, 1, 2, 1] + [0] * 1000)
    assert np.isnan(more.columns["redshift"][4:]).all()
    assert len(np.unique(more.group)) == 1002
    red = more.columns["g"] - more.columns["i"]
    assert 0.2 < np.mean(red[4:] > 1.8) < 0.5  # M dwarfs
    assert more.notes["simulated_stars"] == 1000


def test_stars_are_not_added_to_kinds_of_galaxies():
    with pytest.raises(BadInput, match="rows with a class 'star'"):
        with_stars(sample([0, 1], classes=("Er", "Sb")), 10, 1)


def test_rows_at_a_bound_of_a_filter_are_left_out():
    rows = sample([0, 1, 0, 1], r=[15, 17, 16.999, 18], petroRad_r=np.array([5, 20, 17, 30], np.float32))
    assert filtered(rows, brighter=17).columns["r"].tolist() == pytest.approx([15, 16.999])
    assert filtered(rows, larger=17).columns["petroRad_r"].tolist() == [20, 30]


def test_a_class_with_as_many_rows_as_asked_for_is_kept():
    found = large_classes(sample([0] * 4 + [1] * 3 + [3] * 2, classes=("a", "b", "none", "c")), 3, "here")
    assert (found.classes, found.notes["classes_left_out"]) == (("a", "b"), {"c": 2})
    with pytest.raises(BadInput, match="two classes with 4 rows or more"):
        large_classes(sample([0] * 4 + [1] * 3), 4, "here")


def test_rows_without_plates_are_split_one_by_one(tmp_path):
    lines = ["u,g,r,i,z,class,plate", "18,17,16,15,14,STAR,300", "18,17,16,15,14,GALAXY,", "18,17,,15,14,GALAXY,300"]
    found = archive_sample(write(tmp_path, *lines), "superclass", FEATURES)
    assert found.group.tolist() == [0, 1, 2]
    assert (found.notes["split_by"], found.notes["rows"]) == ("row", 3)
    assert (found.notes["rows_without_class"], found.notes["rows_without_band"]) == (0, 0)
    assert "plate" not in found.columns
    found = archive_sample(write(tmp_path, *[line.rpartition(",")[0] for line in lines]), "superclass", FEATURES)
    assert found.group.tolist() == [0, 1, 2]


def test_twenty_labels_without_a_class_are_noted_at_most(tmp_path):
    rows = [f"18,17,16,15,14,{label}" for label in ("STAR", "GALAXY", *(f"SKY{n}" for n in range(25)))]
    found = archive_sample(write(tmp_path, "u,g,r,i,z,class", *rows), "superclass", FEATURES)
    assert len(found.notes["labels_without_class"]) == 20
    assert found.notes["rows_without_class"] == 25


def test_added_stars_have_groups_of_their_own_behind_those_of_the_table():
    rows = sample([1, 0, 2], classes=("galaxy", "star", "quasar"), group=[7, 9, 8])
    more = with_stars(rows, 4, 5)
    assert more.group.tolist() == [7, 9, 8, 10, 11, 12, 13]
    assert more.code.tolist() == [1, 0, 2, 1, 1, 1, 1]
    drawn, _ = star_table(4, 5, FIELD_STARS)
    np.testing.assert_array_equal(more.columns["g"][3:], drawn["g"])
    assert FIELD_STARS == ("F", "G", "K", "M")


def test_the_share_of_the_rows_that_is_held_out_is_reached():
    assert held_out_rows(sample(np.zeros(10, int)), 0.2, 1).sum() == 2
    assert held_out_rows(sample(np.zeros(11, int)), 0.2, 1).sum() == 2


def test_some_rows_are_held_out_where_every_plate_is_larger_than_the_share():
    groups = np.array([1] * 40 + [2] * 30 + [3] * 30)
    for seed in range(5):
        assert set(groups[held_out_rows(sample(np.zeros(100, int), group=groups), 0.2, seed)].tolist()) == {2}
