from itertools import product

import pytest

from schemas.galaxy_class import GALAXY_CLASSES, galaxy_class

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
