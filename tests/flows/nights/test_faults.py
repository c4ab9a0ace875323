"""What a night survives: bad files, killed processes, too little time, a second run."""

import json
import os
import re
import shutil
import signal

import numpy as np
import psutil
import pytest
from astropy.io import fits

from flows.results.verify import verify_output
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.injection import INJECTION
from schemas.negative import NEGATIVE
from tests.support.night import DETECTORS, TWO_WORKERS, VISITS, catalogues, of_exposures
from tests.support.wait import until

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = pytest.mark.slow
ALL = VISITS * DETECTORS


@pytest.fixture
def bare(uninterrupted, tmp_path):
    """A copy of a finished night of which only the tiles are left: quick to do again."""
    out = tmp_path / "out"
    shutil.copytree(uninterrupted[1] / "tiles", out / "tiles")
    (out / "ledger").mkdir()
    shutil.copy(uninterrupted[1] / "ledger" / "index.sqlite", out / "ledger")
    return out


def rewritten(source, target, pixels=None, **cards):
    """Write a changed copy of a difference image; a card of None is left out."""
    with fits.open(source) as hdus:
        header, data = hdus[1].header.copy(), hdus[1].data.copy()
    for name, value in cards.items():
        if value is None:
            del header[name]
        else:
            header[name] = value
    image = fits.CompImageHDU(
        data if pixels is None else pixels(data), header, compression_type="RICE_1", quantize_level=4
    )
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(target)


