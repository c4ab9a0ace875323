import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from flows.vetting.verdicts import VerdictStore
from schemas.vetting import LABEL, Verdict
from tests.support.cli import nightstride
from tests.support.shared import made_once
from tests.support.vetting import NIGHT, TOKEN, build, source_id


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return made_once(tmp_path_factory, "vet", lambda folder: build(folder / "out")) / "out"


def test_labels_are_exported(out, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "ledger").symlink_to(out / "ledger")
    to = tmp_path / "labels.parquet"
    run = nightstride("vet", folder, "--export", to, "--json")
    assert run.code == 2
    assert run.summary["error"]["code"] == "no_verdict"
    VerdictStore(folder).add("a", NIGHT, source_id(101, 0), (80.0, 200.0), Verdict.ARTEFACT, blind=False)
    run = nightstride("vet", folder, "--export", to, "--json")
    assert (run.code, run.summary) == (0, {"labels": 1, "path": str(to)})
    table = pq.read_table(to)
    assert table.schema.equals(LABEL.schema)
    assert table["label"].to_pylist() == ["artefact"]
    assert nightstride("vet", folder, "--export", to, "--night", f"..{NIGHT}").code == 0
    none = nightstride("vet", folder, "--export", to, "--night", "20200101..20200103", "--json")
    assert "no verdict of nights 20200101 to 20200103" in none.summary["error"]["problem"]


@pytest.mark.parametrize("name", ["labels.csv", "labels", "labels.parquet.gz"])
def test_labels_into_another_format_are_refused_before_anything_is_written(out, tmp_path, name):
    run = nightstride("vet", out, "--export", tmp_path / name, "--json")
    assert (run.code, run.summary["error"]["code"]) == (2, "other_format")
    told = " ".join(nightstride("vet", out, "--export", tmp_path / name).stderr.split())
    assert f"--export {tmp_path / name}: does not end in .parquet" in told
    assert "To fix, name it labels.parquet" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (("--host", "0.0.0.0"), {}, "no_token"),
        (("--host", "0.0.0.0"), {"NIGHTSTRIDE_VET_TOKEN": "short"}, "short_token"),
        (("--night", "20200101"), {}, "no_night"),
        (("--night", "20200101..20200103"), {}, "no_night"),
        (("--host", "192.0.2.77"), {"NIGHTSTRIDE_VET_TOKEN": TOKEN}, "bad_host"),
    ],
)
def test_what_cannot_be_served_is_refused(out, arguments, environment, code):
    run = nightstride("vet", out, *arguments, "--port", 0, "--json", **environment)
    assert (run.code, run.summary["error"]["code"]) == (2, code)


def test_a_folder_that_is_none_is_refused(tmp_path):
    assert nightstride("vet", tmp_path / "nothing").code == 2
    assert not (tmp_path / "nothing").exists()


@pytest.mark.slow
def test_it_serves_until_it_is_told_to_stop(out):
    command = [Path(sys.executable).with_name("nightstride"), "vet", out, "--port", "0", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "NIGHTSTRIDE_VET_TOKEN"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        told = json.loads(process.stdout.readline())
        assert told["candidates"] == 36
        assert told["address"].startswith("http://127.0.0.1:")
        assert httpx.get(told["address"].partition("?")[0], trust_env=False).status_code == 401
        found = httpx.get(told["address"], trust_env=False, follow_redirects=True, timeout=60)
        assert found.status_code == 200
        assert "36 of 36 detections" in found.text
    finally:
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    "arguments", [("--labels", "x.parquet"), ("--night-out", "x"), ("--labels", "x", "--night-out", "x", "--calibrate")]
)
def test_training_wants_labels_and_their_nights(arguments):
    assert nightstride("train", "detect", *arguments).code == 2
