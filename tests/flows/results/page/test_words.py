from datetime import UTC, datetime, timedelta

import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from flows.results.page.words import (
    FLAG_WORDS,
    GRADES,
    count,
    duration,
    expected,
    file_name,
    flag_words,
    grade,
    idle_words,
    measured,
    night_words,
    number,
    place_error,
    sexagesimal,
    utc,
)
from schemas.dia_source import DetectionFlag


def test_every_flag_has_words_of_its_own():
    assert set(FLAG_WORDS) == set(DetectionFlag)
    assert len(set(FLAG_WORDS.values())) == len(DetectionFlag)


@given(st.integers(0, 2**31 - 1))
def test_one_word_for_each_bit(flags):
    words = flag_words(flags)
    assert len(words) == flags.bit_count() == len(set(words))


def test_unknown_bits_are_named():
    assert flag_words(8 + 2**30) == ("dipole", "bit 1073741824")


@given(st.floats(0, 1))
def test_grade_is_the_highest_class_reached(reliability):
    reached = [letter for letter, least, _ in GRADES if reliability >= least]
    assert grade(reliability) == reached[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "–"), (float("nan"), "–"), (float("-inf"), "–"), (-3.14159, "−3.14 px"), (12345.678, "12345.68 px")],
)
def test_number(value, words):
    assert number(value, 2, " px" if words != "–" else "") == words


def test_count():
    assert [count(1, "visit"), count(0, "visit"), count(1234567)] == ["1 visit", "0 visits", "1,234,567"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (192, "3 min 12 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(("label", "words"), [("20261103", "3 November 2026"), ("20261399", "20261399")])
def test_night_words(label, words):
    assert night_words(label) == words


def test_utc_knows_leap_seconds():
    # IERS Bulletin C 52: TAI - UTC = 36 s until the end of 2016, 37 s after it.
    assert utc(57754 + 36.0 / 86400) == "2016-12-31 23:59:60"
    assert utc(57754 + 37.0 / 86400) == "2017-01-01 00:00:00"


@given(st.integers(58000 * 86400, 61500 * 86400))
def test_utc_is_37_seconds_behind_since_2017(seconds):
    moment = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(seconds=seconds - 37)
    assert utc(seconds / 86400) == moment.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("reliability", "letter"), [(0.9, "a"), (0.899, "b"), (0.7, "b"), (0.699, "c"), (0.5, "c"), (0.499, "d"), (-1, "d")]
)
def test_grades_begin_with_their_least_reliability(reliability, letter):
    assert grade(reliability) == letter


def test_one_decimal_and_no_unit_unless_asked_for():
    assert (number(2.25), number(2.25, 0), number(2.0, 1, " s")) == ("2.2", "2", "2.0 s")


@pytest.mark.parametrize(
    ("seconds", "words"), [(9.949, "9.9 s"), (9.95, "10 s"), (60, "1 min 00 s"), (3600, "1 h 00 min")]
)
def test_duration_changes_its_unit_at_a_whole_one(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (17.5649, 0.0294, "17.565 ± 0.029"),
        (16.7249, 0.0314, "16.72 ± 0.03"),
        (162.061, 0.26, "162.06 ± 0.26"),
        (6.61, 0.3, "6.6 ± 0.3"),
        (-58.7, 5.2, "−59 ± 5"),
        (1234.0, 140.0, "1234 ± 140"),
        (150.01, 1.2e-7, "150.01000000 ± 0.00000012"),  # deg: 0.4 mas
        (3.2, None, "3.2"),
        (3.2, float("nan"), "3.2"),
        (3.2, 0.0, "3.2"),
        (None, 0.1, "–"),
        (float("inf"), 0.1, "–"),
    ],
)
def test_an_error_says_how_many_digits_count(value, error, words):
    assert measured(value, error) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.12345678, "0.12346"), (-2.5, "−2.5"), (1234567.0, "1.2346e+06"), (float("nan"), "–")]
)
def test_without_digits_and_error_five_of_them_count(value, words):
    assert measured(value, None, None) == measured(value, -1.0, None) == words


@pytest.mark.parametrize(
    ("ra", "dec", "words"),
    [
        (0.0721, 0.1134, "± 0.072″ in RA, ± 0.11″ in Dec"),
        (0.00123, 12.34, "± 0.0012″ in RA, ± 12″ in Dec"),
        (1.0, 345.0, "± 1.0″ in RA, ± 345″ in Dec"),
        (None, 1.0, ""),
        (1.0, 0.0, ""),
        (float("nan"), 1.0, ""),
    ],
)
def test_errors_of_a_place_have_two_digits_in_arcsec(ra, dec, words):
    row = {"raErr": ra and ra / 3600, "decErr": dec and dec / 3600}
    assert place_error(row) == words


@given(st.floats(0, 359.9999), st.floats(-89.9999, 89.9999))
def test_sexagesimal_figures_are_those_of_astropy(ra, dec):
    ours = SkyCoord(*(part.replace(" ", ":") for part in sexagesimal(ra, dec)), unit=("hourangle", "deg"))
    assert ours.separation(SkyCoord(ra, dec, unit="deg")).arcsec < 0.11


def test_figures_carry_over():
    assert sexagesimal(359.99999, -0.00001) == ("00 00 00.00", "-00 00 00.0")
    assert sexagesimal(15 * (1 + 59.99999 / 60), 89 + 59.9999 / 60) == ("02 00 00.00", "+90 00 00.0")


def test_the_name_of_a_file():
    assert [file_name(one) for one in ("file:///a/b.fits", "s3://x/c d.fz", "b", "")] == ["b.fits", "c d.fz", "b", ""]


def test_what_is_absent_is_named_once_without_what_follows_from_it():
    reasons = {
        "find_sources": "no science in the input",
        "gather_objects": "no source: stage find_sources did not run",
        "link_hosts": "no object: stage gather_objects did not run; no source: stage find_sources did not run",
        "subtract": "no science in the input",
        "other": "no dia_source: stage measure did not run",
    }
    assert idle_words(reasons) == (
        "find_sources, subtract: no science in the input", "other: no dia_source: stage measure did not run",
    )  # fmt: skip
    assert idle_words({}) == ()


@pytest.mark.parametrize(
    ("chance", "words"),
    [
        (0.0, "0"),
        (2.3e-6, "2×10⁻⁶"),
        (9.4e-4, "9×10⁻⁴"),
        (9.6e-4, "1×10⁻³"),
        (1e-3, "0.001"),
        (0.0123, "0.01"),
        (1.4, "1"),
    ],
)
def test_a_small_expected_number_is_a_power_of_ten(chance, words):
    assert expected(chance) == words
