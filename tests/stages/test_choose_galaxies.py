import numpy as np
import pytest

from schemas.class_table import CLASSES, STAR_GALAXY, class_columns, class_table
from schemas.dataset import DatasetError
from schemas.objects import OBJECT, SourceFlag
from schemas.settings import ChooseGalaxiesSettings
from schemas.stage import Context
from stages.choose_galaxies import STAGE
from tests.support.filled import filled

SIZES = np.array([4.0, 3.5, 1.0, 9.0])
P_GALAXY = np.array([0.9, 0.6, 0.9, 0.2])
COUNT = len(SIZES)


def objects(**changed):
    columns = {"objectId": 10 + np.arange(COUNT), "ra": 150.0 + np.arange(COUNT), "r_fwhm": 2.0}
    columns |= {"halfLightRadius": np.sqrt((2 * SIZES) ** 2 + 1), **changed}
    return filled(OBJECT.schema, COUNT, **columns)


def classes(share=P_GALAXY):
    probability = np.stack([1 - share, share], 1)
    ids = 10 + np.arange(len(share))
    return class_table(STAR_GALAXY, class_columns(CLASSES, ids, probability, np.zeros(len(share)), "test 1"))


def chosen(table=None, given=None, **settings):
    inputs = {"object": objects() if table is None else table, "star_galaxy": classes() if given is None else given}
    return STAGE(inputs, Context(settings=ChooseGalaxiesSettings(**settings))).rows


def test_resolved_galaxies_are_chosen_with_place_and_size():
    found = chosen()
    assert found["objectId"].to_pylist() == [10, 11]
    assert found["ra"].to_pylist() == [150.0, 151.0]
    assert found["sizeOverPsf"].to_numpy() == pytest.approx([4.0, 3.5])


def test_limits_of_size_and_class_are_settings():
    assert chosen(least_p_galaxy=0.1)["objectId"].to_pylist() == [10, 11, 13]
    assert chosen(least_p_galaxy=0.7)["objectId"].to_pylist() == [10]
    assert chosen(least_size=3.6)["objectId"].to_pylist() == [10]
    assert chosen(least_size=0.5)["objectId"].to_pylist() == [10, 11, 12]


def test_what_has_no_verdict_or_no_size_is_not_chosen():
    assert len(chosen(given=classes(np.full(COUNT, np.nan)))) == 0
    assert len(chosen(objects(refBand="g"))) == 0


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"flags": SourceFlag.BLENDED | SourceFlag.MASKED}, 2),
        ({"flags": SourceFlag.SATURATED}, 0),
        ({"flags": SourceFlag.EDGE}, 0),
        ({"nSources": 1, "r_nExposures": 1}, 2),
        ({"nSources": 2, "r_nExposures": 3}, 2),
        ({"nSources": 1, "r_nExposures": 1, "g_nExposures": 1}, 0),
    ],
)
def test_bleeds_and_what_came_and_went_are_left_out(changed, expected):
    assert len(chosen(objects(**changed))) == expected


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(DatasetError, match="rows of object"):
        chosen(given=classes(P_GALAXY[:3]))
