import gzip
import json

import fastavro
import pytest

from flows.cli.alerts import field_lines
from flows.publish.rubin_schema import SCHEMAS, deserialise, parsed, schema_id
from flows.publish.wire import message_of
from flows.storage.catalog_store import CatalogStore
from schemas.dia_source import DIA_SOURCE
from tests.support.alert_night import MJD, info_of, make_night, places, put, rows_of, visit_of
from tests.support.cli import nightstride
from tests.support.packets import packet, record


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return make_night(tmp_path_factory.mktemp("night") / "out", count=5)


def read(path):
    with path.open("rb") as file:
        return list(fastavro.reader(file))


@pytest.mark.parametrize("version", SCHEMAS)
def test_a_folder_gets_a_container_for_each_visit(night, tmp_path, version):
    done = nightstride("alerts", "publish", night, "--to", tmp_path / version, "--schema", version, "--json")
    assert done.code == 0, done.stderr
    files = sorted((tmp_path / version).iterdir())
    assert [one.name for one in files] == [f"{visit_of(n)}.avro" for n in range(3)]
    alerts = [alert for one in files for alert in read(one)]
    ids = [one for n in range(3) for one in CatalogStore(night).read(DIA_SOURCE, info_of(n))["diaSourceId"].to_pylist()]
    assert [one["diaSourceId"] for one in alerts] == ids
    summary = done.summary
    assert (summary["alerts"], summary["dead"], summary["visits"]) == (15, 0, 3)
    assert summary["bytes"] > sum(len(one["cutoutScience"]) for one in alerts)
    assert summary["seconds"] > 0
    judged = nightstride("alerts", "validate", *files, "--json")
    assert judged.code == 0
    assert judged.summary == {"files": 3, "valid": 15, "invalid": 0, "schemas": {version: 15}, "reasons": {}}


def test_a_folder_whose_parent_is_not_there_is_refused(night, tmp_path):
    done = nightstride("alerts", "publish", night, "--to", tmp_path / "none" / "alerts", "--json")
    assert (done.code, done.summary["error"]["code"]) == (2, "no_folder")
    assert f"--to {tmp_path}/none/alerts" in done.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "nightstride.toml").write_text(f'[alerts]\nto = "{tmp_path}/none/alerts"\n')
    done = nightstride("alerts", "publish", night, cwd=tmp_path)
    assert (done.code, f"alerts.to {tmp_path}/none/alerts" in done.stderr) == (2, True)


def test_rubins_own_reader_reads_the_container(night, tmp_path):
    from lsst.alert.packet import Schema, get_path_to_latest_schema

    nightstride("alerts", "publish", night, "--to", tmp_path, "--visit", visit_of(2))
    path = tmp_path / f"{visit_of(2)}.avro"
    with path.open("rb") as file:
        schema, found = Schema.from_file(get_path_to_latest_schema()).retrieve_alerts(file)
        alerts = list(found)
    assert alerts == read(path)
    assert len(alerts) == 5
    assert schema.get_schema_id() == schema_id("11.1")


def test_a_repeat_writes_the_same_bytes(night, tmp_path):
    contents = []
    for _ in range(2):
        assert nightstride("alerts", "publish", night, "--to", tmp_path).code == 0
        contents.append({one.name: one.read_bytes() for one in tmp_path.iterdir()})
    assert contents[0] == contents[1]


def test_a_container_that_was_taken_away_is_sent_again(night, tmp_path):
    assert nightstride("alerts", "publish", night, "--to", tmp_path, "--json").summary["alerts"] == 15
    (tmp_path / f"{visit_of(1)}.avro").unlink()
    done = nightstride("alerts", "publish", night, "--to", tmp_path, "--json").summary
    assert (done["alerts"], done["kept"]) == (5, 10)
    assert len(read(tmp_path / f"{visit_of(1)}.avro")) == 5


def test_a_visit_that_is_in_two_nights_is_told(tmp_path):
    """A counter that restarts each night: ids and files would be the same, and the last would replace the first."""
    (x, y), out = places(4, (280, 300)), tmp_path / "out"
    for days, label in enumerate(("20260101", "20260102")):
        for n in (days, days + 1):  # of three visits the second is in both
            info = info_of(n, night=label, midpoint_mjd_tai=MJD + days + n / 48)
            put(out, info, rows_of(info, x, y))
    done = nightstride("alerts", "publish", out, "--to", tmp_path / "all", "--json")
    assert (done.code, done.summary["alerts"], done.summary["exposures_failed"]) == (1, 12, 1)
    assert f"visit {visit_of(1)}: is in nights 20260101 and 20260102" in done.stderr
    times = [one["diaSource"]["midpointMjdTai"] for one in read(tmp_path / "all" / f"{visit_of(1)}.avro")]
    assert times == [MJD + 1 / 48] * 4
    own = nightstride("alerts", "publish", out, "--to", tmp_path / "own", "--night", "20260102", "--json")
    assert (own.code, own.summary["alerts"]) == (0, 8)


