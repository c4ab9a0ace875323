import pytest

from flows.simulation.cutout_survey import DEEP, ZTF


@pytest.mark.parametrize("survey", [DEEP, ZTF], ids=lambda survey: survey.name)
def test_has_one_value_per_band(survey):
    assert len(survey.bands) == len(survey.seeing) == len(survey.depth) == len(survey.sky)
    assert set(survey.bands) <= set("griz")


def test_is_that_of_the_challenge():
    assert (DEEP.bands, DEEP.side) == ("griz", 26)
