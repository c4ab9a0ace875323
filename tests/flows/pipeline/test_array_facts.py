import pytest
from astropy import units as u

from flows.pipeline.array_facts import ArrayFacts, checked_facts
from schemas.errors import BadInput


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"gain": 1.5 * u.m}, "gain: is 1.5 m, must be electrons per adu"),
        ({"gain": 1.5 * u.adu / u.electron}, "gain: is 1.5 adu / electron"),
        ({"gain": -1, "pixel_unit": "adu/s"}, "gain: is -1, must be electrons per adu, more than 0"),
        ({"exposure_time_s": 30 * u.m}, "exposure_time: is 30.0 m, must be seconds"),
        ({"zero_point": 25 * u.STmag}, r"zero_point: is 25.0 mag\(ST\), must be an AB magnitude"),
        ({"zero_point": 25.0, "pixel_unit": "nJy"}, "zero_point: is 25, and the pixels are nJy"),
        ({"saturation": 5e4 * u.electron}, "saturation: is 50000.0 electron, must be in adu"),
        ({"mjd_tai": "yesterday"}, "time: is 'yesterday', must be an astropy Time, or MJD TAI from 40587 to 88069"),
        ({"gain": [1.0, 2.0]}, "gain: is .1.0, 2.0., must be"),
        ({"band": 3}, "band: is 3, must be a text"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_argument(facts, says):
    with pytest.raises(BadInput, match=says) as error:
        checked_facts(ArrayFacts(**facts))
    assert error.value.code == f"bad_{says.partition(':')[0]}"


def test_quantities_are_converted():
    found = checked_facts(
        ArrayFacts(
            zero_point=25 * u.ABmag,
            zero_point_err=0.02 * u.mag,
            gain=1.5 * u.electron / u.adu,
            saturation=5e4 * u.adu,
            mjd_tai=61000.5 * u.d,
            exposure_time_s=0.5 * u.min,
        )
    )
    assert found == ArrayFacts(
        zero_point=25.0,
        zero_point_err=0.02,
        gain=1.5,
        saturation=5e4,
        mjd_tai=61000.5,
        exposure_time_s=30.0,
    )


def test_plain_numbers_stay_what_they_are():
    known = ArrayFacts(zero_point=31.4, gain=2.0, pixel_unit="nJy", band="r")
    assert checked_facts(known) == known
    assert checked_facts(ArrayFacts()) == ArrayFacts()
