import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.results.row_filter import FLAGS, flag_names, listed_condition, require_condition, row_condition
from schemas.dia_source import DIA_SOURCE, DetectionFlag
from schemas.errors import Misconfigured

SCHEMA = pa.schema(
    [("snr", pa.float32()), ("band", pa.string()), ("flags", pa.int32()), ("n", pa.int64()), ("at_rest", pa.bool_())]
)
ROWS = [
    {"snr": snr, "band": band, "flags": flags, "n": n, "at_rest": n % 2 == 0}
    for n, (snr, band, flags) in enumerate(
        [(5.5, "g", 0), (12.0, "r", 1), (None, "r", 4), (30.0, None, 5), (8.0, "i", 64), (-3.0, "g", 2)]
    )
]
TABLE = ds.dataset(pa.Table.from_pylist(ROWS, schema=SCHEMA))


def chosen(text, flags=DetectionFlag):
    return TABLE.to_table(filter=row_condition(text, SCHEMA, flags))["n"].to_pylist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("snr > 8", [1, 3]),
        ("snr >= 8 and band in ['r', 'i']", [1, 4]),
        ("5 < snr <= 8", [0, 4]),
        ("band == 'g' or snr > 20", [0, 3, 5]),
        ("(band == 'g') | (snr > 20) & ~(n == 3)", [0, 5]),
        ("band not in ('g', 'r')", [3, 4]),  # null is not a band of these
        ("band in [] or n in []", []),
        ("band not in [] and n > 3", [4, 5]),
        ("snr is None", [2]),
        ("band is not None and not snr < 0", [0, 1, 4]),
        ("snr == -3", [5]),
        ("snr * 2 - 1 > 20 / 2", [1, 3, 4]),
        ("n / 2 > 1.2 and n / 2 < 1.6", [3]),  # not whole division
        ("flags / 8 > 0.4", [2, 3, 4]),
        ("(n + 2000000000) / 2 == 1000000001.5", [3]),  # nor in single precision
        ("n / 0 > 1", [1, 2, 3, 4, 5]),  # infinite; 0 / 0 is not a number
        ("snr / flags > 20", [0]),
        ("flags.EDGE", [1, 3]),
        ("not flags.EDGE and not flags.NO_WCS", [0, 2, 5]),
        ("flags & 5 == 0", [0, 4, 5]),
        ("at_rest and n > 0", [2, 4]),
        ("  n == 1  ", [1]),
    ],
)
def test_rows_are_those_that_python_would_choose(text, rows):
    assert chosen(text) == rows


NUMBERS = st.floats(-50, 50, width=32)


@given(NUMBERS, st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), st.sampled_from(["and", "or"]), st.integers(0, 6))
def test_it_agrees_with_python_on_what_is_not_null(limit, sign, joint, least):
    text = f"snr {sign} {limit} {joint} n > {least}"
    known = [row for row in ROWS if row["snr"] is not None]
    found = [n for n in chosen(text) if ROWS[n]["snr"] is not None]
    assert found == [row["n"] for row in known if eval(text, {}, row)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read: it ends too early"),
        ("snr >", "cannot be read: it ends too early"),
        ("snr > 3 and and n", "cannot be read from 'and n' on"),
        ("snrr > 3", "write 'snr'"),
        ("flags.EDG", "write 'EDGE'"),
        ("snr", "is neither true nor false"),
        ("snr > 3 and 4", "'4' is neither true nor false"),
        ("snr > 'a'", "does not go together: snr holds numbers. To fix, write it as e.g."),
        (
            "at_rest > 3 and band + 1 > n",
            "does not go together: at_rest holds true or false, band holds texts, n holds",
        ),
        ("band / 2 > 3", "does not go together: band holds texts"),
        ("band in [1]", "does not go together: band holds texts"),
        ("snr == b'1'", "is neither a column nor a value"),
        ("snr == 1j", "is neither a column nor a value"),
        ("snr is 3", "must be None"),
        ("band in 3", "is not a list of values"),
        ("snr ** 2 > 3", "is neither a column nor a value"),
        ("snr == 99999999999999999999999", "too large"),
        ("band == None", "write 'is None'"),
        ("band != None", "'is not None'"),
        ("open('/etc/passwd')", "is neither true nor false"),
        ("().__class__ == 1", "is neither a column nor a value"),
        ("n > 1 if snr else 0", "is neither true nor false"),
    ],
)
def test_what_is_no_condition_is_refused(text, says):
    with pytest.raises(Misconfigured, match=says):
        row_condition(text, SCHEMA, DetectionFlag)


def test_brackets_may_not_be_too_deep():
    with pytest.raises(Misconfigured, match=r"its brackets are too deep|cannot be read"):
        row_condition(f"{'-' * 3000}n > 1", SCHEMA)


@pytest.mark.parametrize(
    "where",
    [("snr", ">"), ("snr", "~", 3), [("snr", "in", 3)], [], (), [5], 5, {"snr": 3}, b"snr > 3"],
    ids=str,
)
def test_what_is_no_list_of_conditions_is_refused(where):
    with pytest.raises(Misconfigured, match=r"is not a condition, nor a list of them. To fix, give .*with one of <"):
        listed_condition(where)


@pytest.mark.parametrize(
    ("found", "code", "says"),
    [
        (pc.field("snrr") > 3, "no_column", "there is no column 'snrr'. To fix, write 'snr'"),
        (pc.field("snr") > "a", "bad_condition", "does not go together: snr holds numbers"),
        (pc.field("snr"), "bad_condition", "is neither true nor false"),
        (listed_condition(("band", "in", [3])), "bad_condition", "does not go together: band holds texts"),
    ],
    ids=str,
)
def test_an_expression_is_a_condition_of_its_columns(found, code, says):
    with pytest.raises(Misconfigured, match=says) as error:
        require_condition(found, SCHEMA, found)
    assert error.value.code == code
    require_condition(pc.field("snr") > 3, SCHEMA, "")


def test_flags_of_a_dataset_without_any_are_refused():
    with pytest.raises(Misconfigured, match="neither true nor false"):
        row_condition("flags.EDGE", SCHEMA, None)


@given(st.sets(st.sampled_from(list(DetectionFlag))))
def test_names_of_flags_are_those_of_the_bits(flags):
    value = sum(int(one) for one in flags)
    assert set(flag_names(value, DetectionFlag)) == {one.name for one in flags}
    assert flag_names(value | 1 << 30, DetectionFlag)[-1] == f"bit {1 << 30}"


def test_every_meaning_is_that_of_its_column():
    doc = DIA_SOURCE.schema.field("flags").metadata[b"doc"].decode()
    assert all(f"{flag.value} {name}" in doc for name, flag in FLAGS["dia_source"].__members__.items())