def test_a_container_of_another_night_is_not_replaced(tmp_path):
    (x, y), out, sink = places(4, (280, 300)), tmp_path / "out", tmp_path / "alerts"
    for days, label in enumerate(("20260101", "20260102")):
        for n in (days, days + 1):
            info = info_of(n, night=label, midpoint_mjd_tai=MJD + days + n / 48)
            put(out, info, rows_of(info, x, y))
    first = nightstride("alerts", "publish", out, "--to", sink, "--night", "20260101", "--json")
    assert (first.code, first.summary["alerts"]) == (0, 8)
    before = {one.name: one.read_bytes() for one in sink.iterdir()}
    second = nightstride("alerts", "publish", out, "--to", sink, "--night", "20260102", "--json")
    assert (second.code, second.summary["alerts"], second.summary["exposures_failed"]) == (1, 4, 1)
    assert f"{visit_of(1)}.avro: holds alerts of night 20260101: those of visit {visit_of(1)} of n" in second.stderr
    assert {name: (sink / name).read_bytes() for name in before} == before
    assert len(read(sink / f"{visit_of(2)}.avro")) == 4
    assert nightstride("alerts", "publish", out, "--to", sink, "--night", "20260101", "--json").summary["kept"] == 8


def test_a_file_of_another_program_is_not_replaced(night, tmp_path):
    path = tmp_path / f"{visit_of(1)}.avro"
    with path.open("wb") as file:
        fastavro.writer(file, parsed("11.1"), [])
    before = path.read_bytes()
    done = nightstride("alerts", "publish", night, "--to", tmp_path, "--json")
    assert (done.code, done.summary["alerts"]) == (1, 10)
    assert "holds alerts of another program" in done.stderr
    assert path.read_bytes() == before


def test_one_night_or_visit_is_published(night, tmp_path):
    done = nightstride("alerts", "publish", night, "--to", tmp_path, "--visit", visit_of(1), "--json")
    assert done.summary["alerts"] == 5
    assert [one.name for one in tmp_path.iterdir()] == [f"{visit_of(1)}.avro"]
    other = nightstride("alerts", "publish", night, "--to", tmp_path, "--night", "20250101", "--json")
    assert other.code == 2
    assert other.summary["error"]["code"] == "no_night"


@pytest.mark.parametrize(("arguments", "code"), [((), "no_target"), (("--to", "x", "--night", "20200101"), "no_night")])
def test_bad_usage_ends_with_2(night, tmp_path, arguments, code):
    done = nightstride("alerts", "publish", night, *arguments, "--json", cwd=tmp_path)
    assert (done.code, done.summary["error"]["code"]) == (2, code)


def test_a_folder_that_is_no_output_is_refused(tmp_path):
    done = nightstride("alerts", "publish", tmp_path, "--to", tmp_path / "alerts", "--json")
    assert (done.code, done.summary["error"]["code"]) == (2, "no_output")


def test_what_is_damaged_is_named_and_the_rest_goes_on(tmp_path):
    out = make_night(tmp_path / "out", count=5, planes=())
    path = CatalogStore(out).path(DIA_SOURCE, info_of(1))
    path.write_bytes(b"")
    done = nightstride("alerts", "publish", out, "--to", tmp_path / "alerts", "--json")
    assert done.code == 1
    assert path.name in done.stderr
    assert (done.summary["alerts"], done.summary["exposures_failed"]) == (10, 1)
    (last,) = {len(one["prvDiaSources"]) for one in read(tmp_path / "alerts" / f"{visit_of(2)}.avro")}
    assert last == 1  # and not the one that cannot be read
    assert len(done.summary["failed"]) == 1


def message(version="11.1", **fields):
    return message_of(packet(5, version, **fields))


INVALID = {
    "wrong schema id": (lambda: b"\0\0\0\x02\xbd" + message()[5:], "has schema id 701"),
    "truncated": (lambda: message()[:-3], "cannot be read by schema 11.1"),
    "too long": (lambda: message() + b"\0", "1 bytes are left over"),
    "other schema": (lambda: message("11.0")[:4] + message("11.1")[4:5] + message("11.0")[5:], "cannot be read"),
    "no place": (lambda: message(ra=400.0), "not a place on the sky"),
    "no alert": (lambda: b'{"visit": 1}', "holds no alerts"),
    "zipped": (lambda: gzip.compress(message()), "holds no alerts"),
    "empty": (lambda: b"", "holds no alerts"),
    "container cut short": (lambda: container()[:-30], "cannot be read to its end"),
    "strange field": (lambda: container(extra=True), "diaSource.foo is not in the schema"),
    "two ids": (lambda: container(diaSourceId=6), "diaSource.diaSourceId is not diaSourceId"),
}


