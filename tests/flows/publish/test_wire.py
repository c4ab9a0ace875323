"""Messages as bytes and as rows; from a topic: test_receive.py."""

import io
import math

import fastavro
import pyarrow as pa
import pytest

from flows.publish.wire import HEADER, MOST_RECORDS, ReceivedAlert, alerts_of, kind_of, message_key, message_of, row_of
from schemas.errors import BadInput
from schemas.received_alert import RECEIVED_ALERT
from tests.support.packets import packet, record
from tests.support.ztf import CANDID, GOOD

EMPTY = fastavro.parse_schema({"type": "record", "name": "empty", "fields": []})
NUMBER = fastavro.parse_schema({"type": "record", "name": "number", "fields": [{"name": "n", "type": "long"}]})


def container(records, schema="long", codec="null"):
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema), records, codec=codec)
    return file.getvalue()


def code_of(function, *args):
    with pytest.raises(BadInput) as caught:
        function(*args)
    return caught.value.code


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"\0", "rubin"), (b"\0Obj\x01", "rubin"), (b"Obj\x01", "ztf"), (b"Obj\x01...", "ztf"), (b"Obj", "other"),
        (b"Obj\x02", "other"), (b"", "other"), (b"{}", "other"),
    ],
)  # fmt: skip
def test_the_first_bytes_tell_what_a_message_is(message, kind):
    assert kind_of(message) == kind


def test_a_message_of_rubin_is_a_header_and_a_record():
    one = packet(5)
    message = message_of(one)
    assert message == b"\0" + (1101).to_bytes(4, "big") + one.body
    assert message_key(one) == b"5"
    asked = []
    (alert,) = alerts_of(b"\0\0\0\x01\x02", lambda number: asked.append(number) or EMPTY)
    assert (alert, asked) == (ReceivedAlert({}, 258), [258])
    assert code_of(alerts_of, b"\0\0\0\x01", lambda number: EMPTY) == "no_alert"
    assert code_of(alerts_of, b"{" * HEADER, lambda number: EMPTY) == "no_alert"
    assert code_of(alerts_of, b"\0\0\0\x01\x02\x00", lambda number: EMPTY) == "damaged_alert"


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        ({"type": "string"}, b"\x06abc"),
        ({"type": "long"}, b"\x02"),
        ({"type": "array", "items": "long"}, b"\x02\x04\0"),
    ],
)
def test_a_message_whose_schema_is_not_that_of_a_record_is_damaged(schema, body):
    with pytest.raises(BadInput, match=r"by schema 7 \(it is a (str|int|list), not a record") as caught:
        alerts_of(b"\0\0\0\0\7" + body, lambda number: fastavro.parse_schema(schema))
    assert caught.value.code == "damaged_alert"


@pytest.mark.parametrize(("codec", "read"), [("null", True), ("deflate", False)])
def test_a_container_is_not_packed_tighter_than_snappy_does(codec, read):
    message = container([{"n": 3}], NUMBER, codec)
    if read:
        assert alerts_of(message, None) == [ReceivedAlert({"n": 3}, None)]
    else:
        assert code_of(alerts_of, message, None) == "damaged_alert"


def test_a_container_holds_records_and_not_too_many():
    records = [{"n": n} for n in range(MOST_RECORDS + 1)]
    assert len(alerts_of(container(records[1:], NUMBER), None)) == MOST_RECORDS
    assert code_of(alerts_of, container(records, NUMBER), None) == "damaged_alert"
    with pytest.raises(BadInput, match="holds no records"):
        alerts_of(container([5]), None)


def rubin(outside=None, **source):
    alert = record(5, **source)
    return row_of(ReceivedAlert({**alert, **(outside or {})}, 1101))[1]


def ztf(outside=None, **candidate):
    alert = {"candidate": GOOD | candidate, "candid": CANDID, "objectId": "ZTF18a"}
    return row_of(ReceivedAlert({**alert, **(outside or {})}, None))[1]


@pytest.mark.parametrize("row", [rubin, ztf])
@pytest.mark.parametrize(
    ("ra", "dec", "there"),
    [
        (0.0, -90.0, True), (359.999, 90.0, True), (360.0, 0.0, False), (-0.001, 0.0, False), (10.0, 90.001, False),
        (10.0, -90.001, False), (math.nan, 0.0, False), (10.0, math.inf, False), (None, 0.0, False),
    ],
)  # fmt: skip
def test_a_row_has_a_place_on_the_sky(row, ra, dec, there):
    if there:
        found = row(ra=ra, dec=dec)
        assert (found["ra"], found["dec"]) == (ra, dec)
    else:
        assert code_of(lambda: row(ra=ra, dec=dec)) == "incomplete_alert"


@pytest.mark.parametrize(
    ("name", "values", "wrong"),
    [
        ("diaSourceId", (0, -(2**63), 2**63 - 1), (2**63, -(2**63) - 1, None, 1.0, True, "1")),
        ("visit", (0, 2**63 - 1), (-1, 2**63, None)),
        ("detector", (0, 2**31 - 1), (-1, 2**31, None)),
        ("diaObjectId", (1, -5), ("1", 1.5, True, 2**63)),
        ("band", ("r", None), (1, True)),
        ("snr", (5, 5.5, None), ("5", False)),
    ],
)
def test_a_column_holds_what_its_type_allows(name, values, wrong):
    for value in values:
        assert rubin(**{name: value})[name] == value
    for value in wrong:
        assert code_of(lambda value=value: rubin(**{name: value})) == "incomplete_alert"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null(value):
    assert rubin(snr=value, psfFlux=value)["snr"] is None
    assert code_of(lambda: rubin(midpointMjdTai=value)) == "incomplete_alert"


