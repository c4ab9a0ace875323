from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from schemas.classes import (
    GALAXY_CLASSES,
    STELLAR_CLASSES,
    SUPERCLASSES,
    galaxy_class,
    map_labels,
    stellar_class,
    superclass,
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("STAR", "star"), ("GALAXY", "galaxy"), ("QSO", "quasar"), ("Quasar", "quasar"), (" star ", "star")],
)
def test_names(raw, expected):
    assert superclass(raw) == expected
    assert expected in SUPERCLASSES


@pytest.mark.parametrize("raw", ["", "UNKNOWN", "STARBURST", "6"])
def test_others_are_none(raw):
    assert superclass(raw) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        *((f"{letter}{digit}", letter) for letter in "OBAFGKM" for digit in (0, 5, 9)),
        ("O", "O"), ("OB", "O"), ("O8e (14947)", "O"),
        ("B9.5V", "B"), ("B6", "B"), ("B8/B9III", "B"),
        ("A0p", "A"), ("Am (78209)", "A"), ("A0 (116608)", "A"), ("A1m", "A"),
        ("F5V (30743)", "F"), ("F3/F5V", "F"), ("F8Ibvar (45412)", "F"), ("sdF3 (140283)", "F"),
        ("G8/K0III", "G"), ("G0Va (143761)", "G"), ("G:", "G"),
        ("K2/K3III", "K"), ("K1IV (165438)", "K"), ("dK5", "K"), ("K5/M0V", "K"),
        ("M", "M"), ("M3V", "M"), ("sdM1", "M"), ("esdM5", "M"), ("usdM0", "M"), ("M6e", "M"), ("M8III:e", "M"),
        ("WD", "D"), ("WDhotter", "D"), ("WDcooler", "D"), ("WDmagnetic", "D"), ("CarbonWD", "D"), ("CalciumWD", "D"),
        ("DA", "D"), ("DB3", "D"), ("DQ", "D"),
        ("Carbon", "C"), ("Carbon_lines", "C"), ("C", "C"), ("C-N5", "C"), ("C5,4", "C"), ("N0", "C"), ("R5", "C"),
        ("L0", "d"), ("L5.5 (0835-0819)", "d"), ("L", "d"), ("Ldwarf", "d"), ("T2", "d"), ("Y0V", "d"),
    ],
)  # fmt: skip
def test_every_rule(raw, expected):
    assert stellar_class(raw) == expected
    assert stellar_class(f" {raw} ") == expected


@pytest.mark.parametrize(
    "raw",
    ["", "CV", "AGN", "AGN BROADLINE", "BROADLINE", "STARBURST", "STARFORMING", "WN5", "WC8", "Tau", "nan", "null"],
)
def test_what_is_no_star_of_the_ten(raw):
    assert stellar_class(raw) is None


def test_ten_classes():
    assert len(STELLAR_CLASSES) == len(set(STELLAR_CLASSES)) == 10


FEATURES = ("", "(o)", "(m)", "(d)", "(r)", "(i)", "(l)", "(u)")


@pytest.mark.parametrize(("raw", "expected"), [("Er", "Er"), ("Ei", "Ee"), ("Ec", "Ec")])
def test_ellipticals(raw, expected):
    assert {galaxy_class(raw + feature) for feature in FEATURES} == {expected}


@pytest.mark.parametrize("raw", ["Ser", "Seb", "Sen"])
def test_edge_on_spirals(raw):
    assert {galaxy_class(raw + feature) for feature in FEATURES} == {raw}


@pytest.mark.parametrize(("bar", "bulge"), list(product(("", "B"), "abcd")))
def test_spirals_whatever_their_arms(bar, bulge):
    arms = [f"{count}{winding}" for count, winding in product(("", *"1234+?"), ("", *"tml"))]
    found = {galaxy_class(f"S{bar}{bulge}{arm}{feature}") for arm, feature in product(arms, FEATURES)}
    assert found == {f"S{bar}{bulge}"}


@pytest.mark.parametrize("raw", ["SBc2m", "SBc?t(u)", "SBc+l", " SBc "])
def test_examples(raw):
    assert galaxy_class(raw) == "SBc"


@pytest.mark.parametrize("raw", ["", "A", "E", "Ee", "S", "SB", "Se", "Sx", "SBe", "Sc22", "Sc2mm", "Er2", "irregular"])
def test_what_is_none(raw):
    assert galaxy_class(raw) is None


def test_all_fourteen_come_out():
    raw = ["Er", "Ei", "Ec", *(f"S{bar}{bulge}" for bar in ("", "B") for bulge in "abcd"), "Ser", "Seb", "Sen"]
    assert tuple(map(galaxy_class, raw)) == GALAXY_CLASSES
    assert len(GALAXY_CLASSES) == 14


def test_codes_and_what_has_none():
    raw = pa.chunked_array([["STAR", " GALAXY ", None], ["?", "QSO", "?"]])
    code, unknown = map_labels(raw, superclass, SUPERCLASSES)
    np.testing.assert_array_equal(code, [0, 1, -1, -1, 2, -1])
    assert unknown == {"?": 2, "": 1}
    assert list(unknown) == ["?", ""]


def test_labels_that_differ_in_blanks_are_counted_together():
    assert map_labels(pa.array(["x", "x  "]), superclass, SUPERCLASSES).unknown == {"x": 2}


def test_nothing():
    code, unknown = map_labels(pa.array([], pa.string()), superclass, SUPERCLASSES)
    assert code.shape == (0,)
    assert unknown == {}


def test_each_label_is_looked_at_once():
    seen = []
    map_labels(pa.array(["a", "b"] * 1000), lambda label: seen.append(label), SUPERCLASSES)
    assert seen == ["a", "b"]
