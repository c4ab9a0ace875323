import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.publish.row_filter import LONGEST, RowFilter
from schemas.errors import Misconfigured
from schemas.received_alert import RECEIVED_ALERT

SNR = [None, 3.0, 5.0, 7.5, 20.0]
LENGTH = [0.0, 2.5, None, 1.0, 30.0]


@pytest.fixture(scope="module")
def rows():
    listed = [
        {"diaSourceId": 2**53 + n, "visit": n, "detector": 1, "midpointMjdTai": 61000.0, "ra": 10.0 * n, "dec": -5.0,
         "earlierDetections": n, "topicPartition": 0, "topicOffset": n, "snr": snr, "trailLength": length,
         "band": "gr"[n % 2]}
        for n, (snr, length) in enumerate(zip(SNR, LENGTH, strict=True))
    ]  # fmt: skip
    return pa.Table.from_pylist(listed, RECEIVED_ALERT.schema)


@pytest.mark.parametrize(
    ("text", "visits"),
    [
        ("snr > 4", [2, 3, 4]),
        ("snr > 4 and trailLength > 2", [4]),
        ("snr > 4 or trailLength > 2", [1, 2, 3, 4]),
        ("not snr > 4", [1]),  # null is neither
        ("4 < snr < 10", [2, 3]),
        ("snr >= 5 and not band == 'r'", [2, 4]),
        ("(ra / 10 + 1) ** 2 - 1 == 8", [2]),
        ("earlierDetections / 2 == 1.5", [3]),  # not whole numbers
        ("-dec * 2 > 9.5 and visit != 0", [1, 2, 3, 4]),
        ("trailLength / 0 > 1", [1, 3, 4]),
        ("diaSourceId == 9007199254740993", [1]),  # to the last digit
        ("diaSourceId > 1.5", [0, 1, 2, 3, 4]),  # ids that double precision does not hold
        ("diaSourceId / 2 > 4503599627370496.5", [2, 3, 4]),
        ("diaSourceId != snr", [1, 2, 3, 4]),
        ("visit < snr and 9007199254740993 > snr", [1, 2, 3, 4]),
        ("0.5 < visit < 2.5", [1, 2]),
        ("True", [0, 1, 2, 3, 4]),
        ("1 > 2", []),
        (" snr\t>4 ", [2, 3, 4]),
    ],
)
def test_rows_are_taken_for_which_it_is_true(rows, text, visits):
    assert RowFilter(text, RECEIVED_ALERT).taken(rows)["visit"].to_pylist() == visits


def test_an_expression_is_as_long_as_one_may_be(rows):
    assert len(RowFilter("snr > 4".ljust(LONGEST), RECEIVED_ALERT).taken(rows)) == 3
    with pytest.raises(Misconfigured, match=f"longer than {LONGEST} characters"):
        RowFilter("snr > 4".ljust(LONGEST + 1), RECEIVED_ALERT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("relability > 0.5", "'reliability'"),
        ("__import__('os').system('true')", "which is not allowed"),
        ("snr.__class__ > 1", "which is not allowed"),
        ("[snr for snr in (1,)]", "which is not allowed"),
        ("lambda: snr", "which is not allowed"),
        ("snr if snr > 1 else 2", "which is not allowed"),
        ("snr in (1, 2)", "which is not allowed"),
        ("snr is None", "which is not allowed"),
        ("(snr := 3) > 1", "which is not allowed"),
        ("f'{snr}' == 'x'", "which is not allowed"),
        ("snr", "is not a condition"),
        ("snr > 'a'", "do(es)? not go together"),
        ("band * 2 > 1", "do(es)? not go together"),  # which no rows would not tell
        ("True + 1 > 1", "do(es)? not go together"),
        ("not snr", "do(es)? not go together"),
        ("snr > ", "is not an expression"),
        ("", "is not an expression"),
        ("snr > 1; snr > 2", "is not an expression"),
        ("import os", "is not an expression"),
        ("9" * 5000 + " > snr", "longer than"),
        ("(" * 900 + "snr" + ")" * 900 + " > 1", "is not an expression"),
    ],
)
def test_everything_else_is_refused_before_the_first_row(text, words):
    with pytest.raises(Misconfigured, match=words) as caught:
        RowFilter(text, RECEIVED_ALERT)
    assert caught.value.code == "bad_filter"


NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 2))


@given(st.lists(NUMBERS, min_size=1, max_size=20), NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_it_agrees_with_python_where_python_has_an_answer(values, limit, sign):
    listed = [
        {"diaSourceId": n, "visit": n, "detector": 1, "midpointMjdTai": value, "ra": 1.0, "dec": 0.0,
         "earlierDetections": 0, "topicPartition": 0, "topicOffset": 0}
        for n, value in enumerate(values)
    ]  # fmt: skip
    table = pa.Table.from_pylist(listed, RECEIVED_ALERT.schema)
    text = f"midpointMjdTai * 2 - 1 {sign} {limit}"
    wanted = [n for n, value in enumerate(values) if eval(text, {}, {"midpointMjdTai": value})]  # the test's own text
    assert RowFilter(text, RECEIVED_ALERT).taken(table)["visit"].to_pylist() == wanted


@given(st.text(max_size=60))
def test_no_text_does_anything_but_filter_or_be_refused(text):
    try:
        found = RowFilter(text, RECEIVED_ALERT)
    except Misconfigured:
        return
    assert len(found.taken(RECEIVED_ALERT.empty())) == 0
