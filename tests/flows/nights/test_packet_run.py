"""`nightstride run` over alert packets, in this process; models find what is bright."""

import json
import os
import shutil
import signal
import tarfile
from types import SimpleNamespace

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from distributed import KilledWorker

from flows.nights import packet_run
from flows.nights.packet_run import search_batch
from flows.pipeline.graph import declared_tables
from flows.results.verify import verify_output
from flows.storage.catalog_store import read_table
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.trail_model import trail_image
from schemas.packet_source import ZTF_PACKET_SOURCE
from schemas.settings import Settings
from tests.support.cli import nightstride
from tests.support.models import write_reliability, write_windows
from tests.support.ztf import ARCHIVES, CANDID, FOLDER, container, fits_bytes, members, real_packets, record, write

PSF = moffat_mixture(2.3, 3.0)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Settings with a network whose every window is a hit, and a verdict that is the S/N alone."""
    folder = tmp_path_factory.mktemp("models")
    write_windows(folder, threshold=1e-30)
    write_reliability(folder, gain=4.0, offset=-4.0 * np.log1p(10.0), threshold=0.5)
    path = folder / "nightstride.toml"
    path.write_text(f'[detect]\nmodel = "{folder}"\n[catalogs]\ncompact_from = 1000\n')
    return path


def packet(n, flux=4000.0, **fields):
    """A packet with a source at its alert; the second half of them is of another image."""
    pixels = np.random.default_rng(n).normal(0, 5, (63, 63)) + flux * trail_image((63, 63), 31.25, 30.75, 0, 0, PSF)
    image = {"pid": 697252840115 + 10_000 * (n % 2)}
    return record(CANDID + n, pixels, **image | fields)


@pytest.fixture
def archive(tmp_path):
    """Four packets, the last without a source, in three files."""
    folder = tmp_path / "packets"
    write(folder / "0.avro", packet(0))
    write(folder / "below" / "1.avro", packet(1), packet(2))
    write(folder / "3.avro", packet(3, flux=0.0))
    return folder


@pytest.fixture
def run(tmp_path, config):
    def ran(*inputs, code=0):
        found = nightstride("run", *inputs, "--out", tmp_path / "out", "--config", config, "--json")
        assert found.code == code, found.stderr
        return found

    return ran


def rows(out):
    files = ds.dataset(out / "catalogs" / "ztf_packet_source", format="parquet").to_table()
    return {row["candid"]: row for row in files.to_pylist()}


def test_each_packet_has_a_row(run, archive, tmp_path):
    found = run(archive)
    assert found.counts == (4, 4, 0, 0, 0)
    assert found.summary["catalogues"] == {"ztf_packet_source": 4}
    assert found.summary["nights"] == ["20181128"]
    catalogue = rows(tmp_path / "out")
    assert sorted(catalogue) == [CANDID + n for n in range(4)]
    assert [catalogue[CANDID + n]["detected"] for n in range(4)] == [True, True, True, False]
    assert found.summary["detections"] == 3
    assert found.summary["windows"] > 0
    records = list(Ledger(tmp_path / "out").records())
    assert [(one.visit, one.detector, one.detections) for one in records] == [(69725284, 1, 2), (69725285, 1, 1)]
    for one in records:
        read_table(tmp_path / "out" / one.datasets["ztf_packet_source"].path, ZTF_PACKET_SOURCE)
    assert verify_output(tmp_path / "out", declared_tables()).problems == ()


def test_a_rerun_does_what_is_left(run, archive, tmp_path):
    run(archive)
    paths = sorted((tmp_path / "out" / "catalogs").rglob("*.parquet"))
    before = {path: path.read_bytes() for path in paths}
    assert run(archive).counts == (4, 0, 4, 0, 0)
    write(archive / "5.avro", packet(5))
    found = run(archive)
    assert found.counts == (5, 1, 4, 0, 0)
    assert found.summary["detections"] == 4
    changed = [path for path in paths if path.read_bytes() != before[path]]
    assert [path.name for path in changed] == ["69725285-1.parquet"]
    assert pq.read_table(changed[0])["candid"].to_pylist() == [CANDID + 1, CANDID + 3, CANDID + 5]
    changed[0].unlink()
    assert run(archive).counts == (5, 3, 2, 0, 0)  # all packets of the exposure whose catalogue is gone
    write(archive / "0.avro", packet(0, flux=0.0))
    assert run(archive).counts == (5, 1, 4, 0, 0)
    assert not rows(tmp_path / "out")[CANDID]["detected"]


def test_a_member_that_was_added_to_a_tarball_twice_is_a_copy(run, archive, tmp_path):
    with tarfile.open(tmp_path / "all.tar", "w") as packed:
        for path in (archive / "0.avro", archive / "3.avro", archive / "0.avro"):
            packed.add(path, path.name)
    assert run(tmp_path / "all.tar").counts == (3, 2, 1, 0, 0)
    assert sorted(rows(tmp_path / "out")) == [CANDID, CANDID + 3]


def test_the_same_packets_give_the_same_bytes_however_they_are_packed(run, archive, tmp_path, config):
    run(archive)
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as packed:
        packed.add(archive, "a")
    found = nightstride("run", tmp_path / "all.tar.gz", "--out", tmp_path / "two", "--config", config, "--json")
    assert found.counts == (4, 4, 0, 0, 0)
    for path in (tmp_path / "out" / "catalogs").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "out")).read_bytes()


def test_settings_count(run, archive, tmp_path, config):
    run(archive)
    other = tmp_path / "other.toml"
    other.write_text(config.read_text() + "[measure]\naperture_fwhm = 2.0\n")
    found = nightstride("run", archive, "--out", tmp_path / "out", "--config", other, "--json")
    assert found.counts == (4, 4, 0, 0, 0)


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(run, archive, tmp_path):
    bad = packet(6) | {"cutoutDifference": {"stampData": b"\x1f\x8b damaged"}}
    write(archive / "bad.avro", bad, packet(8))
    (archive / "cut.avro").write_bytes(container(packet(9))[:-900])
    (archive / "text.avro").write_bytes(b"no avro")
    found = run(archive, code=3)
    assert found.counts == (8, 5, 0, 3, 0)
    codes = {one.source_uri.rsplit("/", 1)[1]: one.code for one in Quarantine(tmp_path / "out").list()}
    assert codes == {"bad.avro": "bad_checksum", "cut.avro": "truncated", "text.avro": "bad_avro"}
    assert CANDID + 8 in rows(tmp_path / "out")
    assert CANDID + 6 not in rows(tmp_path / "out")
    write(archive / "bad.avro", packet(6), packet(8))
    assert run(archive, code=3).counts == (8, 1, 5, 2, 0)
    assert {one.source_uri.rsplit("/", 1)[1] for one in Quarantine(tmp_path / "out").list()} == {
        "cut.avro",
        "text.avro",
    }


def test_a_tarball_that_is_fetched_again_leaves_quarantine(run, archive, tmp_path):
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w") as file:
        for path in sorted(archive.rglob("*.avro")):
            file.add(path, path.name)
    content = packed.read_bytes()
    packed.write_bytes(content[: len(content) // 2])
    run(packed, code=3)
    assert str(packed) in {one.source_uri for one in Quarantine(tmp_path / "out").list()}
    packed.write_bytes(content)
    assert run(packed).counts[0] == 4
    assert not list(Quarantine(tmp_path / "out").list())


def test_a_packet_that_is_damaged_later_loses_its_row(run, archive, tmp_path):
    run(archive)
    write(archive / "0.avro", packet(0) | {"cutoutDifference": None})
    assert run(archive, code=3).counts == (4, 0, 3, 1, 0)
    assert sorted(rows(tmp_path / "out")) == [CANDID + n for n in (1, 2, 3)]
    shutil.rmtree(archive)
    write(archive / "1.avro", *(packet(n) | {"cutoutDifference": None} for n in (1, 3)))
    assert run(archive, code=3).counts == (2, 0, 0, 2, 0)
    assert sorted(rows(tmp_path / "out")) == [CANDID + 2]
    assert [one.visit for one in Ledger(tmp_path / "out").records()] == [69725284]


def test_an_alert_that_is_there_twice(run, archive, tmp_path):
    """A copy is skipped; another packet that says it is the same alert is refused."""
    write(archive / "4.avro", packet(0))
    write(archive / "6.avro", packet(1, magzpsci=20.0))
    found = run(archive, code=3)
    assert found.counts == (6, 4, 1, 1, 0)
    (trouble,) = found.summary["quarantined"]
    assert trouble["code"] == "conflict"
    assert trouble["uri"].endswith("below/1.avro")


def test_a_defect_of_one_packet_fails_it_alone(run, archive, monkeypatch):
    search = packet_run.search_packet

    def broken(found, *arguments):
        if found.candid == CANDID + 1:
            raise ZeroDivisionError("by nothing")
        return search(found, *arguments)

    monkeypatch.setattr(packet_run, "search_packet", broken)
    found = run(archive, code=1)
    assert found.counts == (4, 3, 0, 0, 1)
    assert "by nothing" in found.summary["failed"][0]["message"]
    monkeypatch.undo()
    assert run(archive).counts == (4, 1, 3, 0, 0)


def test_asked_to_stop_it_publishes_what_is_done(run, archive, monkeypatch):
    import os
    import signal

    def stopped(batch, settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return search_batch(batch, settings)

    monkeypatch.setattr(packet_run, "search_batch", stopped)
    monkeypatch.setattr(packet_run, "BATCH", 1)
    found = run(archive, code=1)
    assert found.counts == (4, 1, 0, 0, 3)
    assert {one["code"] for one in found.summary["failed"]} == {"stopped"}
    assert found.summary["stopped"]
    monkeypatch.undo()
    assert run(archive).counts == (4, 3, 1, 0, 0)


def test_images_and_packets_are_refused_together(run, archive, tmp_path):
    (archive / "a.fits").write_bytes(fits_bytes(np.zeros((40, 40))))
    refused = json.loads(run(archive, code=2).stdout.splitlines()[-1])
    assert refused["error"]["code"] == "mixed_inputs"
    (archive / "a.fits").unlink()
    assert json.loads(run(archive, "--template", archive, code=2).stdout.splitlines()[-1])["error"]["code"] == "option"


@pytest.mark.slow
def test_many_packets_are_searched_on_workers(run, tmp_path, monkeypatch):
    monkeypatch.setattr(packet_run, "HERE", 0)
    monkeypatch.setattr(packet_run, "BATCH", 3)
    write(tmp_path / "many" / "a.avro", *(packet(n) for n in range(10)))
    found = run(tmp_path / "many", "--workers", "2")
    assert found.counts == (10, 10, 0, 0, 0)
    assert len(rows(tmp_path / "out")) == 10


def test_a_packet_whose_worker_died_is_searched_once_more_alone(tmp_path):
    """It may only have waited there: of tasks on their way beside each other each counts as a suspect."""

    def submit(*call, key, resources):
        error = KilledWorker(key, SimpleNamespace(address="tcp://there:1"), 3)
        return SimpleNamespace(key=key, exception=lambda: error, release=lambda: None)

    tasks = packet_run._Tasks(SimpleNamespace(submit=submit), SimpleNamespace(terms=None), tmp_path, Settings())
    two, one = [("a.avro", {}), ("b.avro", {})], [("a.avro", {})]
    assert tasks.result(tasks.submit(two)) == (two, None)
    assert tasks.result(tasks.submit(one)) == (one, None)
    batch, (error,) = tasks.result(tasks.submit(one))
    assert (batch, error.code, error.where) == (one, "killed_workers", "a.avro")


def deadly(batch, settings):
    """Search packets as `search_batch` does; one of them kills its worker."""
    if any(name.endswith("[4]") for name, _ in batch):
        os.kill(os.getpid(), signal.SIGKILL)
    return [packet_run._searched(name, record, settings) for name, record in batch]


@pytest.mark.slow
def test_a_packet_that_kills_its_workers_is_alone_in_quarantine(run, tmp_path, monkeypatch):
    """Not with one that only waited, each time, where a worker died of it."""
    monkeypatch.setattr(packet_run, "HERE", 0)
    monkeypatch.setattr(packet_run, "BATCH", 6)
    monkeypatch.setattr(packet_run, "search_batch", deadly)
    write(tmp_path / "many" / "a.avro", *(packet(n) for n in range(10)))
    found = run(tmp_path / "many", "--workers", "2", code=3)
    assert found.counts == (10, 9, 0, 1, 0)
    assert [(one["code"], one["uri"][-3:]) for one in found.summary["quarantined"]] == [("killed_workers", "[4]")]


@real_packets
def test_real_packets(tmp_path):
    """With the shipped models: known asteroids are found where ZTF has them, holes are not."""
    for archive in ARCHIVES:
        for name, content in members(archive, 8).items():
            (tmp_path / "in").mkdir(exist_ok=True)
            (tmp_path / "in" / name).write_bytes(content)
    with tarfile.open(FOLDER / "rubin_v9.tar.gz") as tar:
        (tmp_path / "in" / "rubin.avro").write_bytes(tar.extractfile(next(one for one in tar if one.isfile())).read())
    found = nightstride("run", tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert found.code == 3
    assert found.counts == (17, 16, 0, 1, 0)
    assert found.summary["quarantined"][0]["code"] == "other_packet"
    catalogue = rows(tmp_path / "out").values()
    asteroids = [row for row in catalogue if row["brighter"] and 0 <= row["ssDistance"] <= 2]
    assert len(asteroids) >= 5
    found = [row for row in asteroids if row["detected"]]
    assert len(found) >= 0.8 * len(asteroids)
    for row in found:
        assert np.hypot(row["x"] - row["packetX"], row["y"] - row["packetY"]) < 1
        assert abs(row["magAB"] - row["packetMag"]) < 4 * np.hypot(row["magABErr"], row["packetMagErr"])
        assert abs(row["ra"] - row["packetRa"]) * 3600 < 1
    assert not [row for row in catalogue if row["detected"] and not row["brighter"]]
