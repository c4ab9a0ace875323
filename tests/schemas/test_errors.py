import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadInput, Misconfigured, NightstrideError, NoWork, Retryable, first_of, printable

KINDS = (NoWork, BadInput, Retryable, Misconfigured)


@pytest.mark.parametrize("kind", KINDS)
def test_says_where_what_and_remedy_also_after_a_journey_between_processes(kind):
    error = kind("missing_keyword", "a.fits", "OBSMJD is missing.", "restore the header.")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert type(one) is kind
        assert str(one) == "a.fits: OBSMJD is missing. To fix, restore the header."
        assert (one.code, one.where) == ("missing_keyword", "a.fits")


def test_kinds_are_told_apart_by_what_the_caller_does():
    for kind in KINDS:
        assert issubclass(kind, NightstrideError)
        assert not any(issubclass(kind, other) for other in KINDS if other is not kind)


@given(st.text())
def test_no_control_character_reaches_a_terminal(name):
    said = str(BadInput("code", name, "is wrong.", "mend it."))
    assert said.isprintable()
    assert not name.isprintable() or said == f"{name}: is wrong. To fix, mend it."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2J\n", r"a\x1b[2J\n"),
        ("\x9b31m", r"\x9b31m"),
        ("é ü", "é ü"),
        ("a\u202eb", r"a\u202eb"),
        ("\udcff", r"\udcff"),
    ],
)  # fmt: skip
def test_what_steers_a_terminal_is_escaped(name, shown):
    assert printable(name) == shown
    assert printable(f"one\n{name}", lines=True).split("\n", 1)[0] == "one"


def test_first_error_of_a_kind():
    first, second = KeyError(1), KeyError(2)
    assert first_of(first, KeyError) is first
    assert first_of(ValueError(), KeyError) is None
    assert first_of(ExceptionGroup("", [ValueError(), ExceptionGroup("", [first]), second]), LookupError) is first
