import pytest

from schemas.archive_columns import BANDS, NAMES, locate
from schemas.errors import BadInput


@pytest.mark.parametrize("family", ["{}", "modelMag_{}", "cModelMag_{}", "psfMag_{}", "petroMag_{}", "dered_{}"])
def test_names_of_the_archive(family):
    columns = [family.format(band) for band in BANDS] + ["class"]
    assert locate(columns, (*BANDS, "class")) == dict(zip((*BANDS, "class"), columns, strict=True))


def test_magnitudes_are_of_one_kind():
    columns = ["u", "g", "r", "i", *(f"psfMag_{band}" for band in BANDS)]
    assert locate(columns, BANDS) == {band: f"psfMag_{band}" for band in BANDS}


def test_z_of_the_spectrum_is_no_magnitude():
    columns = [*(f"psfMag_{band}" for band in BANDS), "z", "class"]
    assert locate(columns, (*BANDS, "redshift"))["redshift"] == "z"
    assert locate([*BANDS, "z1"], (*BANDS, "redshift"))["redshift"] == "z1"
    with pytest.raises(BadInput, match="redshift"):
        locate(BANDS, (*BANDS, "redshift"))


def test_case_is_ignored_where_no_name_fits_exactly():
    assert locate(["U", "G", "R", "I", "Z", "CLASS"], (*BANDS, "class"))["z"] == "Z"
    assert locate(["subclass", "subClass"], ("subClass",)) == {"subClass": "subClass"}


def test_names_all_that_is_missing():
    with pytest.raises(BadInput, match=r"columns \['u', 'petroRad_r'\].*it has \['g'\]") as error:
        locate(["g"], ("g", "u", "petroRad_r"))
    assert error.value.code == "missing_columns"


def test_optional_columns_may_be_absent():
    assert locate(["g"], ("g",), ("err_g", "redshift")) == {"g": "g"}
    assert locate(["g", "psfMagErr_g"], ("g",), ("err_g",))["err_g"] == "psfMagErr_g"


def test_everything_can_be_asked_for():
    columns = [*NAMES]
    assert locate(columns, NAMES) == {name: name for name in NAMES}