def test_bad_files_are_quarantined_and_the_night_goes_on(nightstride_run, raw_night, uninterrupted, tmp_path):
    raw = shutil.copytree(raw_night, tmp_path / "raw")
    good = sorted(raw.glob("*scimrefdiffimg*"))
    content = good[0].read_bytes()
    (raw / "a_truncated.fits.fz").write_bytes(content[: len(content) // 2])
    (raw / "b_no_fits.fits").write_text("no image")
    rewritten(good[0], raw / "c_no_exposure.fits.fz", EXPID=None)
    rewritten(good[0], raw / "d_nan.fits.fz", lambda data: np.full_like(data, np.nan), EXPID=41)
    shutil.copyfile(good[0], raw / "zz_copy.fits.fz")
    rewritten(good[1], raw / "zz_other.fits.fz", lambda data: data + 1)
    run = nightstride_run.here(raw, "--out", tmp_path / "out")
    assert run.code == 3, run.stderr
    assert run.counts == (ALL + 6, ALL, 1, 5, 0)
    codes = {trouble["uri"].rpartition("/")[2]: trouble["code"] for trouble in run.summary["quarantined"]}
    assert codes.keys() == {
        "a_truncated.fits.fz", "b_no_fits.fits", "c_no_exposure.fits.fz", "d_nan.fits.fz", "zz_other.fits.fz",
    }  # fmt: skip
    assert codes["a_truncated.fits.fz"] == "truncated"
    assert codes["b_no_fits.fits"] == "not_fits"
    assert codes["zz_other.fits.fz"] == "conflict"
    assert "EXPID" in next(one["message"] for one in run.summary["quarantined"] if "c_no" in one["uri"])
    assert len(list((tmp_path / "out" / "quarantine").glob("*.json"))) == 5
    assert catalogues(tmp_path / "out") == catalogues(uninterrupted[1])
    again = nightstride_run.here(raw, "--out", tmp_path / "out", PREFECT_API_URL="http://127.0.0.1:9/none")
    assert again.code == 3
    assert again.counts == (ALL + 6, 0, ALL + 1, 5, 0), again.stderr


def test_a_flood_is_quarantined_and_a_higher_limit_lifts_it(nightstride_run, raw_night, uninterrupted, bare):
    rows = {record.name: record.detections for record in Ledger(uninterrupted[1]).records()}
    limit = sorted(rows.values())[ALL // 2 - 1]
    flooded = sum(count > limit for count in rows.values())
    assert flooded
    run = nightstride_run.here(raw_night, "--out", bare, NIGHTSTRIDE_EXECUTION__MAX_DETECTIONS=str(limit))
    assert run.counts == (ALL, ALL - flooded, 0, flooded, 0), run.stderr
    assert {trouble["code"] for trouble in run.summary["quarantined"]} == {"flood"}
    lifted = nightstride_run.here(raw_night, "--out", bare)
    assert lifted.counts == (ALL, flooded, ALL - flooded, 0, 0), lifted.stderr
    assert catalogues(bare) == catalogues(uninterrupted[1])


def test_a_file_that_goes_bad_takes_its_catalogue_with_it(nightstride_run, raw_night, uninterrupted, tmp_path):
    raw, out = shutil.copytree(raw_night, tmp_path / "raw"), tmp_path / "out"
    shutil.copytree(uninterrupted[1], out)
    for record in Ledger(out).records():
        Ledger(out).put(record.model_copy(update={"source_uri": record.source_uri.replace(str(raw_night), str(raw))}))
    victim = min(raw.glob("*scimrefdiffimg*"))
    rewritten(victim, raw / "new.fits", lambda data: np.zeros_like(data))
    (raw / "new.fits").replace(victim)
    run = nightstride_run.here(raw, "--out", out)
    assert run.counts == (ALL, 0, ALL - 1, 1, 0), run.stderr
    assert len(of_exposures(out)) == 4 * (ALL - 1)
    assert verify_output(out, {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}).problems == ()


def test_what_does_not_fit_into_the_time_is_counted_and_done_by_the_next_run(
    nightstride_run, raw_night, uninterrupted, tmp_path
):
    out = tmp_path / "out"
    run = nightstride_run.here(raw_night, "--out", out, NIGHTSTRIDE_EXECUTION__VISIT_DEADLINE_S="0.001")
    assert run.code == 1
    assert run.counts == (ALL, 0, 0, 0, ALL), run.stderr
    assert {trouble["code"] for trouble in run.summary["failed"]} == {"deadline"}
    assert run.summary["quarantined"] == []
    assert nightstride_run.here(raw_night, "--out", out).counts == (ALL, ALL, 0, 0, 0)
    assert catalogues(out) == catalogues(uninterrupted[1])


OWN_SERVER = {"PREFECT_API_URL": None, "PREFECT_API_AUTH_STRING": None}


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_of_a_terminal_lets_finish_what_is_on_its_way(
    nightstride_run, raw_night, uninterrupted, tmp_path, number
):
    """Ctrl-C reaches every process of the command's group: workers and the server of the flow outlive it."""
    out = tmp_path / "out"
    process = nightstride_run.start(raw_night, "--out", out, **OWN_SERVER)
    until(lambda: list(out.glob("catalogs/dia_source/**/*.parquet")), process=process)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (0, 1, 128 + number), stderr
    assert "Traceback" not in stderr
    assert "Warning" not in stderr
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert nightstride_run.here(raw_night, "--out", out).code == 0
    assert catalogues(out) == catalogues(uninterrupted[1])


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_workers_start_leaves_nothing_behind(nightstride_run, raw_night, tmp_path, number):
    process = nightstride_run.start(raw_night, "--out", tmp_path / "out", **OWN_SERVER)
    until(lambda: len(psutil.Process(process.pid).children(recursive=True)) > 2, process=process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert "Traceback" not in stderr
    assert "Warning" not in stderr
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_a_second_run_on_the_folder_is_told_who_holds_it(nightstride_run, raw_night, tmp_path):
    with lease(tmp_path / "out") as holder:
        run = nightstride_run.here(raw_night, "--out", tmp_path / "out")
    assert (run.code, [*json.loads(run.stdout)]) == (4, ["error"])
    assert f"process {holder.pid}" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("nowhere",), {}, "nowhere"),
        ((), {"NIGHTSTRIDE_EXECUTION__WORKER_MEMORY_GIB": "0.3"}, r"takes up to 0.\d\d GiB, a worker has 0.30 GiB"),
        ((), {"NIGHTSTRIDE_TILES__TILE": "100"}, "must be a multiple of stride"),
        ((), {"NIGHTSTRIDE_DETECT__MODEL": "no_such"}, "there is no model 'no_such'"),
        (("--scheduler", "tcp://127.0.0.1:9"), {}, "no Dask scheduler"),
        (("--config", "nowhere.toml"), {}, "nowhere.toml: does not exist"),
    ],
)
def test_what_no_exposure_could_survive_stops_the_run_before_any_work(
    nightstride_run, raw_night, tmp_path, arguments, environment, says
):
    run = nightstride_run.here(raw_night, *arguments, "--out", tmp_path / "out", **environment)
    assert (run.code, [*json.loads(run.stdout)]) == (2, ["error"]), run.stderr
    assert "To fix, " in run.stderr
    assert re.search(says, run.stderr.replace("\n", " "))
    assert not (tmp_path / "out" / "tiles").exists()


def test_weights_that_do_not_match_their_card_stop_the_run(nightstride_run, night_models, raw_night, tmp_path):
    models = shutil.copytree(night_models, tmp_path / "models")
    content = bytearray((models / "detect.safetensors").read_bytes())
    content[-1] ^= 1
    (models / "detect.safetensors").write_bytes(content)
    run = nightstride_run.here(raw_night, "--out", tmp_path / "out", NIGHTSTRIDE_DETECT__MODEL=str(models))
    assert (run.code, [*json.loads(run.stdout)]) == (2, ["error"]), run.stderr
    assert "its card says" in run.stderr


MOMENTS = {
    "the first tiles are being written": "tiles/*/.*",
    "the first catalogue is there": "catalogs/*/*/*.parquet",
    "the first record is there": "ledger/2*.sqlite",
    "a catalogue of the second detector is there": "catalogs/*/*/*-1.parquet",
}


@pytest.mark.faults
def test_killed_again_and_again_it_ends_with_the_same_bytes(nightstride_run, raw_night, uninterrupted, tmp_path):
    out = tmp_path / "out"
    for pattern in MOMENTS.values():
        process = nightstride_run.start(raw_night, "--out", out, **TWO_WORKERS)
        until(lambda pattern=pattern: list(out.glob(pattern)), process=process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=60)
        _, left = psutil.wait_procs(children, timeout=60)
        assert left == [], "workers must end with the run"
        for path in catalogues(out):
            assert catalogues(out)[path] == catalogues(uninterrupted[1])[path]
    last = nightstride_run.here(raw_night, "--out", out)
    assert last.code == 0, last.stderr
    assert catalogues(out) == catalogues(uninterrupted[1])
    assert verify_output(out, {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}).problems == ()
