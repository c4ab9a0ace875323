import pytest

from flows.simulation.cutout_survey import DEEP, NIGHT, ZTF


@pytest.mark.parametrize("survey", [DEEP, NIGHT, ZTF], ids=lambda survey: survey.name)
def test_has_one_value_per_band(survey):
    assert len(survey.bands) == len(survey.seeing) == len(survey.depth) == len(survey.sky)
    assert set(survey.bands) <= set("griz")


def test_is_that_of_the_challenge():
    assert (DEEP.bands, DEEP.side) == ("griz", 26)


def test_those_of_nights_are_what_the_stage_is_given():
    assert (NIGHT.bands, NIGHT.side) == (DEEP.bands, DEEP.side)
    assert NIGHT.psf_error > DEEP.psf_error
    assert NIGHT.seeing[2] / NIGHT.scale < DEEP.seeing[2] / DEEP.scale
