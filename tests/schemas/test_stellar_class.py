import pytest

from schemas.stellar_class import STELLAR_CLASSES, stellar_class


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
