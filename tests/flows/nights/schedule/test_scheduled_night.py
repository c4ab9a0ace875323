"""A night by a worker of a Prefect server on PostgreSQL: its bytes are those of a run, and people see how it went."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.states import Failed
from rich.console import Console

from flows.nights.cluster.cluster import Cluster, _no_workers
from flows.nights.schedule import scheduled_night
from flows.nights.schedule.deployment import Deployment, inputs_of, observing_night
from flows.nights.schedule.scheduled_night import RunLog, _may_succeed_later, register, search_scheduled, verdict
from flows.nights.services.stack import Worker, down, up
from flows.storage.file_lock import file_lock
from flows.storage.lease import lease
from schemas.cluster_settings import ClusterSettings, SlurmSettings
from schemas.errors import Misconfigured, Retryable
from schemas.settings import Settings
from schemas.summary import ExposureCounts, RunSummary, Trouble
from tests.support.cli import nightstride
from tests.support.deployed import asked, start
from tests.support.night import DETECTORS, VISITS, catalogues
from tests.support.wait import until
from tests.support.ztf import CANDID, record, write

pytest_plugins = (
    "tests.support.night_fixture",
    "tests.support.services_fixture",
    "tests.support.deployed_fixture",
    "tests.support.topic_fixture",
)

NIGHT = "2025-01-21"
ALL = VISITS * DETECTORS


def summary(**changed):
    counts = {"seen": 3, "done": 3, "skipped": 0, "quarantined": 0, "failed": 0} | changed.pop("counts", {})
    return RunSummary(
        exposures=ExposureCounts(**counts), windows=1, unscored=0, detections=7, not_run={}, seconds={}, report=None,
        nights=("20250121",), **changed,
    )  # fmt: skip


def test_a_state_says_how_the_night_went():
    fine = verdict(summary())
    assert (fine.type, fine.name, fine.message) == ("COMPLETED", "Completed", "20250121: 3 exposures, 7 detections")
    bad = Trouble(uri="x.fits", code="truncated", message="x.fits: ends early.")
    some = verdict(summary(counts={"done": 2, "quarantined": 1}, quarantined=(bad,)))
    assert (some.type, some.name) == ("COMPLETED", "Quarantined")
    assert some.message.endswith("1 quarantined: x.fits: ends early.")
    poor = verdict(summary(quality_failed=(bad,)))
    assert (poor.type, poor.name) == ("FAILED", "PoorQuality")
    ended = verdict(summary(stopped=True))
    assert (ended.type, ended.name) == ("CRASHED", "Stopped")


def test_only_what_may_succeed_later_is_tried_again():
    def tried(error):
        return _may_succeed_later(search_scheduled, None, Failed(data=error))

    assert tried(Retryable("failed", "/out", "1 failed.", "run it again."))
    assert tried(MemoryError())
    assert not tried(Misconfigured("setting", "detect.threshold", "is 7.", "correct it."))
    assert tried(Misconfigured("prefect", "http://127.0.0.1:4200/api", "does not answer.", "start it."))


def test_a_cluster_that_is_not_there_in_time_is_tried_again(tmp_path):
    """Queues are full, and schedulers restarted: as a broken Prefect server, that may be over in ten minutes."""
    slurm = SlurmSettings(start_timeout_s=0.01, interface="lo")
    for kind, more in (("slurm", {"slurm": slurm}), ("address", {"address": "tcp://127.0.0.1:9"})):
        settings = Settings(cluster=ClusterSettings(kind=kind, **more))
        error = _no_workers(Cluster("tcp://127.0.0.1:9", 0, 0), settings, TimeoutError("no answer"))
        assert _may_succeed_later(search_scheduled, None, Failed(data=error))
    locked = tmp_path / "lock"
    with file_lock(locked, 1.0), pytest.raises(Misconfigured) as held, file_lock(locked, 0.01):
        pass
    assert _may_succeed_later(search_scheduled, None, Failed(data=held.value))


@pytest.mark.parametrize(("failed", "stopped"), [(0, False), (2, False), (2, True)])
def test_a_night_that_failed_is_tried_again_unless_it_was_stopped(tmp_path, monkeypatch, failed, stopped):
    bad = tuple(Trouble(uri=f"{n}.fits", code="deadline", message=f"{n}.fits: is late.") for n in range(failed))
    given = summary(counts={"done": 3 - failed, "failed": failed}, failed=bad, stopped=stopped)
    monkeypatch.setattr(scheduled_night, "get_run_logger", lambda: logging.getLogger("night"))
    monkeypatch.setattr("flows.inputs.sources.list_sources", lambda inputs, settings: inputs)
    monkeypatch.setattr("flows.nights.run.search_exposures", lambda *_, **__: given)
    monkeypatch.setattr(scheduled_night, "leave", lambda *_: None)
    if failed and not stopped:
        with pytest.raises(Retryable, match=r"2 failed, the first: 0\.fits: is late"):
            search_scheduled.fn([], str(tmp_path), None, None, None)
    else:
        assert search_scheduled.fn([], str(tmp_path), None, None, None) == given


def test_a_night_without_exposures_ends_without_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduled_night, "get_run_logger", lambda: logging.getLogger("night"))
    (tmp_path / "raw").mkdir()
    for inputs, why in ((tmp_path / "20261127", "there is no such file or folder"), (tmp_path / "raw", "no image")):
        assert why in search_scheduled.fn([str(inputs)], str(tmp_path / "out"), None, None, None)
    bad = tmp_path / "exposures.csv"
    bad.write_text("no,columns\n")
    with pytest.raises(Misconfigured, match="has the columns"):
        search_scheduled.fn([str(bad)], str(tmp_path / "out"), None, None, None)


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (2, 1), (None, 2)])
def test_the_figures_of_a_night_are_written_however_it_ends(tmp_path, monkeypatch, failed, code):
    """With no exposures, too: `NightstrideNightMissing` tells of schedules that stand still, not of closed domes."""
    monkeypatch.setattr(scheduled_night, "get_run_logger", lambda: logging.getLogger("night"))
    monkeypatch.setattr(scheduled_night, "leave", lambda *_: None)
    if failed is not None:
        bad = tuple(Trouble(uri=f"{n}.fits", code="deadline", message=f"{n}.fits: is late.") for n in range(failed))
        given = summary(counts={"done": 3 - failed, "failed": failed}, failed=bad)
        monkeypatch.setattr("flows.inputs.sources.list_sources", lambda inputs, settings: inputs)
        monkeypatch.setattr("flows.nights.run.search_exposures", lambda *_, **__: given)
    config, path = tmp_path / "night.toml", tmp_path / "nightstride.prom"
    config.write_text(f'[observe]\nmetrics_file = "{path}"\n')
    with pytest.raises(Retryable) if failed else nullcontext():
        search_scheduled.fn([str(tmp_path / "none")], str(tmp_path / "out"), str(config), None, None)
    told = path.read_text()
    assert f"nightstride_run_exit_code {code}.0" in told
    assert ('nightstride_run_exposures{state="done"}' in told) == (failed is not None)


def test_alert_packets_are_searched_as_by_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduled_night, "get_run_logger", lambda: logging.getLogger("night"))
    monkeypatch.setattr(scheduled_night, "leave", lambda *_: None)
    write(tmp_path / "20250121" / "0.avro", record(CANDID, np.zeros((63, 63))))
    with tarfile.open(tmp_path / "20250121.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "20250121" / "0.avro", "0.avro")
    searched = []

    def search(packets, place, settings, console):
        searched.extend(packets)
        return summary()

    monkeypatch.setattr("flows.nights.packet_run.search_packets", search)
    for name in ("20250121", "20250121.tar.gz"):
        assert search_scheduled.fn([str(tmp_path / name)], str(tmp_path / "out"), None, None, None) == summary()
    assert searched == [str(tmp_path / "20250121" / "0.avro"), str(tmp_path / "20250121.tar.gz")]


def test_who_holds_the_folder_is_said_whatever_it_is_called(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(scheduled_night, "get_run_logger", lambda: logging.getLogger("night"))
    out, raw = tmp_path / "[ztf][" / "r]", tmp_path / "raw.fits"
    raw.touch()
    with lease(out), caplog.at_level(logging.INFO), pytest.raises(Misconfigured, match="another run holds it"):
        search_scheduled.fn([str(raw)], str(out), None, 0.5, None)
    assert f"Waiting: {out}: another run holds it" in caplog.text


@pytest.mark.slow
@pytest.mark.services
class TestDeployment:
    def test_it_is_known_to_the_server(self, deployed):
        known = asked(deployed.folder, "deployments/name/scheduled-night/nightly")
        (schedule,) = known["schedules"]
        assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 9 * * *", "America/Los_Angeles")
        assert known["global_concurrency_limit"]["limit"] == 1
        assert known["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert known["tags"] == ["nightstride", "test"]
        assert known["parameters"]["inputs"] == [str(deployed.place / "raw" / "{night}")]
        only = {"deployment_id": {"any_": [known["id"]]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
        due = until(lambda: asked(deployed.folder, "flow_runs/filter", {"flow_runs": only}))
        assert {datetime.fromisoformat(one["expected_start_time"]).minute for one in due} == {0}

    def test_its_bytes_are_those_of_a_run_and_a_second_one_waits(self, deployed, uninterrupted):
        deployed.told.clear()
        first, second = (start(deployed.folder, "nightly", night=NIGHT) for _ in range(2))
        assert first.ended()[:2] == second.ended()[:2] == ("COMPLETED", "Completed")
        assert catalogues(deployed.place / "out") == catalogues(uninterrupted[1])
        times = sorted((one.known["start_time"], one.known["end_time"]) for one in (first, second))
        assert times[0][1] <= times[1][0]
        assert deployed.told == []
        # Prefect sends what is logged every two seconds, and the last of it as the process ends.
        (busy,) = until(lambda: [one for one in (first, second) if one.said.count(" done: ") == ALL], 60)
        assert busy.known["name"] == "nightly 2025-01-21"
        self.shows(busy)

    def shows(self, run):
        left = run.artifacts
        rows = {row["what"]: row["how much"] for row in json.loads(left["table"]["data"])}
        assert (rows["exposures seen"], rows["exposures done"]) == (str(ALL), str(ALL))
        assert left["table"]["key"] == "nightly-summary"
        assert "https://nights.test/20240809/index.html" in left["markdown"]["data"]
        assert left["image"]["data"].startswith("data:image/png;base64,")

    def test_it_waits_behind_another_run_for_as_long_as_that_takes_and_what_is_quarantined_is_told(self, deployed):
        shutil.copytree(deployed.place / "raw" / "20250121", deployed.place / "raw" / "20250122")
        broken = deployed.place / "raw" / "20250122" / "broken_[x](y).fits"
        broken.write_bytes(b"SIMPLE  =                    T")
        deployed.told.clear()
        with lease(deployed.place / "out") as holder:
            run = start(deployed.folder, "nightly", night="2025-01-22")
            run.says(f"another run holds it: process {holder.pid} on {holder.host}")
            assert run.known["state"]["type"] == "RUNNING"
            assert run.known["parameters"]["wait_s"] is None
        kind, name, message = run.ended()
        assert (kind, name) == ("COMPLETED", "Quarantined")
        assert "1 quarantined" in message
        assert "broken" in message
        (told,) = until(lambda: deployed.told)
        assert (told["state"], told["flow_run"]) == ("Quarantined", "nightly 2025-01-22")
        assert told["url"].endswith(run.identity)
        assert "secret-token" not in run.said

    def test_a_night_without_exposures_is_seen_and_told(self, deployed):
        deployed.told.clear()
        run = start(deployed.folder, "nightly", night="2025-01-23")
        assert run.ended()[:2] == ("COMPLETED", "NoExposures")
        assert [one["state"] for one in until(lambda: deployed.told)] == ["NoExposures"]
        assert "Traceback" not in run.said

    def test_what_cannot_succeed_fails_at_once_and_what_may_is_tried_again(self, deployed):
        deployed.told.clear()
        run = start(deployed.folder, "nightly", night=NIGHT, config="/nowhere.toml")
        kind, _, message = run.ended()
        assert kind == "FAILED"
        assert "/nowhere.toml: does not exist" in message
        assert [one["state"] for one in until(lambda: deployed.told)] == ["Failed"]
        assert self.attempts(deployed, run) == 1
        hurried, text = deployed.place / "hurried.toml", (deployed.place / "night.toml").read_text()
        hurried.write_text(text.replace("workers = 2", "workers = 2\nvisit_deadline_s = 0.001"))
        out = str(deployed.place / "hurried")
        run = start(deployed.folder, "nightly", night=NIGHT, config=str(hurried), out=out)
        kind, _, message = run.ended()
        assert kind == "FAILED"
        assert f"{ALL} failed, the first: " in message
        assert self.attempts(deployed, run) == 2

    def attempts(self, deployed, run):
        only = {"flow_runs": {"id": {"any_": [run.identity]}}}
        tasks = until(lambda: asked(deployed.folder, "task_runs/filter", only))
        return next(one["run_count"] for one in tasks if one["name"].startswith("search"))

    def test_alerts_of_each_visit_are_sent_and_those_that_cannot_be_are_tried_again(self, deployed, url, reader):
        out, silent = deployed.place / url.rpartition("/")[2], "kafka://127.0.0.1:1/alerts"
        run = self.alerted(deployed, out, url, 60)
        reader.follow(run.over)
        assert run.ended()[:2] == ("COMPLETED", "Completed")
        tables = [
            pq.read_table(path, partitioning=None) for path in (out / "catalogs" / "dia_source").rglob("*.parquet")
        ]
        ids = sorted(pa.concat_tables(tables)["diaSourceId"].to_pylist())
        assert sorted(int(message.key()) for message in reader.until(len(ids))) == ids
        rows = {row["what"]: row["how much"] for row in json.loads(run.artifacts["table"]["data"])}
        assert rows["alerts sent"] == str(len(ids))
        until(lambda: run.said.count("alerts of visit") == VISITS, 60)
        # Something waits for a broker that nobody runs: a night that has nothing to search tries to send it.
        waiting = {"NIGHTSTRIDE_ALERTS__KAFKA__DELIVERY_TIMEOUT_S": "1"}
        assert nightstride("alerts", "publish", out, "--to", silent, "--json", **waiting).summary["left"] == len(ids)
        run = self.alerted(deployed, out, silent, 1)
        kind, _, message = run.ended()
        assert (kind, self.attempts(deployed, run)) == ("FAILED", 2)
        assert f"1 failed, the first: alerts of night 20240809: {silent}: did not acknowledge" in message
        assert "did not acknowledge" in run.artifacts["markdown"]["data"]

    def alerted(self, deployed, out, to, timeout_s):
        config, text = deployed.place / "alerts.toml", (deployed.place / "night.toml").read_text()
        config.write_text(f'{text}[alerts]\nto = "{to}"\n[alerts.kafka]\ndelivery_timeout_s = {timeout_s}\n')
        return start(deployed.folder, "nightly", night=NIGHT, config=str(config), out=str(out))

    def test_server_and_database_may_be_away_in_the_middle(self, deployed, uninterrupted):
        out = deployed.place / "restarted"
        run = start(deployed.folder, "nightly", night=NIGHT, out=str(out))
        run.says(" done: ")
        down(deployed.folder, ["server", "postgres"], print)
        up(deployed.folder, print)
        assert run.ended()[:2] == ("COMPLETED", "Completed")
        assert catalogues(out) == catalogues(uninterrupted[1])
        self.shows(run)

    def test_a_killed_run_is_told_and_the_next_one_goes_on(self, deployed, uninterrupted):
        out = deployed.place / "killed"
        deployed.told.clear()
        run = start(deployed.folder, "nightly", night=NIGHT, out=str(out))
        run.says("starting the workers")
        family = Worker(deployed.folder).daemon.process.children(recursive=True)
        next(one for one in family if "prefect.engine" in one.cmdline()).kill()
        psutil.wait_procs(family, timeout=120)
        assert run.ended()[0] == "CRASHED"
        assert [one["state"] for one in until(lambda: deployed.told)] == ["Crashed"]
        again = start(deployed.folder, "nightly", night=NIGHT, out=str(out))
        assert again.ended()[:2] == ("COMPLETED", "Completed")
        assert catalogues(out) == catalogues(uninterrupted[1])


def test_each_line_is_logged_when_it_ends(caplog):
    with caplog.at_level(logging.INFO):
        log = RunLog(logging.getLogger("night"))
        log.write("one\n\ntwo, 100 % [bold]")
        assert caplog.messages == ["one"]
        log.write(" and more\nthree")
        assert caplog.messages == ["one", "two, 100 % [bold] and more"]


def test_a_console_writes_to_it(caplog):
    with caplog.at_level(logging.INFO):
        Console(file=RunLog(logging.getLogger("night")), width=200).print("exposure 1-0 done: 7 detections")
    assert caplog.messages == ["exposure 1-0 done: 7 detections"]


PALOMAR, PACHON = "America/Los_Angeles", "America/Santiago"


@pytest.mark.parametrize(
    ("moment", "timezone", "night"),
    [
        ("2025-01-22T17:00:00+00:00", PALOMAR, "20250121"),  # 09:00 in the morning after
        ("2025-01-22T19:59:59+00:00", PALOMAR, "20250121"),
        ("2025-01-22T20:00:00+00:00", PALOMAR, "20250122"),  # noon
        ("2025-01-22T03:00:00+00:00", PALOMAR, "20250121"),  # still the evening before, there
        ("2025-01-01T12:00:00+00:00", PACHON, "20241231"),
        ("2025-03-09T18:59:59+00:00", PALOMAR, "20250308"),  # clocks were put forward in this night
        ("2025-03-09T19:00:00+00:00", PALOMAR, "20250309"),
        ("2025-11-02T19:59:59+00:00", PALOMAR, "20251101"),  # and back
        ("2025-01-21T23:30:00+00:00", "Pacific/Kiritimati", "20250122"),
    ],
)
def test_a_night_is_from_noon_to_noon_and_named_by_its_evening(moment, timezone, night):
    assert observing_night(datetime.fromisoformat(moment), timezone) == datetime.strptime(night, "%Y%m%d").date()


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)), st.sampled_from([PALOMAR, PACHON])
)
def test_its_label_is_that_of_the_headers(moment, timezone):
    """By `floor(MJD + longitude / 360 - 1/2)` (docs/use/input.md), at a longitude in the middle of its zone."""
    local = moment.astimezone(ZoneInfo(timezone))
    days = (moment - datetime(1858, 11, 17, tzinfo=UTC)) / timedelta(days=1)
    longitude = local.utcoffset() / timedelta(days=1)
    assert observing_night(moment, timezone) == date(1858, 11, 17) + timedelta(days=(days + longitude - 0.5) // 1)


def test_inputs_name_the_night():
    patterns = ["/data/{night}", "s3://bucket/{night:%Y/%m%d}/*_{night}_*.fits.fz", "/data/all"]
    assert inputs_of(patterns, date(2025, 1, 2)) == [
        "/data/20250102",
        "s3://bucket/2025/0102/*_20250102_*.fits.fz",
        "/data/all",
    ]


@pytest.mark.parametrize("pattern", ["/data/{date}", "/data/{night", "/data/{night!r}", "/data/{}", "/data/{night:}"])
def test_other_braces_are_refused(pattern):
    with pytest.raises(Misconfigured, match=r"has braces that name no night.*\{night:%Y-%m-%d\}"):
        inputs_of([pattern], date(2025, 1, 2))


def test_what_is_no_zone_is_refused():
    for timezone in ("Palomar", "", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(Misconfigured, match="is not a time zone of the IANA"):
            observing_night(datetime.now(UTC), timezone)


@pytest.mark.parametrize("name", ["", "ztf/nightly", "100 %"])
def test_a_name_that_prefect_refuses_is_refused_before(name):
    with pytest.raises(Misconfigured, match=r"is no name for Prefect\. To fix, leave out / % & < >"):
        Deployment(name, ("/data/{night}",), "/out", "America/Los_Angeles", "0 9 * * *")


def test_a_server_without_the_work_pool_is_told(prefect_api):
    """In a process of its own: Prefect reads the environment as it is imported."""
    code = (
        "from tests.flows.nights.schedule.test_scheduled_night import GIVEN\n"
        "from flows.nights.schedule.scheduled_night import register\nregister(GIVEN)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **prefect_api}, check=False
    )
    assert re.search(
        r"Misconfigured: PREFECT_API_URL: its server refuses .*\"nightstride\" not found.* To fix, start its worker",
        run.stderr,
    ), run.stderr


GIVEN = Deployment("nightly", ("/data/{night}",), "/out", "America/Los_Angeles", "0 9 * * *")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cron": "every night"}, r'every night: is not a schedule.*"0 9 \* \* \*"'),
        ({"timezone": "Palomar"}, "Palomar: is not a time zone"),
        ({"inputs": ("/data/{date}",)}, r"/data/\{date\}: has braces that name no night"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_server_hears_of_it(changed, said):
    with pytest.raises(Misconfigured, match=said):
        register(Deployment(**{**vars(GIVEN), **changed}))


def test_parameters_are_those_of_the_flow():
    from flows.nights.schedule.scheduled_night import scheduled_night

    assert scheduled_night.validate_parameters(GIVEN.parameters).keys() == scheduled_night.parameters.properties.keys()
