"""What makes a tracklet reportable, by itself; nights: test_ades_report.py."""

import pytest

from flows.publish.ades_night import (
    TELESCOPES,
    ReportableNight,
    _named,
    _reduction,
    _require_one_station,
    _sort_out,
    _station,
    require_good,
    trails_agree,
)
from flows.publish.ades_record import Reduction
from kernels.orbits.designations import Designation
from schemas.ades import BANDS, AdesSettings, AdesTelescope
from schemas.dia_source import exposure_of
from schemas.errors import BadInput, Misconfigured
from tests.support.ades import two_movers
from tests.support.alert_night import info_of

MOTION = {"trackletId": 7, "rate": 24.0, "positionAngle": 30.0, "chance": 0.01}  # 1 arcsec / s
TRAIL = {"trailLength": 30.0, "trailLengthErr": 0.1, "trailAngle": 30.0, "trailAngleErr": 0.1, "exposureTime": 30.0}


def rows(*times, **changes):
    return [{"midpointMjdTai": time, **TRAIL, **changes} for time in times]


@pytest.mark.parametrize(
    ("changes", "agree"),
    [
        ({}, True),
        ({"trailAngle": 45.0}, True), ({"trailAngle": 45.1}, False), ({"trailAngle": 15.0}, True),
        ({"trailAngle": 14.9}, False), ({"trailAngle": 225.0}, True), ({"trailAngle": 225.1}, False),
        ({"trailAngle": 120.0}, False), ({"trailAngle": -165.0}, True),
        ({"trailAngle": 51.0, "trailAngleErr": 7.0}, True), ({"trailAngle": 51.1, "trailAngleErr": 7.0}, False),
        ({"trailAngle": 45.0, "trailAngleErr": None}, True), ({"trailAngle": 45.1, "trailAngleErr": None}, False),
        ({"trailLength": 19.5}, True), ({"trailLength": 19.4}, False),  # 35 % of the longer one
        ({"trailLength": 46.1}, True), ({"trailLength": 46.2}, False),
        ({"trailLength": 18.0, "trailLengthErr": 4.0}, True), ({"trailLength": 17.9, "trailLengthErr": 4.0}, False),
        ({"trailLength": 19.5, "trailLengthErr": None}, True), ({"trailLength": 19.4, "trailLengthErr": None}, False),
        ({"exposureTime": None}, False), ({"exposureTime": 0.0}, False), ({"trailAngle": None}, False),
        ({"trailLength": 1.0}, False),
    ],
)  # fmt: skip
def test_a_trail_agrees_with_a_motion_by_15_degrees_and_35_per_cent_or_3_sigma(changes, agree):
    assert trails_agree(MOTION, rows(1.0, **changes)) is agree
    assert trails_agree(MOTION, [*rows(1.0), *rows(2.0, **changes)]) is agree


@pytest.mark.parametrize(
    ("found", "chance", "code"),
    [
        (rows(1.0, 2.0, 3.0, trailLength=0.0), 0.01, None), (rows(1.0, 2.0, 3.0), 0.0101, "by_chance"),
        (rows(1.0, 2.0), 0.01, None), (rows(1.0, 2.0, trailAngle=90.0), 0.01, "too_few"),
        (rows(1.0, 1.0), 0.01, "too_few"), (rows(1.0, 2.0, 2.0), 0.01, "too_few"), (rows(1.0), 0.01, "too_few"),
    ],
)  # fmt: skip
def test_three_times_or_two_trails_that_agree_and_few_by_chance(found, chance, code):
    def judge():
        require_good(MOTION | {"chance": chance}, found, 0.01)

    if code is None:
        judge()
    else:
        with pytest.raises(BadInput) as caught:
            judge()
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("designation", "chance", "count", "reason"),
    [
        ("", 0.01, 3, None), ("", 0.5, 3, "by_chance"), ("", 0.01, 1, "too_few"),
        ("(433) Eros", 0.5, 3, None), ("(433) Eros", 0.5, 1, None),
    ],
)  # fmt: skip
def test_how_good_a_tracklet_is_counts_unless_its_object_is_known(designation, chance, count, reason):
    every, ids = two_movers()
    own = [row for row in every if row["diaSourceId"] in ids[0]][:count]
    places = [dict(zip(("visit", "detector"), exposure_of(row["diaSourceId"]), strict=True)) for row in own]
    some = [{"trailClass": ""} | row | place for row, place in zip(own, places, strict=True)]
    stations = {(row["visit"], row["detector"]): Reduction("I41", "CCD", "Gaia2", None, {"r": "Pr"}) for row in some}
    found, motion = ReportableNight("I41"), MOTION | {"designation": designation, "chance": chance}
    _sort_out(found, motion, some, {}, stations, AdesSettings(max_chance=0.1))
    assert dict(found.left_out) == ({} if reason is None else {reason: 1})
    assert [len(one.observations) for one in found.tracklets] == ([count] if reason is None else [])


