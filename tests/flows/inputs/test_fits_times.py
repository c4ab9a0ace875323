import pytest
from astropy.io import fits
from astropy.time import Time

from flows.inputs.fits_generic import GENERIC
from flows.inputs.fits_ztf import ZTF
from schemas.errors import BadInput, Misconfigured
from schemas.keyword_mapping import KeywordMapping

CARDS = {"NAXIS": 2, "EXPTIME": 60.0, "FILTER": "r", "SITELONG": -155.5}
START = "2026-03-02T06:36:00"
MIDDLE = Time("2026-03-02T06:36:30", scale="utc")


def identity(mapping=None, **cards):
    header = fits.Header()
    for key, value in {**CARDS, **cards}.items():
        header[key.replace("_", "-")] = value
    return GENERIC.identity((header,), "x.fits", KeywordMapping(**(mapping or {})))


def commented(comments, mapping=None, **cards):
    header = fits.Header(CARDS)
    for key, value in cards.items():
        header[key.replace("_", "-")] = (value, comments.get(key))
    return GENERIC.identity((header,), "x.fits", KeywordMapping(**(mapping or {})))


def seconds_off(found):
    return (found.midpoint_mjd_tai - MIDDLE.tai.mjd) * 86400


def flags(found):
    return sorted(origin.flag for origin in found.origins if origin.flag)


def refused(code, mapping=None, **cards):
    with pytest.raises(BadInput) as caught:
        identity(mapping, **cards)
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize(
    "cards",
    [
        {"DATE_OBS": START},
        {"DATE_OBS": START + "Z"},
        {"DATE_OBS": "2026-03-02", "TIME_OBS": "06:36:00"},
        {"DATE_OBS": "2026-03-02", "TIME_OBS": "6 36 00.000"},
        {"DATE_OBS": "2026-03-02", "UT": "06:36:00.0"},
        {"DATE_OBS": "2026-03-02", "UTSTART": "2026-03-02T06:36:00"},
        {"DATE_OBS": "2026-03-02", "MJD_OBS": 61101.275},
        {"DATE_OBS": "2026-03-02", "TIME_OBS": "06:36:00", "MJD_OBS": 61101.275},
        {"MJD_OBS": 61101.275},
        {"DATE_BEG": START},
        {"DATE_AVG": "2026-03-02T06:36:30"},
        {"DATE_OBS": START, "DATE_AVG": "2026-03-02T06:36:30", "UT": "06:36:00"},
    ],
)
def test_the_time_is_exact_however_it_is_written(cards):
    found = identity(**cards)
    assert seconds_off(found) == pytest.approx(0, abs=1e-4)
    assert flags(found) == []


@pytest.mark.parametrize(
    ("system", "ahead"),
    [("UTC", 0), ("UT", 0), ("TAI", 37), ("IAT", 37), ("TT", 69.184), ("TT(TAI)", 69.184), ("GPS", 18), ("tai ", 37)],
)
@pytest.mark.parametrize("form", ["isot", "mjd"])
def test_time_systems_are_honoured(system, ahead, form):
    start = Time(START, scale="utc").mjd + ahead / 86400
    card = {"MJD_OBS": start} if form == "mjd" else {"DATE_OBS": Time(start, format="mjd", precision=6).isot}
    assert seconds_off(identity(TIMESYS=system, **card)) == pytest.approx(0, abs=1e-3)


def test_barycentric_time_is_that_of_the_earth_but_for_milliseconds():
    assert seconds_off(identity(DATE_OBS=Time(START, scale="utc").tdb.isot, TIMESYS="TDB")) == pytest.approx(
        0, abs=3e-3
    )


def test_an_unknown_time_system_is_refused_and_settings_go_before_it():
    error = refused("unknown_time_scale", DATE_OBS=START, TIMESYS="LOCAL")
    assert "fits.time.scale" in error.remedy
    assert seconds_off(
        identity({"time": {"keyword": "DATE-OBS", "scale": "utc"}}, DATE_OBS=START, TIMESYS="LOCAL")
    ) == (pytest.approx(0, abs=1e-4))


def test_a_date_without_a_time_is_refused_with_the_question():
    error = refused("missing_time", DATE_OBS="2026-03-02")
    assert "fits.time.clock" in error.remedy
    refused("missing_time", DATE_OBS="2026-03-02", UT=23760.0)
    named = {"time": {"keyword": "DATE-OBS", "clock": "BEGIN"}}
    assert seconds_off(identity(named, DATE_OBS="2026-03-02", BEGIN="06:36:00")) == pytest.approx(0, abs=1e-4)
    assert "BEGIN" in refused("missing_time", named, DATE_OBS="2026-03-02", UT="06:36:00").problem


