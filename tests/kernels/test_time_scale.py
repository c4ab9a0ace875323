import pytest

from kernels.time_scale import tai


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (58334.39133794, "mjd"),
        (2458334.89133794, "jd"),
        ("2018-08-04T09:23:31.598", "isot"),
        ("2018-08-04 09:23:31.598", "isot"),
        ("2018-08-04T09:23:31.598Z", "isot"),
    ],
)
def test_utc_of_2018_is_37_s_behind_tai(value, form):
    assert tai(value, form, "utc").mjd == pytest.approx(58334.39133794 + 37 / 86400, abs=1e-8)


def test_tai_stays_as_it_is():
    assert tai(60000.25, "mjd", "tai").mjd == 60000.25


@pytest.mark.parametrize(
    ("value", "form", "message"),
    [
        ("26/07/102", "isot", "does not match"),
        (float("nan"), "mjd", "not a day number"),
        ("noon", "jd", "could not convert"),
    ],
)
def test_what_is_no_time_is_an_error(value, form, message):
    with pytest.raises(ValueError, match=message):
        tai(value, form, "utc")