def test_a_tracklet_is_of_one_object_with_a_name_of_its_own():
    both = [{"diaSourceId": 1}, {"diaSourceId": 2}]
    assert _named({"designation": "", "trackletId": 7}, both, {}) == Designation()
    assert _named({"designation": None, "trackletId": 7}, both, {3: "(433) Eros"}) == Designation()
    named = {"designation": "(433) Eros", "trackletId": 7}
    assert _named(named, both, {1: "(433) Eros"}).permanent == "433"
    assert _named({"designation": "a comet?", "trackletId": 7}, both, {1: "a comet?"}) is None
    for motion, known in ((named, {1: "2026 AA"}), ({"designation": "", "trackletId": 7}, {2: "2026 AA"})):
        with pytest.raises(BadInput, match="2026 AA") as caught:
            _named(motion, both, known)
        assert caught.value.code == "two_objects"


def test_a_tracklet_is_of_the_station_of_the_report():
    found = [{"diaSourceId": n, "visit": n, "detector": 0} for n in (1, 2)]

    def require(one, other, station):
        stations = {(n, 0): Reduction(stn, "CCD", "Gaia2", None, {}) for n, stn in ((1, one), (2, other))}
        _require_one_station(found, stations, station)

    require("I41", "I41", "I41")
    for one, other, station, code in (("I41", "W84", "I41", "two_stations"), ("W84", "W84", "I41", "other_station")):
        with pytest.raises(BadInput) as caught:
            require(one, other, station)
        assert caught.value.code == code
    _require_one_station([], {}, "I41")


def exposures(*instruments):
    return {n: info_of(n).model_copy(update={"instrument": name}) for n, name in enumerate(instruments)}


def test_the_station_is_that_of_the_settings_else_of_the_instruments():
    assert _station(AdesSettings(mpc_code="X99"), exposures("ZTF/MOSAIC", "DECam")) == "X99"
    assert _station(AdesSettings(), exposures("ZTF/MOSAIC", "own", "ZTF/MOSAIC")) == "I41"
    assert _station(AdesSettings(), exposures("own")) == _station(AdesSettings(), {}) == ""
    with pytest.raises(Misconfigured) as caught:
        _station(AdesSettings(), exposures("ZTF/MOSAIC", "DECam"))
    assert caught.value.code == "two_stations"


def test_an_exposure_tells_its_station_and_the_width_of_a_star():
    settings = AdesSettings(ast_cat="Gaia3", bands={"q": "Pw"}, notes="K")
    (own, decam) = exposures("own", "DECam").values()
    found = _reduction(settings, "I41", own)
    assert (found.stn, found.mode, found.ast_cat, found.phot_cat) == ("I41", "CCD", "Gaia3", "PS1_DR1")
    assert (found.bands["r"], found.bands["q"], found.notes) == ("Pr", "Pw", "K")
    assert found.seeing == pytest.approx(own.psf.fwhm_px)  # pixels of 1 arcsec
    assert _reduction(settings, "I41", decam).stn == "W84"
    none = _reduction(AdesSettings(phot_cat="PS1_DR2", telescope=AdesTelescope(detector="sCMOS")), "Z99", None)
    assert (none.stn, none.mode, none.phot_cat, none.seeing) == ("Z99", "CMO", "PS1_DR2", None)
    assert none.bands["V"] == "V"
    assert set(none.bands) <= set(BANDS)
    for changes in ({"wcs_header": None}, {"psf": own.psf.model_copy(update={"source": "assumed"})}):
        assert _reduction(settings, "I41", own.model_copy(update=changes)).seeing is None
    assert TELESCOPES["I41"].aperture == 1.22
