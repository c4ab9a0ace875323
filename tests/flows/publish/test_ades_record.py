from dataclasses import replace

import numpy as np
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from flows.publish.ades_files import obs80_line
from flows.publish.ades_record import AdesObservation, Reduction, ades_observation, trail_of, utc_text
from flows.publish.ades_rules import FORMS
from kernels.orbits.designations import Designation
from schemas.dia_source import DetectionFlag
from schemas.errors import BadInput
from schemas.injection import injection_ids
from tests.support.ades import measured
from tests.support.tracklets import place, source_id

REDUCTION = Reduction("I41", "CCD", "Gaia2", "PS1_DR1", {"g": "Pg", "r": "Pr"}, 2.2)


def row(**changes):
    return {"diaSourceId": source_id(100, 5, 1), "visit": 100, "detector": 5, "trailClass": ""} | (
        place(150.0, 20.0, 0) | measured() | changes
    )


def made(**changes):
    return ades_observation(row(**changes), Designation(), "N000001", REDUCTION)


def test_an_observation_has_what_is_known_of_a_detection():
    assert made().elements() == {
        "trkSub": "N000001", "obsSubID": str(source_id(100, 5, 1)), "mode": "CCD", "stn": "I41",
        "obsTime": "2023-02-25T04:47:23.000Z", "ra": "150.000000", "dec": "+20.000000", "rmsRA": "0.100",
        "rmsDec": "0.100", "rmsCorr": "0.300", "astCat": "Gaia2", "mag": "20.000", "rmsMag": "0.0500", "band": "Pr",
        "photCat": "PS1_DR1", "logSNR": "1.30", "seeing": "2.20", "exp": "30.0",
    }  # fmt: skip


LAST = 57754.0 + 36 / 86400  # MJD TAI of 2016-12-31T23:59:60 UTC, the latest leap second


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (-0.001, "2016-12-31T23:59:59.999Z"), (0.0, "2016-12-31T23:59:60.000Z"), (0.5, "2016-12-31T23:59:60.500Z"),
        (1.0, "2017-01-01T00:00:00.000Z"), (-1.0004, "2016-12-31T23:59:59.000Z"),
    ],
)  # fmt: skip
def test_leap_seconds_are_told(after, text):
    assert utc_text(LAST + after / 86400) == text
    assert FORMS["obsTime"].fault(text) is None


@pytest.mark.filterwarnings("ignore:.*dubious year")
@given(st.floats(50000, 70000))
def test_times_are_those_of_astropy(mjd):
    ours = Time(utc_text(mjd).rstrip("Z"), scale="utc")
    assert abs((ours - Time(mjd, format="mjd", scale="tai")).sec) < 0.0006


@given(
    st.floats(0, 360), st.floats(-90, 90), st.floats(1e-10, 1e-2), st.floats(1e-10, 1e-2), st.floats(-1, 1),
    st.floats(-40, 60), st.floats(1e-6, 100), st.floats(0.01, 1e9), st.floats(1e-4, 1e6),
)  # fmt: skip
def test_every_text_has_the_form_that_ades_wants(ra, dec, ra_err, dec_err, corr, mag, mag_err, snr, seconds):
    one = made(
        ra=ra, dec=dec, raErr=ra_err, decErr=dec_err, ra_dec_Cov=corr * ra_err * dec_err, magAB=mag, magABErr=mag_err,
        snr=snr, exposureTime=seconds,
    )  # fmt: skip
    for name, text in one.elements().items():
        assert FORMS[name].fault(text) is None, (name, text)
    east = (float(one.ra) - ra + 180) % 360 - 180
    assert abs(east) <= max(0.05 * ra_err / max(np.cos(np.radians(dec)), 1e-6), 1e-9)
    assert abs(float(one.dec) - dec) <= max(0.05 * dec_err, 1e-9)
    assert (one.mag == "") == (one.band == "") == (not -5 <= mag <= 35)