@pytest.mark.parametrize(
    "cards",
    [
        {"DATE_OBS": START, "MJD_OBS": 61101.0},
        {"DATE_OBS": START, "TIME_OBS": "12:36:00"},
        {"DATE_OBS": "2026-03-01", "TIME_OBS": "06:36:00", "MJD_OBS": 61101.275},
    ],
)
def test_keywords_that_contradict_each_other_are_refused(cards):
    assert "[fits.time]" in refused("contradicting_times", **cards).remedy
    found = identity({"time": {"keyword": "DATE-OBS", "contradictions": "ignore"}}, **cards)
    assert abs(seconds_off(found)) < 86401


@pytest.mark.parametrize("off", [37.0, 30.0, -45.0])
def test_small_contradictions_are_flagged(off):
    found = identity(DATE_OBS=START, MJD_OBS=61101.275 + off / 86400)
    assert seconds_off(found) == pytest.approx(0, abs=1e-4)
    assert flags(found) == ["ambiguous_time"]
    assert "MJD-OBS" in found.origins[0].note


@pytest.mark.parametrize(
    ("cards", "off"),
    [
        ({"UTMIDDLE": "06:36:30.5", "UT_END": "06:37:00"}, None), ({"UTMIDDLE": "06:36:00"}, "UTMIDDLE"),
        ({"UTEND": "2026-03-02T06:36:30"}, "UTEND"), ({"TIME_END": "06:37:12"}, "TIME-END"), ({"UTCEND": 6.6}, None),
    ],
)  # fmt: skip
def test_clocks_of_the_middle_and_the_end_are_compared(cards, off):
    found = identity(DATE_OBS=START, **cards)
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), ["ambiguous_time"] if off else [])
    assert not off or f"{off} ({cards[off.replace('-', '_')]}) differs from DATE-OBS" in found.origins[0].note


def test_mjd_obs_is_of_the_same_moment_as_date_obs():
    cards = {"DATE_OBS": "2026-03-02T06:36:30", "MJD_OBS": 61101.275 + 30 / 86400, "UT": "06:36:30"}
    found = identity({"time": {"keyword": "DATE-OBS", "at": "middle"}}, **cards)
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), [])


def test_clocks_beside_midnight_are_compared_on_the_circle():
    found = identity({"longitude_deg": 0.0}, DATE_OBS="2026-03-02T23:59:59.8", UT="00:00:00.1")
    assert flags(found) == []


def test_another_keyword_of_the_settings_is_not_doubted():
    found = identity(
        {"time": {"keyword": "MJD-OBS", "format": "mjd"}}, DATE_OBS="2020-01-01T00:00:00", MJD_OBS=61101.275
    )
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), [])


def test_ztf_honours_it_too():
    cards = {"NAXIS": 2, "OBSMJD": 61101.275, "EXPTIME": 60.0, "EXPID": 1, "RCID": 1, "FILTERID": 1}
    plain, tai = (
        ZTF.identity((fits.Header({**cards, **more}),), "x", KeywordMapping()) for more in ({}, {"TIMESYS": "TAI"})
    )
    assert (plain.midpoint_mjd_tai - tai.midpoint_mjd_tai) * 86400 == pytest.approx(37, abs=1e-3)


@pytest.mark.parametrize(
    ("comment", "seconds"),
    [
        ("UTC start of exposure", 0), ("Observation started (UTC)", 0), ("Beginning of integration", 0),
        ("UTC at shutter open", 0), ("", 0), ("UTC date of observation", 0), ("seconds since midnight", 0),
        ("UTC date at the end of the night", 0), ("set by the front-end computer", 0), ("Minor Planet Center", 0),
        ("UTC middle of exposure", -30), ("UTC mid-exposure", -30), ("Midpoint of the observation", -30),
        ("mid time, UTC", -30), ("centre of integration", -30), ("Exposure center", -30), ("UTC at half exposure", -30),
        ("mean epoch of the observation", -30), ("average time, UTC", -30), ("Greenwich mean time", 0),
        ("UTC at readout", -60), ("exposure stop time", -60), ("when the exposure was completed", -60),
        ("UTC end of exposure", -60), ("Time when the exposure ended", -60), ("shutter closed", -60),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "cards", [{"DATE_OBS": START}, {"DATE_OBS": "2026-03-02", "TIME_OBS": "06:36:00"}, {"MJD_OBS": 61101.275}]
)
def test_the_comment_tells_start_middle_or_end(comment, seconds, cards):
    """FITS standard 4.0, 4.4.2.2: the start, unless another interpretation is explained in the comment."""
    found = commented(dict.fromkeys(cards, comment), **cards)
    assert (seconds_off(found), flags(found)) == (pytest.approx(seconds, abs=1e-4), [])
    sure = {0: "the start", -30: "the middle by the comment", -60: "the end by the comment"}[seconds]
    assert sure in found.origins[0].note


def test_settings_go_before_a_comment():
    given = {"time": {"keyword": "DATE-OBS", "at": "start"}}
    found = commented({"DATE_OBS": "middle of exposure"}, given, DATE_OBS=START)
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), [])
    assert "the start by the settings" in found.origins[0].note


