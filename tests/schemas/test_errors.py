import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import (
    BadInput,
    Misconfigured,
    NightstrideError,
    NoWork,
    Retryable,
    first_of,
    printable,
    read_failure,
)

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


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda: pq.read_table(io.BytesIO(b"PAR1xxxxPAR1")), "it is cut off, or no Parquet file"),
        (lambda: pq.read_table(io.BytesIO(b"something else")), "it is cut off, or no Parquet file"),
        (lambda: pyarrow.csv.read_csv(io.BytesIO(b"")), "it is empty"),
        (lambda: np.load(io.BytesIO(b"not a file of numpy")), "it holds Python objects, which are not read, or is"),
        (lambda: pyarrow.csv.read_csv(io.BytesIO(b"a,b\n1,2,3\n")), "a line has 3 values where the first has 2"),
        (lambda: pyarrow.csv.read_csv(io.BytesIO(b"a\n\x1b[2J\xff,\xfe\n")), "it is not text"),
        (lambda: b"\xff".decode(), "byte 0 is not text in UTF-8"),
        (lambda: open("/nowhere/at/all"), "No such file or directory"),  # noqa: PTH123, SIM115
        (lambda: int("x"), "invalid literal for int() with base 10: 'x'"),
    ],
)
def test_why_a_file_cannot_be_read_is_said_in_our_words_where_we_have_some(read, words):
    with pytest.raises((OSError, ValueError, pa.ArrowException)) as caught:
        read()
    assert read_failure(caught.value).startswith(words)
