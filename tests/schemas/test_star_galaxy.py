from schemas.class_table import probability_column
from schemas.star_galaxy import CLASSES, STAR_GALAXY


def test_has_a_probability_for_each_class():
    names = STAR_GALAXY.schema.names
    assert [probability_column(one) for one in CLASSES] == ["pStar", "pGalaxy"]
    assert {"objectId", "classLabel", "pStar", "pGalaxy", "classScore", "outlierScore", "modelVersion"} == set(names)
