import pytest

from flows.inputs.comment_words import gain_unit, head_unit, instants_named, scales_named


@pytest.mark.parametrize(
    ("comment", "unit"),
    [("[s] exposure", "s"), ("  [ e-/ADU ] gain", "e-/ADU"), ("exposure [s]", ""), ("[]", ""), ("", ""), ("[s", "")],
)
def test_a_unit_stands_in_brackets_at_the_head(comment, unit):
    assert head_unit(comment) == unit


@pytest.mark.parametrize("zone", ["HST", "PST", "MDT", "CEST", "JST", "AEST", "NZDT", "CLT", "UTC-7", "GMT+0530"])
def test_zones_are_told_from_the_words_that_contain_them(zone):
    assert "local" in scales_named(f"start ({zone})")
    assert "local" not in scales_named(f"start (x{zone}x)")


@pytest.mark.parametrize(
    ("comment", "scales"),
    [
        ("UTC - start", {"utc"}), ("UT-obs", {"utc"}), ("TAI-UTC = 37", {"tai", "utc"}), ("put off until", set()),
        ("UTC 2026-03", {"utc"}), ("UTC+0", {"utc"}), ("gmt", {"utc"}), ("latt", set()), ("localised", set()),
        ("", set()),
    ],
)  # fmt: skip
def test_scales_are_named_by_whole_words(comment, scales):
    assert scales_named(comment) == scales


def test_capitals_tell_no_other_instant():
    assert instants_named("START OF EXPOSURE") == instants_named("start of exposure") == ["start"]


@pytest.mark.parametrize(
    ("comment", "unit"),
    [
        ("electrons/count", "e-/adu"), ("DN/electron", "adu/e-"), ("e- per adu", "e-/adu"), ("the table/count", ""),
        ("[0.1dB] gain", "other"),
    ],
)  # fmt: skip
def test_gains_are_of_what_their_comments_say(comment, unit):
    assert gain_unit(comment) == unit
