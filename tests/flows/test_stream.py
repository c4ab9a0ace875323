import shutil
import signal
import time
from dataclasses import replace

import psutil
import pytest

from benchmarks.faults.kafka_broker import Broker
from flows.adapters.ledger import Ledger
from flows.status import read_status
from flows.verify import verify
from schemas.dia_source import DIA_SOURCE
from schemas.injection import INJECTION
from tests.flows.night_support import DETECTORS, VISITS, catalogues

pytest_plugins = ("tests.flows.night_fixture",)
ALL = VISITS * DETECTORS
TABLES = {"dia_source": DIA_SOURCE, "injection": INJECTION}


@pytest.fixture(scope="module")
def watch(nightstride_run):
    """Ends by itself when nothing has arrived for a while."""
    options = ("--still", "0.2", "--poll", "0.1", "--quiet", "600", "--idle-exit", "4")
    return replace(nightstride_run, verb="watch", arguments=options)


@pytest.fixture
def arriving(tmp_path):
    folder = tmp_path / "arriving"
    folder.mkdir()
    return folder


def deliver(raw, folder, keep=lambda name: True):
    """Move files in as a careful writer does: under another name first, what goes with an image before the image."""
    for path in sorted(raw.glob("ztf_*"), key=lambda path: "scimrefdiffimg" in path.name):
        if keep(path.name):
            shutil.copyfile(path, folder / f".{path.name}")
            (folder / f".{path.name}").rename(folder / path.name)


def wait_until(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_what_arrives_in_pieces_and_twice_gives_the_bytes_of_a_run(watch, raw_night, uninterrupted, arriving, tmp_path):
    out = tmp_path / "out"
    process = watch.start(arriving, "--out", out)
    wait_until((out / "ledger" / "watch.json").exists, process)
    deliver(raw_night, arriving, lambda name: "_q1_" in name)
    wait_until(lambda: len(Ledger(out).files()) == VISITS, process)
    deliver(raw_night, arriving, lambda name: "_q2_" in name)
    first = min(raw_night.glob("*scimrefdiffimg*"))
    shutil.copyfile(first, arriving / f"again_{first.name}")
    (arriving / "half.fits").write_bytes(first.read_bytes()[:5000])
    _, stderr = process.communicate(timeout=1800)
    assert process.returncode == 1, stderr  # for the half file
    assert catalogues(out) == catalogues(uninterrupted[1])
    assert verify(out, TABLES).problems == ()
    status = read_status(out)
    assert [one.exposures for one in status.nights if one.night != "unknown"] == [{"done": ALL}]
    counts = status.watch.exposures
    assert (counts.seen, counts.done, counts.skipped, counts.quarantined) == (ALL + 2, ALL, 1, 1)
    assert (status.watch.state, status.watch.on_the_way, status.watch.waiting) == ("ended", 0, 0)
    assert status.watch.lag_s.n == status.watch.turnaround_s.n == ALL
    assert 0 < status.watch.turnaround_s.p50 <= status.watch.turnaround_s.p99


@pytest.mark.slow
def test_a_signal_lets_finish_what_is_on_its_way_and_the_next_watch_does_the_rest(
    watch, raw_night, uninterrupted, arriving, tmp_path
):
    out = tmp_path / "out"
    deliver(raw_night, arriving)
    process = watch.start(arriving, "--out", out, "--queue", "1", NIGHTSTRIDE_EXECUTION__WORKERS="1")
    wait_until(lambda: list(out.glob("tiles/*/*.zarr")), process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=1800)
    assert process.returncode == 0, stderr
    _, left = psutil.wait_procs(children, timeout=60)
    assert left == []
    done = len(Ledger(out).files())
    assert 0 < done < ALL
    assert f'"done":{done}' in stdout
    assert verify(out, TABLES).problems == ()
    again = watch(arriving, "--out", out)
    assert again.counts == (ALL, ALL - done, done, 0, 0), again.stderr
    assert catalogues(out) == catalogues(uninterrupted[1])


@pytest.mark.slow
def test_what_is_too_late_is_shed_and_recorded_and_a_run_does_it(
    watch, nightstride_run, raw_night, uninterrupted, arriving, tmp_path
):
    out = tmp_path / "out"
    deliver(raw_night, arriving)
    run = watch(arriving, "--out", out, "--deadline", "0.001")
    assert run.counts == (ALL, 0, 0, 0, ALL), run.stderr
    assert {one["code"] for one in run.summary["failed"]} == {"deadline"}
    (night,) = read_status(out).nights
    assert night.exposures == {"failed": ALL}
    assert {trouble.code for trouble in night.troubles} == {"deadline"}
    assert nightstride_run(raw_night, "--out", out).counts == (ALL, ALL, 0, 0, 0)
    assert catalogues(out) == catalogues(uninterrupted[1])


@pytest.mark.slow
def test_a_topic_announces_exposures_twice_and_nonsense_and_is_read_once(watch, raw_night, uninterrupted, tmp_path):
    broker, out = Broker(), tmp_path / "out"
    files = [str(path) for path in sorted(raw_night.glob("*scimrefdiffimg*"))]
    broker.send("exposures", *files, *files[:2], "no such file")
    source = f"kafka://{broker.address}/exposures?group=night"
    run = watch(source, "--out", out)
    assert run.code == 1, run.stderr
    assert run.counts == (ALL + 1 + run.counts[2], ALL, run.counts[2], 1, 0)
    assert [one["code"] for one in run.summary["quarantined"]] == ["no_such_input"]
    assert catalogues(out) == catalogues(uninterrupted[1])
    again = watch(source, "--out", out)
    assert again.counts == (0, 0, 0, 0, 0), again.stderr  # everything was committed
