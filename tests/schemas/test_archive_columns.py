import pytest

from schemas.archive_columns import BANDS, COLOURS, FEATURE_SETS, NAMES, columns_of, locate_columns
from schemas.errors import BadInput


@pytest.mark.parametrize("family", ["{}", "modelMag_{}", "cModelMag_{}", "psfMag_{}", "petroMag_{}", "dered_{}"])
def test_names_of_the_archive(family):
    columns = [family.format(band) for band in BANDS] + ["class"]
    assert locate_columns(columns, (*BANDS, "class")) == dict(zip((*BANDS, "class"), columns, strict=True))


def test_magnitudes_are_of_one_kind():
    columns = ["u", "g", "r", "i", *(f"psfMag_{band}" for band in BANDS)]
    assert locate_columns(columns, BANDS) == {band: f"psfMag_{band}" for band in BANDS}


def test_magnitudes_of_two_kinds_are_not_mixed():
    with pytest.raises(BadInput, match=r"columns? r: not in the table .* magnitudes are of one kind"):
        locate_columns(["u", "g", "psfMag_r"], ("u", "g", "r"))
    columns = ["psfMag_g", "psfMag_r", "i", "modelMagErr_g", "psfMagErr_g"]
    found = locate_columns(columns, ("g", "r"), ("i", "z", "err_g"))
    assert found == {"g": "psfMag_g", "r": "psfMag_r", "err_g": "psfMagErr_g"}


def test_z_is_the_redshift_also_where_some_bands_are_missing():
    columns = ["psfMag_g", "psfMag_r", "z"]
    for optional in (("redshift",), ("i", "z", "redshift")):
        assert locate_columns(columns, ("g", "r"), optional) == {"g": columns[0], "r": columns[1], "redshift": "z"}


def test_z_of_the_spectrum_is_no_magnitude():
    columns = [*(f"psfMag_{band}" for band in BANDS), "z", "class"]
    assert locate_columns(columns, (*BANDS, "redshift"))["redshift"] == "z"
    assert locate_columns([*BANDS, "z1"], (*BANDS, "redshift"))["redshift"] == "z1"
    with pytest.raises(BadInput, match="redshift"):
        locate_columns(BANDS, (*BANDS, "redshift"))


def test_case_is_ignored_where_no_name_fits_exactly():
    assert locate_columns(["U", "G", "R", "I", "Z", "CLASS"], (*BANDS, "class"))["z"] == "Z"
    assert locate_columns(["subclass", "subClass"], ("subClass",)) == {"subClass": "subClass"}


def test_names_all_that_is_missing():
    with pytest.raises(BadInput, match=r"columns u, petroRad_r: .*u or modelMag_u or .*It has g\.") as error:
        locate_columns(["g"], ("g", "u", "petroRad_r"))
    assert error.value.code == "missing_columns"


def test_a_kind_of_magnitudes_is_used_only_if_it_has_all_bands_that_are_asked_for():
    families = ["modelMag_u", "modelMag_g", "psfMag_u", "psfMag_g", "psfMag_r"]
    assert locate_columns(families, ("u", "g")) == {"u": "modelMag_u", "g": "modelMag_g"}
    assert locate_columns(families, ("u", "g", "r")) == {"u": "psfMag_u", "g": "psfMag_g", "r": "psfMag_r"}
    assert locate_columns(families, ("u",), ("r",)) == {"u": "psfMag_u", "r": "psfMag_r"}


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["z", "redshift"], "redshift"), (["specz", "z_spec"], "specz"), (["z"], None), (["psfMag_z", "Z"], None),
        (["Z", "z1"], "z1"), (["psfMag_z"], None),
    ],
)  # fmt: skip
def test_redshift_has_several_names_and_z_alone_is_the_magnitude(columns, found):
    names = locate_columns(columns, (), ("z", "redshift"))
    assert names.get("redshift") == found


def test_the_first_of_columns_that_differ_in_case_counts():
    assert locate_columns(["Plate", "PLATE"], ("plate",)) == {"plate": "Plate"}
    assert locate_columns([" plate "], ("plate",)) == {"plate": " plate "}
    assert locate_columns(["err_G", "psfMagErr_g"], ("err_g",)) == {"err_g": "err_G"}


def test_optional_columns_may_be_absent():
    assert locate_columns(["g"], ("g",), ("err_g", "redshift")) == {"g": "g"}
    assert locate_columns(["g", "psfMagErr_g"], ("g",), ("err_g",))["err_g"] == "psfMagErr_g"


def test_everything_can_be_asked_for():
    columns = [*NAMES]
    assert locate_columns(columns, NAMES) == {name: name for name in NAMES}


def test_what_the_feature_sets_need():
    assert columns_of(FEATURE_SETS["n5"]) == tuple("ugriz")
    assert columns_of(FEATURE_SETS["photometry"]) == tuple("ugriz")
    assert set(columns_of(FEATURE_SETS["n8"])) == {*"ugriz", "petroRad_r", "redshift"}
    assert {name: len(features) for name, features in FEATURE_SETS.items() if name[0] == "n"} == {"n5": 5, "n8": 8}
    assert not any("redshift" in feature for feature in FEATURE_SETS["photometry"])


def test_ten_colours_of_two_bands_each():
    assert len(set(COLOURS)) == 10
    assert all(len(columns_of((colour,))) == 2 for colour in COLOURS)