def test_ids_of_0_and_of_other_fields():
    assert (rubin(ssObjectId=0, diaObjectId=0)["ssObjectId"], rubin(diaObjectId=0)["diaObjectId"]) == (None, None)
    assert rubin({"ssSource": {"ssObjectId": 7}}, ssObjectId=0)["ssObjectId"] == 7
    assert rubin({"ssSource": None}, ssObjectId=6)["ssObjectId"] == 6
    assert rubin({"mpc_orbits": {"designation": "2026 AA"}})["designation"] == "2026 AA"
    assert rubin({"MPCORB": {"mpcDesignation": "K26A00A"}})["designation"] == "K26A00A"
    assert rubin({"mpc_orbits": None, "MPCORB": None})["designation"] is None
    assert rubin({"prvDiaSources": [{}, {}]})["earlierDetections"] == 2
    assert rubin({"prvDiaSources": None})["earlierDetections"] == 0


@pytest.mark.parametrize(("sign", "positive"), [("t", True), ("1", True), ("f", False), ("0", False)])
def test_a_magnitude_of_ztf_is_a_flux_with_its_sign(sign, positive):
    row = ztf(isdiffpos=sign, magpsf=31.4, sigmapsf=0.1)
    assert row["psfFlux"] == pytest.approx(1 if positive else -1)
    assert row["psfFluxErr"] == pytest.approx(0.1 * math.log(10) / 2.5)
    assert row["snr"] == pytest.approx(2.5 / math.log(10) / 0.1)


@pytest.mark.parametrize("sign", ["T", "true", "", True, 1, -1, None])
def test_a_flux_of_ztf_whose_sign_is_not_told_is_incomplete(sign):
    """It was taken for negative."""
    assert code_of(lambda: ztf(isdiffpos=sign)) == "incomplete_alert"


@pytest.mark.parametrize("detector", [0, 63, 99, 100, 188])
def test_the_exposure_of_a_packet_of_ztfs_form_is_without_its_detector(detector):
    row = ztf(pid=10_000 * 2026010100225 + 100 * detector + 15, rcid=detector)
    assert (row["visit"], row["detector"]) == (2026010100225, detector)


def test_minus_999_is_no_value_of_ztf():
    row = ztf(exptime=-999.0, sigmapsf=-999.0, drb=-999.0, drbversion="d6", rb=0.75, rbversion="t12")
    assert row["midpointMjdTai"] == ztf(exptime=30.0)["midpointMjdTai"]
    assert (row["psfFluxErr"], row["snr"], row["reliability"], row["reliabilityVersion"]) == (None, None, 0.75, "t12")
    assert ztf(rb=-999.0, drb=None)["reliability"] is None
    assert ztf(ssnamenr="433", ssdistnr=None)["designation"] is None


def test_a_packet_of_ztf_is_trusted_by_its_deep_network_if_there_is_one():
    both = {"drb": 0.25, "drbversion": "d6", "rb": 0.75, "rbversion": "t12"}
    row = ztf(**both)
    assert (row["reliability"], row["reliabilityVersion"]) == (0.25, "d6")
    row = ztf(**both | {"drb": None})
    assert (row["reliability"], row["reliabilityVersion"]) == (0.75, "t12")
    assert ztf(**both | {"drb": 0.0})["reliability"] == 0


def test_earlier_limits_of_ztf_are_no_detections():
    assert ztf({"prv_candidates": [{"candid": 0}, {"candid": None}, {}]})["earlierDetections"] == 1
    assert ztf({"prv_candidates": None})["earlierDetections"] == 0


def test_the_middle_of_an_exposure_of_ztf_is_half_of_its_time_later():
    start = ztf(exptime=1e-6)["midpointMjdTai"]
    for seconds, later in ((60.0, 30), (None, 15), (30.0, 15), (0.0, 0)):  # ours have 0 where it is not known
        assert (ztf(exptime=seconds)["midpointMjdTai"] - start) * 86400 == pytest.approx(later, abs=1e-3)


_ODD = [
    None, 0, 0.0, -0.0, -1, 2**24 + 1, 2**53 + 1, 2**70, -(2**70), 1e10, 1e300, -1e300, 1e-320, math.nan, math.inf,
    -math.inf, "", "x", "1", [], {}, [1], {"a": 1}, True, False, b"x",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*dubious year")
def test_whatever_a_field_holds_it_is_a_row_or_bad_input():
    """An error of another kind ends the reader, and again whenever it comes to that message."""
    given = [(ztf, "candidate", name) for name in GOOD] + [(rubin, "source", name) for name in record(5)["diaSource"]]
    given += [(ztf, "outside", name) for name in ("candid", "objectId", "prv_candidates")]
    given += [(rubin, "outside", name) for name in ("ssSource", "mpc_orbits", "MPCORB", "prvDiaSources")]
    rows = 0
    for row, where, name in given:
        for value in _ODD:
            try:
                found = row({name: value}) if where == "outside" else row(**{name: value})
                rows += 1
            except BadInput:
                continue
            pa.Table.from_pylist([found | {"topicPartition": 0, "topicOffset": 1}], RECEIVED_ALERT.schema)
    assert rows > len(given)


@pytest.mark.parametrize("error", [0, 0.0])
def test_a_magnitude_of_ztf_without_any_error_is_incomplete(error):
    assert code_of(lambda: ztf(sigmapsf=error)) == "incomplete_alert"
