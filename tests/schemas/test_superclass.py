import pytest

from schemas.superclass import SUPERCLASSES, superclass


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
