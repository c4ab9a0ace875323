from schemas.class_features import COLOURS, FEATURE_SETS, columns_of


def test_what_the_feature_sets_need():
    assert columns_of(FEATURE_SETS["n5"]) == tuple("ugriz")
    assert columns_of(FEATURE_SETS["photometry"]) == tuple("ugriz")
    assert set(columns_of(FEATURE_SETS["n8"])) == {*"ugriz", "petroRad_r", "redshift"}
    assert {name: len(features) for name, features in FEATURE_SETS.items() if name[0] == "n"} == {"n5": 5, "n8": 8}
    assert not any("redshift" in feature for feature in FEATURE_SETS["photometry"])


def test_ten_colours_of_two_bands_each():
    assert len(set(COLOURS)) == 10
    assert all(len(columns_of((colour,))) == 2 for colour in COLOURS)