@pytest.mark.parametrize("missing", [("raErr",), ("decErr",), ("raErr", "decErr")])
def test_without_an_error_of_the_position_there_are_no_errors_at_all(missing):
    one = made(**dict.fromkeys(missing))
    assert (one.rmsRA, one.rmsDec, one.rmsCorr, one.ra) == ("", "", "", "150.00000")


def test_without_a_covariance_there_are_both_errors():
    one = made(ra_dec_Cov=None)
    assert (one.rmsRA, one.rmsDec, one.rmsCorr) == ("0.100", "0.100", "")


@pytest.mark.parametrize("changes", [{"band": "zz"}, {"magAB": None}, {"magAB": float("nan")}])
def test_there_is_no_magnitude_without_a_band_and_no_band_without_a_magnitude(changes):
    one = made(**changes)
    assert (one.mag, one.rmsMag, one.band, one.photCat) == ("", "", "", "")


def test_trails_and_edges_are_noted():
    one = made(trailLength=12.34, trailLengthErr=0.4, trailAngle=45.0, flags=int(DetectionFlag.EDGE))
    given = ades_observation(row(), Designation(), "N000001", replace(REDUCTION, notes="Z"))
    assert (given.notes, given.remarks) == ("Z", "")
    assert (one.notes, one.remarks) == ("tE", "trail 12.3 arcsec at position angle 45.0 deg")
    assert trail_of(row(trailLength=12.0, trailLengthErr=5.0, trailAngle=45.0)) is None
    assert trail_of(row(trailLength=1.5, trailAngle=45.0)) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"diaSourceId": int(injection_ids(100, 5, 1)[0])}, "synthetic"),
        ({"injectionId": -1}, "synthetic"),
        ({"diaSourceId": None}, "synthetic"),
        ({"diaSourceId": source_id(101, 5, 1)}, "synthetic"),
        ({"trailClass": "satellite"}, "satellite"),
        ({"trailClass": "glint_trail"}, "satellite"),
        ({"flags": int(DetectionFlag.SATELLITE)}, "satellite"),
        ({"flags": int(DetectionFlag.CROSSES_DETECTOR | DetectionFlag.EDGE)}, "satellite"),
        ({"ra": None, "flags": int(DetectionFlag.NO_WCS)}, "no_position"),
        ({"dec": float("nan")}, "no_position"),
        ({"flags": int(DetectionFlag.NO_TIME)}, "no_time"),
        ({"flags": int(DetectionFlag.ASSUMED_TIME)}, "doubtful_time"),
    ],
)
def test_what_is_never_reported_cannot_become_an_observation(changes, code):
    with pytest.raises(BadInput, match="To fix") as raised:
        made(**changes)
    assert raised.value.code == code


def test_a_line_has_80_columns_as_published():
    """Columns of https://minorplanetcenter.net/iau/info/OpticalObs.html, from 1."""
    one = ades_observation(row(dec=-0.5, magAB=19.96), Designation(provisional="2007 TA418"), "N000001", REDUCTION)
    line = obs80_line(one)
    assert len(line) == 80
    columns = {(6, 12): "K07Tf8A", (15, 15): "C", (16, 32): "2023 02 25.199572", (33, 44): "10 00 00.000"}
    columns |= {(45, 56): "-00 30 00.00", (66, 70): "19.96", (71, 71): "r", (78, 80): "I41"}
    assert {where: line[where[0] - 1 : where[1]] for where in columns} == columns
    blank = set(range(1, 81)) - {n for first, last in columns for n in range(first, last + 1)}
    assert {line[n - 1] for n in blank} == {" "}


def line_of(**changes):
    given = dict.fromkeys(AdesObservation.__dataclass_fields__, "") | {
        "trkSub": "N000001", "mode": "CCD", "stn": "I41", "obsTime": "2026-11-03T04:00:00.000Z", "ra": "1", "dec": "1"
    }  # fmt: skip
    return obs80_line(AdesObservation(**given | changes))