def test_a_comment_that_names_two_instants_is_a_doubt():
    found = commented({"DATE_OBS": "start or middle of exposure"}, DATE_OBS=START)
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), ["ambiguous_time"])
    assert "'start or middle of exposure'; give fits.time.at" in found.origins[0].note


def test_each_keyword_is_of_the_instant_that_its_own_comment_names():
    middle = {"DATE_OBS": START, "MJD_OBS": 61101.275 + 30 / 86400, "UT": "06:36:30"}
    found = commented({"DATE_OBS": "start", "MJD_OBS": "mid-exposure", "UT": "mid-exposure"}, **middle)
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), [])
    found = commented({"MJD_OBS": "mid-exposure"}, DATE_OBS=START, MJD_OBS=61101.275)
    assert flags(found) == ["ambiguous_time"]


@pytest.mark.parametrize(
    ("comment", "ahead"),
    [
        ("TAI time of start", 37), ("Start, International Atomic Time", 37), ("[TAI] start", 37),
        ("start (TT)", 69.184),
        ("Terrestrial Time", 69.184), ("UTC start", 0), ("Universal Time, not local time", 0),
        ("UTC at local night", 0),
        ("start of local observations", 0), ("set by the tt driver", 0),
    ],
)  # fmt: skip
def test_the_comment_tells_the_time_scale(comment, ahead):
    start = Time(Time(START, scale="utc").mjd + ahead / 86400, format="mjd", precision=6).isot
    for cards in ({"DATE_OBS": start}, {"DATE_OBS": start[:10], "UT": start[11:]}):
        found = commented(dict.fromkeys(cards, comment), **cards)
        assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-3), [])


@pytest.mark.parametrize(
    "comment",
    [
        "local time (HST)",
        "Local start of exposure",
        "HST",
        "start, CEST",
        "UTC-10",
        "UTC+8 start",
        "sidereal time",
        "LT",
    ],
)
@pytest.mark.parametrize("cards", [{"DATE_OBS": START}, {"DATE_OBS": "2026-03-02", "UT": "06:36:00"}])
def test_the_time_of_a_zone_is_refused_with_the_question(comment, cards):
    for keyword in cards:
        with pytest.raises(BadInput, match="names the time of a zone") as caught:
            commented({keyword: comment}, **cards)
        assert caught.value.code == "unknown_time_scale"
        assert "fits.time.scale" in caught.value.remedy
    sure = {"time": {"keyword": "DATE-OBS", "scale": "utc"}}
    assert seconds_off(commented(dict.fromkeys(cards, comment), sure, **cards)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("comment", ["heliocentric MJD of the start", "BJD_TDB - 2400000.5", "UTC, barycentric"])
def test_a_time_as_seen_from_the_sun_is_refused(comment):
    with pytest.raises(BadInput, match="as seen from the Sun") as caught:
        commented({"MJD_OBS": comment}, MJD_OBS=61101.275)
    assert caught.value.code == "unknown_time_scale"
    assert flags(commented({"MJD_OBS": "UTC, not heliocentric"}, MJD_OBS=61101.275)) == []
    assert flags(commented({"MJD_OBS": "TDB, Barycentric Dynamical Time"}, MJD_OBS=61101.275)) == []


@pytest.mark.parametrize(
    ("cards", "right"),
    [
        ({"JD": 2461101.775}, True), ({"JD": 2461101.790}, True), ({"JD": 2461101}, True), ({"JD": "unknown"}, True),
        ({"JD": 2461101.7}, True), ({"JD": 1101.775}, True), ({"MJD": 61101.275}, True), ({"MJD": 2461101.775}, True),
        ({"JD": 2461102.775}, False), ({"MJD_MID": 61101.692}, False), ({"JD": 2461100}, False),
    ],
)  # fmt: skip
def test_day_numbers_are_compared_as_far_as_their_decimals_tell(cards, right):
    """A date of the evening, or in local time, is a day or some hours off."""
    if right:
        assert flags(commented({}, DATE_OBS=START, **cards)) == []
        return
    with pytest.raises(BadInput, match=f"{next(iter(cards)).replace('_', '-')} .* differs from DATE-OBS") as caught:
        commented({}, DATE_OBS=START, **cards)
    assert caught.value.code == "contradicting_times"


def test_a_zone_is_refused_whatever_timesys_says_and_left_out_of_comparisons():
    with pytest.raises(BadInput, match="zone"):
        commented({"DATE_OBS": "local time"}, DATE_OBS=START, TIMESYS="UTC")
    found = commented({"TIME_OBS": "local time"}, DATE_OBS=START, TIME_OBS="20:36:00")
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), [])