def container(extra=False, **fields):
    """A container, as other programs write it."""
    from io import BytesIO

    from flows.publish.rubin_schema import packaged

    schema = json.loads(json.dumps({key: one for key, one in packaged("11.1").items() if not key.startswith("__")}))
    row = deserialise(packet(5).body, "11.1")
    if extra:
        (source,) = (one["type"] for one in schema["fields"] if one["name"] == "diaSource")
        source["fields"].append({"name": "foo", "type": "int"})
        row["diaSource"]["foo"] = 1
    file = BytesIO()
    fastavro.writer(file, schema, [row, row | {"diaSource": row["diaSource"] | fields}])
    return file.getvalue()


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_valid_alert_is_counted_with_its_reason(tmp_path, name):
    make, reason = INVALID[name]
    (tmp_path / "one").write_bytes(make())
    (tmp_path / "good").write_bytes(message())
    done = nightstride("alerts", "validate", tmp_path / "one", tmp_path / "good", "--json")
    assert done.code == 1
    assert reason in "".join(done.summary["reasons"])
    assert done.summary["invalid"] >= 1
    assert done.summary["valid"] >= 1


def test_a_container_of_no_alerts_is_invalid(tmp_path):
    with (tmp_path / "empty.avro").open("wb") as file:
        fastavro.writer(file, parsed("11.1"), [])
    done = nightstride("alerts", "validate", tmp_path / "empty.avro", "--json")
    assert (done.code, done.summary["invalid"]) == (1, 1)
    assert done.summary["reasons"] == {"no_alerts: holds no alerts.": 1}
    shown = nightstride("alerts", "show", tmp_path / "empty.avro", "--json")
    assert (shown.code, shown.summary["error"]["code"]) == (2, "no_alerts")


def test_messages_of_each_version_are_valid(tmp_path):
    files = [tmp_path / version for version in SCHEMAS]
    for path, version in zip(files, SCHEMAS, strict=True):
        path.write_bytes(message(version))
    done = nightstride("alerts", "validate", *files, "--json")
    assert (done.code, done.summary["valid"]) == (0, 3)
    assert done.summary["schemas"] == dict.fromkeys(SCHEMAS, 1)


def test_a_file_that_is_not_there_is_bad_usage(tmp_path):
    for verb in ("validate", "show"):
        done = nightstride("alerts", verb, tmp_path / "none", "--json")
        assert (done.code, done.summary["error"]["code"]) == (2, "no_file")


def test_alerts_are_shown(night, tmp_path):
    nightstride("alerts", "publish", night, "--to", tmp_path, "--visit", visit_of(1))
    path = tmp_path / f"{visit_of(1)}.avro"
    shown = nightstride("alerts", "show", path, "--limit", "2")
    first, second, _ = (one["diaSourceId"] for one in read(path)[:3])
    assert shown.stdout.splitlines()[0] == f"alert 1: {first}, schema 11.1"
    assert f"alert 2: {second}, schema 11.1" in shown.stdout
    assert "alert 3" not in shown.stdout
    assert "FITS, 30 x 30 px, nJy, 28,800 bytes" in shown.stdout
    assert "prvDiaSources (1)" in shown.stdout
    found = nightstride("alerts", "show", path, "--skip", "3", "--json").summary["alerts"]
    assert [one["diaSourceId"] for one in found] == [one["diaSourceId"] for one in read(path)[3:]]
    assert found[0]["diaSource"]["ra"] == read(path)[3]["diaSource"]["ra"]


def test_records_are_shown_below_their_name_and_further_in():
    lines = field_lines({"id": 5, "source": {"flux": 1.5}, "earlier": [{"candid": 7, "flux": 2.5}], "none": []})
    assert list(lines) == [
        f"{'id':<32}5", "source", f"  {'flux':<32}1.5", "earlier (1)", "  - 7", f"    {'candid':<32}7",
        f"    {'flux':<32}2.5", f"{'none':<32}[]",
    ]  # fmt: skip


def test_a_long_name_and_its_value_are_apart():
    name = "pixelFlags_injected_templateCenter"
    assert list(field_lines({name: False})) == [f"{name} False"]


def test_a_message_is_shown(tmp_path):
    (tmp_path / "one").write_bytes(message())
    (found,) = nightstride("alerts", "show", tmp_path / "one", "--json").summary["alerts"]
    assert found == {"schema": "11.1"} | record(5)
