"""Alerts of a night to topics, folders and buckets, and from topics to catalogues, by the command line."""

import json
import shutil
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.publish.outbox import opened_outbox
from flows.publish.rubin_schema import deserialise
from tests.support.cli import nightstride

pytest_plugins = ("tests.support.night_fixture", "tests.support.s3_fixture", "tests.support.topic_fixture")

DOWN = "kafka://127.0.0.1:1/alerts"


@pytest.fixture
def night(uninterrupted, tmp_path):
    """An output folder of this test's own, and the diaSourceIds in it."""
    out = tmp_path / "out"
    shutil.copytree(uninterrupted[1], out)
    return out, detections(out)


def detections(out):
    files = sorted((Path(out) / "catalogs" / "dia_source").rglob("*.parquet"))
    return sorted(pa.concat_tables(pq.read_table(path, partitioning=None) for path in files)["diaSourceId"].to_pylist())


def keys(messages):
    return sorted(int(message.key()) for message in messages)


def send(out, to, *more, **environment):
    return nightstride("alerts", "publish", out, "--to", to, *more, "--json", **environment)


@pytest.mark.slow
def test_a_night_goes_to_a_topic_once(night, url, reader):
    out, ids = night
    first = send(out, url)
    assert first.code == 0, first.stderr
    assert (first.summary["alerts"], first.summary["dead"], first.summary["kept"]) == (len(ids), 0, 0)
    messages = reader.until(len(ids))
    assert keys(messages) == ids
    assert first.summary["bytes"] == sum(len(message.value()) for message in messages)
    for message in messages:
        record = deserialise(message.value()[5:], "11.1")
        assert record["diaSourceId"] == record["diaSource"]["diaSourceId"] == int(message.key())
    second = send(out, url)
    assert (second.code, second.summary["alerts"], second.summary["kept"]) == (0, 0, len(ids))
    assert reader.take(0.5) == len(ids)
    told = nightstride("alerts", "status", out, "--json")
    assert told.code == 0
    assert told.summary == {"routes": [{"sink": url, "form": "11.1", "sent": len(ids)}], "letters": {}, "given_up": []}
    shown = nightstride("alerts", "tail", url, "--max", 3, "--json")
    assert shown.code == 0
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(lines) == 4
    assert lines[-1] == {"alerts": 3, "dead": 0}
    assert all(line["schema"] == 1101 and line["diaSourceId"] in ids for line in lines[:3])


@pytest.mark.slow
def test_a_folder_and_a_bucket_get_the_same_containers(night, moto, tmp_path):
    out, ids = night
    bucket, environment = moto.new_bucket(), moto.environment
    for to in (str(tmp_path / "sink"), f"s3://{bucket}/alerts"):
        found = send(out, to, **environment)
        assert (found.code, found.summary["alerts"]) == (0, len(ids)), found.stderr
        again = send(out, to, **environment)
        assert (again.code, again.summary["alerts"], again.summary["kept"]) == (0, 0, len(ids))
    read = []
    for path in sorted((tmp_path / "sink").glob("*.avro")):
        stored = moto.client.get_object(Bucket=bucket, Key=f"alerts/{path.name}")["Body"].read()
        assert stored == path.read_bytes()
        with path.open("rb") as file:
            read += [record["diaSourceId"] for record in fastavro.reader(file)]
    assert sorted(read) == ids


@pytest.mark.slow
def test_dead_letters_are_replayed_when_they_may_be_larger(night, url, reader):
    out, ids = night
    small = {"NIGHTSTRIDE_ALERTS__KAFKA__MAX_MESSAGE_KIB": "1"}
    found = send(out, url, **small)
    assert found.code == 3
    assert (found.summary["alerts"], found.summary["dead"]) == (0, len(ids))
    told = nightstride("alerts", "status", out, "--json")
    assert (told.code, told.summary["letters"]) == (3, {"too_large": len(ids)})
    still = nightstride("alerts", "replay", out, "--to", url, "--json", **small)
    assert (still.code, still.summary) == (3, {"letters": len(ids), "sent": 0, "dead": len(ids), "left": 0})
    gone = nightstride("alerts", "replay", out, "--to", url, "--json")
    assert (gone.code, gone.summary) == (0, {"letters": len(ids), "sent": len(ids), "dead": 0, "left": 0})
    assert keys(reader.until(len(ids))) == ids
    assert nightstride("alerts", "replay", out, "--to", url, "--json").summary["letters"] == 0
    assert send(out, url).summary["kept"] == len(ids)