@pytest.mark.parametrize(
    ("comment", "system", "doubt"),
    [
        ("TAI start", "UTC", True), ("UTC start", "UTC", False), ("UTC = TAI - 37 s", "UTC", False),
        ("TAI or UTC", None, True), ("UTC (local time + 10 h)", None, True), ("start, by GPS", None, True),
        ("start, by GPS", "UTC", False),
    ],
)  # fmt: skip
def test_contradicting_scales_are_flagged(comment, system, doubt):
    found = commented({"DATE_OBS": comment}, DATE_OBS=START, **({"TIMESYS": system} if system else {}))
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), ["ambiguous_time"] if doubt else [])
    assert (comment in found.origins[0].note) is doubt


def test_scales_of_each_keyword_are_compared_by_their_own_comments():
    cards = {"DATE_OBS": START, "MJD_OBS": Time(START, scale="utc").tai.mjd}
    found = commented({"DATE_OBS": "UTC", "MJD_OBS": "TAI"}, **cards)
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), [])


@pytest.mark.parametrize(
    ("cards", "flag"),
    [
        ({"DATE_END": "2026-03-02T06:37:00"}, []),
        ({"MJD_END": 61101.275 + 60 / 86400}, []),
        ({"DATE_END": "2026-03-02T06:37:40"}, ["ambiguous_time"]),
        ({"DATE_END": "2026-03-02T06:36:00"}, ["ambiguous_time"]),
        ({"TIME": "06:36:00"}, []),
        ({"TIME": "06:36:30"}, ["ambiguous_time"]),
    ],
)
@pytest.mark.parametrize("start", [{"DATE_OBS": START}, {"DATE_OBS": "2026-03-02", "TIME_OBS": "06:36:00"}])
def test_the_end_and_the_time_of_day_are_compared(start, cards, flag):
    found = identity(**start, **cards)
    assert (seconds_off(found), flags(found)) == (pytest.approx(0, abs=1e-4), flag)


@pytest.mark.parametrize("cards", [{"DATE_END": "2026-03-02T10:37:00"}, {"MJD_END": 61101.4}, {"TIME": "20:36:00"}])
def test_an_end_or_a_time_of_day_hours_away_is_refused(cards):
    refused("contradicting_times", DATE_OBS=START, **cards)
    refused("contradicting_times", DATE_OBS="2026-03-02", TIME_OBS="06:36:00", **cards)


@pytest.mark.parametrize("value", [0.0, 2461101.775])
def test_a_keyword_that_cannot_be_read_is_named_with_its_rule(value):
    error = refused("invalid_keyword", MJD_OBS=value)
    assert error.problem.startswith(f"MJD-OBS is {value}, must be a day number (MJD) in UTC, between 1970 and 2100")
    assert "[fits.time]" in error.remedy
    assert "format" not in refused("invalid_keyword", DATE_OBS="05/11/24").remedy
    assert "DATE-BEG is '2026-03-02'" in refused("missing_time", DATE_BEG="2026-03-02").problem


def test_what_nobody_says_is_told_and_is_no_doubt():
    note = identity(DATE_OBS=START).origins[0].note
    assert note == "taken as the start; in UTC, without TIMESYS"
    assert identity(DATE_AVG=START, TIMESYS="TAI").origins[0].note == "the middle; in TAI by TIMESYS"


def in_two_headers(own, primary, mapping=None):
    headers = [fits.Header({key.replace("_", "-"): one for key, one in cards.items()}) for cards in (primary, own)]
    headers[1] = fits.Header({**CARDS, "XTENSION": "IMAGE", **headers[1]})
    return GENERIC.identity(tuple(headers), "x.fits", KeywordMapping(**(mapping or {})))


