"""A night with everything that can be seen of it, looked at by real receivers."""

import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.support.moto_server import free_port
from tests.support.night import DETECTORS, TWO_WORKERS, VISITS, catalogues
from tests.support.otlp import receiver
from tests.support.wait import until

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = pytest.mark.slow
ALL = VISITS * DETECTORS


@dataclass(frozen=True)
class Seen:
    """What was seen of a run, and what it published."""

    pid: int
    code: int
    summary: dict
    lines: list
    spans: list
    scrapes: list
    figures: dict
    catalogues: dict


def read(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(port):
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found = read(answer.read().decode())
            return [found] if ("nightstride_windows_total",) in found else []  # another's, who had the port before
    except (URLError, ConnectionError):
        return []


@pytest.fixture(scope="module")
def seen(nightstride_run, raw_night, tmp_path_factory):
    """A night with one file that is not one."""
    folder = tmp_path_factory.mktemp("seen")
    raw = shutil.copytree(raw_night, folder / "raw")
    (raw / "ztf_bad_scimrefdiffimg.fits").write_bytes(min(raw.glob("*scimrefdiffimg*")).read_bytes()[:5000])
    port, scrapes = free_port(), []
    with receiver() as collector:
        process = nightstride_run.start(
            raw, "--out", folder / "out", "--metrics", port, "--metrics-file", folder / "night.prom",
            "--log-format", "json", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_HEADERS="authorization=swordfish", AWS_SECRET_ACCESS_KEY="hunter22hunter",
            **TWO_WORKERS,
        )  # fmt: skip
        until(lambda: scrapes.extend(scrape(port)) or process.poll() is not None, every=0.1)
        stdout, stderr = process.communicate(timeout=1800)
        authorised = {headers["authorization"] for headers in collector.headers}
    assert authorised == {"swordfish"}
    lines = [json.loads(line) for line in stderr.splitlines()]
    figures = read((folder / "night.prom").read_text())
    summary = json.loads(stdout.splitlines()[-1])
    assert "swordfish" not in stderr
    found = catalogues(folder / "out")
    return Seen(process.pid, process.returncode, summary, lines, list(collector.spans), scrapes, figures, found)


def test_who_looks_changes_nothing(seen, uninterrupted):
    assert seen.code == 3
    assert seen.summary["exposures"] == {"seen": ALL + 1, "done": ALL, "skipped": 0, "quarantined": 1, "failed": 0}
    assert seen.catalogues == catalogues(uninterrupted[1])


def test_each_line_is_json_with_time_level_event_and_run(seen):
    for line in seen.lines:
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
        assert line["level"] in ("info", "warning")
        assert line["event"]
    assert len({line["run"] for line in seen.lines}) == 1
    last = seen.lines[-1]
    assert (last["event"], last["exit_code"], last["summary"]) == ("run ended", 3, seen.summary)
    assert not [line for line in seen.lines if line["logger"].startswith("distributed") and line["level"] == "info"]


BESIDE = {"associate", "note_published", "make_associated", "make_static", "recoveries", "measured", "page"}
"""What the process beside that of the run does."""


def test_the_flow_logs_each_exposure_and_workers_each_task(seen):
    done = [line for line in seen.lines if line["event"] == "exposure done"]
    assert len(done) == ALL
    assert sum(line["windows"] for line in done) == seen.summary["windows"]
    assert sum(line["detections"] for line in done) == seen.summary["detections"]
    tasks = [line for line in seen.lines if "task" in line]
    assert Counter(line["task"] for line in tasks)["store"] == ALL
    assert {line["pid"] for line in done} == {seen.pid}
    aside = [line for line in tasks if line["task"] in BESIDE]
    assert {line["task"] for line in aside} == BESIDE
    (other,) = {line["pid"] for line in aside} - {seen.pid}
    tasks = [line for line in tasks if line not in aside]
    assert len({line["pid"] for line in tasks} - {seen.pid, other}) == 2
    for line in done + tasks:
        if line.get("task") == "patch":
            assert re.fullmatch(r"5-\d+", line["patch"])
        elif line.get("task") != "night":
            assert line["exposure"] == f"{line['visit']}-{line['detector']}"
        assert line["night"] == seen.summary["nights"][0]
        assert len(line["trace"]) == 32


def test_spans_of_workers_are_children_of_those_of_the_flow(seen):
    by_id = {one.id: one for one in seen.spans}
    parents = Counter((one.name, by_id[one.parent].name if one.parent else None) for one in seen.spans)
    assert {one.trace for one in seen.spans} == {line["trace"] for line in seen.lines if "task" in line}
    assert parents["run", None] == parents["nightly", "run"] == 1
    assert parents["visit", "nightly"] == VISITS
    for name, parent, times in (("exposure", "visit", 1), ("store", "exposure", 1), ("beside", "exposure", 2),
                                ("measurement", "exposure", 1), ("finish", "exposure", 1)):  # fmt: skip
        assert parents[name, parent] == times * ALL
    assert parents["search", "exposure"] >= ALL
    for part, task in {
        "read": "store", "inspect": "store", "write tiles": "store", "detect": "search", "merge": "measurement",
        "measure": "measurement", "inject": "beside", "publish": "finish", "find_sources": "beside",
        "negate": "beside", "choose_injected": "finish",
    }.items():  # fmt: skip
        assert parents[part, task] >= ALL
        assert {pair for pair in parents if pair[0] == part} <= {
            (part, task),
            (part, "objects"),
            (part, "patch"),
            (part, "make_associated"),
            (part, "make_static"),
            (part, "night"),
        }
    assert parents["patch", "objects"] >= 1
    assert parents["night", "objects"] == 1
    assert parents["objects", "run"] == parents["report", "run"] == 1
    pids = {
        one.name: {other.resource["process.pid"] for other in seen.spans if other.name == one.name}
        for one in seen.spans
    }
    assert pids["run"] == pids["exposure"] == {seen.pid}
    assert seen.pid not in pids["store"] | pids["search"] | pids["finish"] | pids["detect"]


def test_spans_lie_within_what_they_are_part_of_and_name_the_exposure(seen):
    by_id = {one.id: one for one in seen.spans}
    for one in seen.spans:
        if one.parent:
            assert by_id[one.parent].start - 5e6 <= one.start <= one.end <= by_id[one.parent].end + 5e6
        if one.name in ("exposure", "store", "search", "finish"):
            assert one.attributes["nightstride.night"] == seen.summary["nights"][0]
            assert one.attributes["nightstride.exposure"].startswith(f"{one.attributes['nightstride.visit']}-")
    worked = sum(one.end - one.start for one in seen.spans if one.name == "detect") / 1e9
    assert worked == pytest.approx(seen.summary["seconds"]["detect"], abs=0.05)


def test_live_figures_grow_to_those_of_the_summary(seen):
    windows = [one["nightstride_windows_total",] for one in seen.scrapes]
    assert windows == sorted(windows)
    last = seen.scrapes[-1]
    assert last["nightstride_windows_total",] == seen.summary["windows"]
    assert last["nightstride_detections_total",] == seen.summary["detections"]
    for state in ("done", "skipped", "quarantined", "failed"):
        assert last["nightstride_exposures_total", ("state", state)] == seen.summary["exposures"][state]
    assert last["nightstride_lag_seconds_count",] == ALL
    assert last["nightstride_exposures_left",] == 0
    for part in ("read", "detect", "measure"):
        counted = last["nightstride_worker_seconds_total", ("part", part)]
        assert counted == pytest.approx(seen.summary["seconds"][part], abs=1e-3)
    made = seen.summary["catalogues"]
    assert {"dia_object", "tracklet"} <= made.keys()
    assert {name: last["nightstride_catalogue_rows", ("dataset", name)] for name in made} == made
    assert last["nightstride_patches_total", ("state", "done")] >= 1
    known, new, rest = (last["nightstride_associated_total", ("state", one)] for one in ("known", "new", "left_out"))
    assert known + new == made["dia_object_source"]
    assert known + new + rest == seen.summary["detections"]
    during = [one for one in seen.scrapes if one.get(("nightstride_workers",)) == 2]
    assert during
    assert all(during[-1]["nightstride_worker_memory_bytes", ("worker", name)] > 2**20 for name in "01")
    assert not [name for one in seen.scrapes for name in one if name[0] == "nightstride_worker_gpu_memory_bytes"]


def test_the_file_is_what_the_summary_says(seen):
    for state in ("done", "skipped", "quarantined", "failed"):
        assert seen.figures["nightstride_run_exposures", ("state", state)] == seen.summary["exposures"][state]
    assert seen.figures["nightstride_run_windows",] == seen.summary["windows"]
    assert seen.figures["nightstride_run_detections",] == seen.summary["detections"]
    for name, rows in seen.summary["catalogues"].items():
        assert seen.figures["nightstride_run_catalogue_rows", ("dataset", name)] == rows
    assert seen.figures["nightstride_run_duration_seconds",] == seen.summary["seconds"]["wall"]
    assert seen.figures["nightstride_run_exit_code",] == seen.code
    assert seen.figures["nightstride_run_lag_seconds", ("quantile", "0.5")] > 0


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("where", ["endpoint", "input", "out"])
def test_no_password_of_an_address_is_ever_said(nightstride_run, raw_night, tmp_path, where, form):
    given = {"input": raw_night, "out": tmp_path / "out"}
    environment = {}
    if where == "endpoint":
        environment["NIGHTSTRIDE_STORE__ENDPOINT"] = "http://me:hunter22@127.0.0.1:9"
    else:
        given[where] = "s3://me:hunter22@bucket/night"
    run = nightstride_run.here(given["input"], "--out", given["out"], "--log-format", form, **environment)
    assert run.code == 2
    assert "hunter22" not in run.stdout + run.stderr
    assert run.stderr


def test_of_dask_nothing_is_said_in_a_night_that_goes_well(uninterrupted):
    assert "distributed" not in uninterrupted[0].stderr
