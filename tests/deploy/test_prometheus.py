import json
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from benchmarks.support.moto_server import free_port
from tests.deploy.test_grafana import TARGETS
from tests.support.exported import exported
from tests.support.night import DETECTORS, TWO_WORKERS, VISITS
from tests.support.promql import asked, filled
from tests.support.services import absent
from tests.support.wait import until

pytest_plugins = ("tests.support.night_fixture",)
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
RULES = yaml.safe_load((FOLDER / "nightstride.rules.yml").read_text())["groups"][0]["rules"]

WITHOUT = {"GPU memory of the workers", "Last night of a backfill"}
"""Panels that a stream on a machine without a GPU has nothing for."""


@pytest.fixture
def tool():
    def run(name, *arguments):
        return subprocess.run([_found(name), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)

    return run


def _found(name):
    path = shutil.which(name)
    if path is None:
        absent(f"{name} is not installed: apt-get install prometheus prometheus-node-exporter")
    return path


@pytest.mark.services
@pytest.mark.parametrize(
    "check",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", "nightstride.rules.yml"),
        ("test", "rules", "nightstride.rules.test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_own_checks_pass(tool, check):
    result = tool("promtool", *check)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_looks_at_what_is_exported_and_says_what_to_do(rule):
    known = {**exported(), "up": set()}
    for name, matched in asked(rule["expr"]).items():
        assert name in known
        assert matched <= known[name] | {"instance", "job"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_a_page_that_names_it(rule):
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    text = (ROOT / page).with_suffix(".md").read_text()
    assert f"`{rule['alert']}`" in text.partition(f"\n## {anchor.capitalize()}\n")[2].partition("\n## ")[0]


def test_each_alert_is_tried_quiet_and_firing():
    tests = yaml.safe_load((FOLDER / "nightstride.rules.test.yml").read_text())["tests"]
    names = {rule["alert"] for rule in RULES}
    assert {one["alertname"] for one in tests[0]["alert_rule_test"]} == names
    (firing,) = tests[1]["promql_expr_test"]
    assert firing["exp_samples"][0]["value"] == len(names)


class Prometheus:
    """A server that scrapes two addresses each second."""

    def __init__(self, folder, live, textfile):
        self.port = free_port()
        scrapes = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for name, port in (("nightstride", live), ("node", textfile))
        ]
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [
                _found("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, expression):
        query = urlencode({"query": filled(expression, "5m")})
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=60) as answer:
            return [float(one["value"][1]) for one in json.load(answer)["data"]["result"]]


def seen(condition, *processes):
    def holds():
        for process in processes:
            assert process.poll() is None, process.communicate()
        with suppress(OSError):  # not up yet
            return condition()

    until(holds, every=0.2)


def without_data(server):
    return {title for title, expression in TARGETS if not [one for one in server.ask(expression) if one == one]}


@pytest.mark.slow
@pytest.mark.services
def test_every_panel_has_data_of_a_stream_and_a_night(nightstride_run, raw_night, tmp_path):
    exporter_path = _found("prometheus-node-exporter")
    texts, arriving = tmp_path / "texts", tmp_path / "arriving"
    texts.mkdir()
    arriving.mkdir()
    night = nightstride_run.here(raw_night, "--out", tmp_path / "out", "--metrics-file", texts / "nightstride.prom")
    assert night.code == 0, night.stderr
    live, textfile = free_port(), free_port()
    options = ("--still", "0.2", "--poll", "0.1", "--quiet", "2", "--metrics", live)
    watch = replace(nightstride_run, verb="watch", arguments=options)
    stream = watch.start(arriving, "--out", tmp_path / "stream", **TWO_WORKERS)
    exporter = subprocess.Popen(
        [
            exporter_path, "--collector.disable-defaults", "--collector.textfile",
            f"--collector.textfile.directory={texts}", f"--web.listen-address=127.0.0.1:{textfile}",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = Prometheus(tmp_path, live, textfile)
    started = (stream, exporter, server.process)
    try:
        # A rate needs figures from before there was anything.
        seen(lambda: server.ask("nightstride_workers") == [2] and server.ask("nightstride_run_exit_code"), *started)
        for path in sorted(raw_night.glob("ztf_*"), key=lambda path: "scimrefdiffimg" in path.name):
            shutil.copyfile(path, arriving / f".{path.name}")
            (arriving / f".{path.name}").rename(arriving / path.name)
        done = 'nightstride_exposures_total{state="done"}'
        seen(lambda: server.ask(done) == [VISITS * DETECTORS], *started)
        seen(lambda: server.ask("nightstride_worker_memory_bytes"), *started)
        # The last figures are there one scrape after the last exposure.
        seen(lambda: without_data(server) <= WITHOUT, *started)
        assert server.ask("nightstride_run_exposures{state='done'}") == [VISITS * DETECTORS]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.communicate()  # which closes its pipes