@pytest.mark.parametrize(
    ("own", "primary"),
    [
        ({"DATE_OBS": START}, {"DATE_OBS": START}),
        ({"DATE_OBS": START}, {}),
        ({"DATE_OBS": START, "TIMESYS": "UTC"}, {"TIMESYS": "TAI"}),
        ({}, {"DATE_OBS": START}),
        ({"DATE_OBS": START}, {"DATE_OBS": "2026-03-02T06:36:00.9"}),
        ({"DATE_OBS": START}, {"DATE_OBS": "2026-03-02"}),
        ({"DATE_OBS": "2026-03-02", "UT": "06:36:00"}, {"DATE_OBS": START}),
        ({"DATE_OBS": "2026-03-02T06:37:09.184", "TIMESYS": "TT"}, {"DATE_OBS": "2026-03-02T06:37:09.184"}),
    ],
)
def test_two_headers_that_agree_have_no_flag(own, primary):
    found = in_two_headers(own, primary)
    assert (flags(found), seconds_off(found)) == ([], pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize("primary", [{"DATE_OBS": "2026-03-02T06:36:05"}, {"DATE_OBS": "2026-03-02", "UT": "06:36:05"}])
def test_the_image_goes_before_the_primary_header_and_a_difference_is_told(primary):
    found = in_two_headers({"DATE_OBS": START}, primary)
    assert (flags(found), seconds_off(found)) == (["ambiguous_time"], pytest.approx(0, abs=1e-3))
    (note,) = [one.note for one in found.origins if one.quantity == "time"]
    assert "differs from DATE-OBS by +5.0 s" in note


def test_an_hour_between_two_headers_is_refused_unless_the_settings_are_sure():
    own, primary = {"DATE_OBS": START}, {"DATE_OBS": "2026-03-02T07:36:00"}
    with pytest.raises(BadInput, match=r"DATE-OBS of the primary header \(2026-03-02T07:36:00\) differs") as caught:
        in_two_headers(own, primary)
    assert caught.value.code == "contradicting_times"
    sure = in_two_headers(own, primary, {"time": {"contradictions": "ignore"}})
    assert (flags(sure), seconds_off(sure)) == ([], pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize(("mapping", "value"), [({}, 4.0), ({"time": {"clock": "UT"}}, "4 hours")])
def test_a_clock_that_cannot_be_read_is_told(mapping, value):
    error = refused("missing_time", mapping, DATE_OBS="2026-03-02", UT=value)
    assert f"holds one (hh:mm:ss): UT is {value!r}." in error.problem
    assert "another keyword of the time of day" in error.remedy


def test_a_keyword_of_the_settings_may_hold_an_instant_in_words():
    found = identity({"time": {"keyword": "BEGUN", "at": "start"}}, BEGUN="2026-03-02T06:36:00", EXPTIME=60.0)
    usual = identity(DATE_OBS="2026-03-02T06:36:00", EXPTIME=60.0)
    assert found.midpoint_mjd_tai == usual.midpoint_mjd_tai


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"value": START}, 0), ({"value": START, "at": "middle"}, -30), ({"value": START, "at": "end"}, -60),
        ({"value": START, "scale": "tai"}, -37), ({"value": 61101.275, "format": "mjd"}, 0),
        ({"value": 2461101.775, "format": "jd"}, 0),
    ],
)  # fmt: skip
def test_a_time_of_the_settings_is_that_of_each_file(given, seconds):
    for cards in ({}, {"DATE_OBS": "2020-01-01T00:00:00"}):
        found = identity({"time": given}, **cards)
        assert seconds_off(found) == pytest.approx(seconds, abs=1e-4)
        assert (found.origins[0].note, flags(found)) == ("of the settings", [])


def test_settings_without_keyword_and_time_are_refused():
    with pytest.raises(Misconfigured, match=r"fits\.time"):
        identity({"time": {"keyword": None}}, DATE_OBS=START)


@pytest.mark.parametrize(
    ("clock", "there"),
    [
        ("23:59:59.999", True), ("00:00:00", True), ("24:00:00", False), ("12:59:00", True), ("12:60:00", False),
        ("12:00:60", False), ("12:00:60.0", False), ("6:36:0", True), ("6:36", False), ("-06:36:00", False),
    ],
)  # fmt: skip
def test_a_time_of_day_is_within_a_day(clock, there):
    cards = {"DATE_OBS": "2026-03-02", "UT": clock}
    if there:
        hours, minutes, seconds = map(float, clock.split(":"))
        day = Time("2026-03-02", scale="utc").tai.mjd + 30 / 86400
        assert (identity(**cards).midpoint_mjd_tai - day) * 24 == pytest.approx(
            hours + minutes / 60 + seconds / 3600, abs=1e-6
        )
    else:
        refused("missing_time", **cards)