@pytest.mark.slow
def test_a_run_into_a_bucket_without_an_outbox_is_refused_before_it_searches(moto, url, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.fits").write_bytes(b"SIMPLE  =                    T")
    bucket = moto.new_bucket()
    given = ("run", tmp_path / "raw", "--out", f"s3://{bucket}/out", "--json")
    found = nightstride(*given, **moto.environment, NIGHTSTRIDE_ALERTS__TO=url)
    assert (found.code, found.summary["error"]["code"]) == (2, "outbox_in_bucket")
    assert "alerts.outbox" in found.stderr
    kept = [one["Key"] for one in moto.client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert not [key for key in kept if "ledger" in key or "quarantine" in key]


def test_an_output_folder_that_sent_nothing_says_so(tmp_path):
    (tmp_path / "ledger").mkdir()
    found = nightstride("alerts", "status", tmp_path, "--json")
    assert (found.code, found.summary["error"]["code"]) == (2, "no_outbox")
    assert nightstride("alerts", "replay", tmp_path, "--to", "folder", "--json").summary["error"]["code"] == "no_topic"


@pytest.mark.slow
def test_alerts_of_a_topic_become_a_catalogue_that_is_verified(night, url, tmp_path):
    out, ids = night
    send(out, url)
    options = ("--content", "alerts", "--out", tmp_path / "theirs", "--once", "--json")
    got = nightstride("watch", f"{url}?group=one", *options, NIGHTSTRIDE_KAFKA_SESSION_TIMEOUT_MS="6000")
    assert got.code == 0, got.stderr
    assert (got.summary["messages"], got.summary["kept"], got.summary["dead"]) == (len(ids), len(ids), 0)
    rows = pa.concat_tables(
        pq.read_table(path, partitioning=None) for path in (tmp_path / "theirs" / "catalogs").rglob("*.parquet")
    )
    assert sorted(rows["diaSourceId"].to_pylist()) == ids
    verified = nightstride("verify", tmp_path / "theirs", "--json")
    assert (verified.code, verified.summary["files"]) == (0, 2), verified.stdout
    exported = nightstride(
        "export", tmp_path / "theirs", "--dataset", "received_alert", "--to", tmp_path / "a.vot", "--json"
    )
    assert exported.summary["rows"] == len(ids)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("folder", "--content", "alerts"), "no_topic"),
        (("kafka://h:1/t", "--content", "alerts", "--filter", "nosuch > 1"), "bad_filter"),
        (("kafka://h:1/t", "--filter", "snr > 1"), "bad_usage"),
        (("folder", "--once"), "bad_usage"),
        (("kafka://h:1", "--content", "alerts"), "kafka"),
        (("kafka://user:secret@h:1/t", "--content", "alerts"), "credentials_in_url"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_read(arguments, code, tmp_path):
    found = nightstride("watch", *arguments, "--out", tmp_path / "out", "--json")
    assert (found.code, found.summary["error"]["code"]) == (2, code)
    assert "secret" not in found.stdout + found.stderr


@pytest.mark.slow
def test_a_run_without_a_broker_is_published_and_its_alerts_wait(nightstride_run, raw_night, url, reader, tmp_path):
    out = tmp_path / "out"
    waiting = {"NIGHTSTRIDE_ALERTS__TO": DOWN, "NIGHTSTRIDE_ALERTS__KAFKA__DELIVERY_TIMEOUT_S": "1"}
    found = nightstride_run.here(raw_night, "--out", out, **waiting)
    assert found.code == 1
    assert found.counts == (4, 4, 0, 0, 0)
    assert [one["code"] for one in found.summary["alerts_failed"]] == ["kafka_down"]
    counts = found.summary["alerts"]
    assert (counts["sent"], counts["dead"], counts["lag_s"]) == (0, 0, None)
    assert counts["left"] > 0
    # The next run tries again, also with nothing to search.
    again = nightstride_run.here(raw_night, "--out", out, **waiting)
    assert (again.code, again.counts) == (1, (4, 0, 4, 0, 0))
    ids = detections(out)
    assert send(out, url).summary["alerts"] == len(ids)
    assert keys(reader.until(len(ids))) == ids
    with opened_outbox(out) as box:
        assert box.counts()[url, "11.1"] == {"sent": len(ids)}
    untouched = nightstride_run.here(raw_night, "--out", out)
    assert (untouched.code, untouched.summary["alerts"]) == (0, None)


@pytest.mark.slow
def test_a_run_without_its_database_sends_nothing_and_the_next_sends_all(
    nightstride_run, raw_night, url, reader, tmp_path
):
    out = tmp_path / "out"
    away = {"NIGHTSTRIDE_ASSOCIATION__STORE": "postgresql+psycopg://nobody@127.0.0.1:1/none"}
    found = nightstride_run.here(raw_night, "--out", out, NIGHTSTRIDE_ALERTS__TO=url, **away)
    assert (found.code, found.counts) == (1, (4, 4, 0, 0, 0))
    assert {one["code"] for one in found.summary["alerts_failed"]} == {"association_down"}
    assert reader.take(0.5) == found.summary["alerts"]["sent"] == 0
    told = nightstride("alerts", "status", out, "--json")
    assert (told.code, told.summary["routes"][0]["owed"]) == (1, 2)
    again = nightstride_run.here(raw_night, "--out", out, NIGHTSTRIDE_ALERTS__TO=url)
    ids = detections(out)
    assert (again.code, again.counts, again.summary["alerts"]["sent"]) == (0, (4, 0, 4, 0, 0), len(ids))
    assert keys(reader.until(len(ids))) == ids
    records = [deserialise(message.value()[5:], "11.1") for message in reader.messages]
    assert any(record["diaObject"] is not None for record in records)
    assert nightstride("alerts", "status", out, "--json").code == 0


@pytest.mark.slow
def test_a_stream_sends_each_visit_as_it_is_done(night_models, prefect_api, raw_night, url, reader, tmp_path):
    from tests.support.night import Command

    out = tmp_path / "out"
    watch = Command(night_models, prefect_api, "watch", ("--still", "0", "--poll", "0.2", "--idle-exit", "2"))
    found = watch.here(raw_night, "--out", out, NIGHTSTRIDE_ALERTS__TO=url)
    assert found.code == 0, found.stderr
    ids = detections(out)
    assert keys(reader.until(len(ids))) == ids
    counts = found.summary["alerts"]
    assert (counts["sent"], counts["left"], counts["dead"]) == (len(ids), 0, 0)
    assert counts["lag_s"]["n"] == len(ids)
    assert 0 < counts["lag_s"]["p50"] <= counts["lag_s"]["p95"] <= counts["lag_s"]["p99"] < 600
    records = [deserialise(message.value()[5:], "11.1") for message in reader.messages]
    assert any(record["diaObject"] is not None for record in records)  # associated before they were sent