@pytest.mark.parametrize(
    ("changes", "columns", "text"),
    [
        ({"permID": "620061"}, (1, 12), "~000z       "), ({"ra": "359.999999999"}, (33, 44), "00 00 00.000"),
        ({"dec": "-89.999999999"}, (45, 56), "-90 00 00.00"), ({"dec": "+9.5"}, (45, 56), "+09 30 00.00"),
        ({"mag": "9.5", "band": "Vj"}, (66, 71), " 9.50V"), ({"notes": "tE"}, (14, 14), "t"),
        ({"obsTime": "2016-12-31T23:59:60.500Z"}, (16, 32), "2016 12 31.999999"),
    ],
)  # fmt: skip
def test_columns_of_a_line(changes, columns, text):
    line = line_of(**changes)
    assert len(line) == 80
    assert line[columns[0] - 1 : columns[1]] == text


@pytest.mark.parametrize(
    "changes", [{"trkSub": "N0000012"}, {"provID": "C/1995 O1"}, {"stn": "W123"}, {"trkSub": "a-b"}]
)
def test_what_80_columns_cannot_hold_is_refused(changes):
    with pytest.raises(BadInput, match="psv or xml"):
        line_of(**changes)


@pytest.mark.parametrize(("ra", "text"), [(359.99999, "359.999990"), (359.9999999, "0.000000"), (360.0, "0.000000")])
def test_a_right_ascension_that_is_rounded_up_to_the_whole_circle_is_0(ra, text):
    assert made(ra=ra).ra == text


@pytest.mark.parametrize(
    ("error", "mag", "spread"),
    [
        (None, "20.00", ""),
        (0.0, "20.00", ""),
        (float("nan"), "20.00", ""),
        (0.2, "20.00", "0.200"),
        (9.0, "20.0", "9.00"),
    ],
)
def test_a_magnitude_has_the_digits_that_its_error_is_worth(error, mag, spread):
    one = made(magABErr=error)
    assert (one.mag, one.rmsMag, one.band) == (mag, spread, "Pr")


@pytest.mark.parametrize(("mag", "told"), [(-5.0, True), (-5.01, False), (35.0, True), (35.01, False)])
def test_magnitudes_that_nothing_has_are_not_told(mag, told):
    assert (made(magAB=mag).mag != "") == told


def test_the_first_detection_of_the_first_exposure_is_one():
    first = made(diaSourceId=source_id(0, 0, 0), visit=0, detector=0)
    assert first.obsSubID == "0"
    with pytest.raises(BadInput, match="as it was taken"):
        made(diaSourceId=-1, visit=-1, detector=511)


@pytest.mark.parametrize("snr", [0.0, -3.0, float("nan")])
def test_without_light_there_is_no_logarithm_of_the_signal(snr):
    assert made(snr=snr).logSNR == ""


@pytest.mark.parametrize("changes", [{"raErr": 0.0}, {"decErr": 0.0}, {"raErr": -1e-5}, {"decErr": float("nan")}])
def test_an_error_of_0_is_not_known(changes):
    one = made(**changes)
    assert (one.rmsRA, one.rmsDec, one.rmsCorr, one.ra) == ("", "", "", "150.00000")


@pytest.mark.parametrize(
    ("length", "error", "angle", "sure"),
    [
        (9.0, 3.0, 45.0, False), (9.01, 3.0, 45.0, True), (2.0, 0.1, 45.0, True), (1.99, 0.1, 45.0, False),
        (9.0, 1.0, None, False), (None, 1.0, 45.0, False), (9.0, None, 45.0, True), (9.0, 1.0, float("nan"), False),
    ],
)  # fmt: skip
def test_a_trail_is_at_least_2_arcsec_and_more_than_3_sigma_long(length, error, angle, sure):
    one = row(trailLength=length, trailLengthErr=error, trailAngle=angle)
    assert trail_of(one) == ((length, angle) if sure else None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.001, "0.001"), (0.00099, ""), (99999.0, "99999"), (99999.1, ""), (None, "")]
)
def test_an_exposure_has_a_time_that_ades_can_hold(seconds, text):
    assert made(exposureTime=seconds).exp == text
    assert not text or FORMS["exp"].fault(text) is None
