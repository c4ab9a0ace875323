import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pytest
import sep
import torch
import zarr

from flows.nights import night_stages
from flows.nights.night_stages import StoredNight
from flows.nights.patches import run_nights
from flows.pipeline.night_plan import plan_nights
from flows.results.verify import verify_output
from flows.storage.atomic import sweep
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore, write_exposure
from schemas.errors import BadInput, Misconfigured, NoWork, Retryable
from schemas.exposure import ExposureInfo, ExposureKey, PsfModel
from schemas.objects import SOURCE
from schemas.settings import CutCutoutsSettings, FindSourcesSettings, GatherObjectsSettings, Settings, TileSettings
from schemas.stage import Context
from stages import cut_cutouts, find_sources, gather_objects
from tests.support.night import catalogues
from tests.support.process_memory import mapped_mib
from tests.support.science_night import SHAPE, exposure, science, sky_grid
from tests.support.wait import until
from tests.support.whole_night import NIGHT, PIPELINE, SEEN, SHAPES, THING, TOTAL, publish

SETTINGS = Settings()
TABLES = {table.name: table for table in (SEEN, THING, TOTAL)}


def run(out, pipeline=PIPELINE):
    return run_nights(plan_nights([NIGHT], out, SETTINGS, pipeline), out, SETTINGS).get(NIGHT)


@pytest.fixture
def out(tmp_path):
    publish(tmp_path, 2, [3.0])
    publish(tmp_path, 1, [1.0, 2.0])
    return tmp_path


def test_runs_stages_on_what_all_exposures_gave_and_publishes_each(out):
    result = run(out)
    assert (result.failed, result.not_run) == ([], {})
    table = CatalogStore(out).read_path(CatalogStore(out).night_path(THING, NIGHT), THING)
    assert table["twice"].to_pylist() == [2.0, 4.0, 6.0]  # by visit
    group = zarr.open_group(out / "catalogs/shapes" / f"night={NIGHT}" / "shapes.zarr", mode="r")
    assert group["thingId"][:].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(group["shapes"][:], np.repeat([[2.0], [4], [6]], 3, 1))
    record = Ledger(out).night(NIGHT)
    assert record.exposures == 2
    assert {name: one.rows for name, one in record.datasets.items()} == {"thing": 3, "shapes": 3, "total": 1}
    assert {"gather", "cut", "add"} <= record.seconds.keys()
    assert verify_output(out, TABLES).problems == ()


def test_a_rerun_makes_nothing_and_another_folder_gives_the_same_bytes(out, tmp_path_factory):
    run(out)
    before = catalogues(out)
    assert run(out) is None
    other = tmp_path_factory.mktemp("other")
    publish(other, 1, [1.0, 2.0])
    publish(other, 2, [3.0])
    run(other)
    assert catalogues(other) == catalogues(out) == before


def test_a_later_stage_reads_what_was_kept(out):
    run(out)
    before = catalogues(out)
    result = run(out, (*PIPELINE[:3], replace(PIPELINE[3], version="2")))
    assert set(result.seconds) >= {"add"}
    assert "gather" not in result.seconds
    after = catalogues(out)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"total/night={NIGHT}/total.parquet"}  # its digest is in it


def test_a_failing_stage_is_reported_and_takes_only_what_needs_it(out):
    run(out)
    publish(out, 2, [-9.0])
    result = run(out)
    (failed,) = result.failed
    said, place = failed.message.split("; ")
    assert said == f"night {NIGHT}, stage add: ZeroDivisionError: a defect of the stage"
    assert re.fullmatch(r"stage add 1, .*/whole_night.py line \d+, in add", place)
    assert set(result.datasets) == {"thing", "shapes"}
    assert not (out / "catalogs/total" / f"night={NIGHT}" / "total.parquet").exists()  # of other exposures
    assert len(CatalogStore(out).list(SEEN)) == 2
    assert [one.code for one in verify_output(out, TABLES).problems] == ["ZeroDivisionError"]
    assert run(out).failed  # tried again


def test_a_stage_has_one_thread_however_many_this_process_has(out):
    """Sums of several threads differ in their last bits with their number."""
    seen = []

    def threads(inputs, context):
        seen.append((numba.get_num_threads(), torch.get_num_threads()))
        return PIPELINE[1].run(inputs, context)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(out, (PIPELINE[0], replace(PIPELINE[1], run=threads), *PIPELINE[2:]))
        assert (seen, torch.get_num_threads()) == ([(1, 1)], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("failures", "fails"), [(SETTINGS.execution.retries, False), (99, True)])
def test_what_may_succeed_later_is_tried_again(out, monkeypatch, failures, fails):
    left, waits = [failures], []
    monkeypatch.setattr(night_stages, "sleep", waits.append)

    def store_is_down(inputs, context):
        left[0] -= 1
        if left[0] >= 0:
            raise Retryable("store", "s3://bucket", "does not answer.", "try again later.")
        return PIPELINE[1].run(inputs, context)

    result = run(out, (PIPELINE[0], replace(PIPELINE[1], run=store_is_down), *PIPELINE[2:]))
    assert [one.code for one in result.failed] == ["store"] * fails
    assert waits == [0.5, 1.0, 2.0]


def test_what_needs_a_failed_stage_is_not_run(out):
    def broken(inputs, context):
        raise RuntimeError("broken")

    result = run(out, (*PIPELINE[:2], replace(PIPELINE[2], run=broken), PIPELINE[3]))
    assert [one.code for one in result.failed] == ["RuntimeError"]
    assert result.not_run == {"add": "no shapes: stage cut did not run"}
    assert set(result.datasets) == {"thing"}


def test_a_night_of_which_nothing_could_be_made_keeps_the_reason(out):
    def fails(*_):
        raise BadInput("store", "thing", "cannot be made.", "wait.")

    run(out, (PIPELINE[0], replace(PIPELINE[1], run=fails)))
    record = Ledger(out).night(NIGHT)
    assert ([one.code for one in record.failed], record.exposures, record.datasets) == (["store"], 2, {})
    assert run(out, PIPELINE[:2]).failed == []  # tried again
    assert Ledger(out).night(NIGHT).datasets.keys() == {"thing"}


def test_what_would_read_a_failed_stage_waits_for_it(out):
    """Made without, it would have the digest of what is made with it, and never be made again."""

    def broken(inputs, context):
        raise RuntimeError("broken")

    lax = replace(PIPELINE[3], needs=(THING,), optional=(SHAPES,), run=lambda inputs, context: total(len(inputs)))
    result = run(out, (*PIPELINE[:2], replace(PIPELINE[2], run=broken), lax))
    assert result.not_run == {"add": "no shapes: stage cut did not run"}
    idle = replace(PIPELINE[2], run=nothing_to_cut)
    result = run(out, (*PIPELINE[:2], idle, lax))
    assert set(result.not_run) == {"cut"}
    assert CatalogStore(out).read_path(CatalogStore(out).night_path(TOTAL, NIGHT), TOTAL)["total"].to_pylist() == [1]


def total(value):
    return pa.table({"total": [float(value)]}, schema=TOTAL.schema)


def nothing_to_cut(inputs, context):
    raise NoWork("nothing", "stage cut", "nothing to cut.", "look elsewhere.")


def test_what_no_night_could_survive_stops_the_run(out):
    def refused(inputs, context):
        raise Misconfigured("code", "where", "problem.", "remedy.")

    with pytest.raises(Misconfigured, match="remedy"):
        run(out, (*PIPELINE[:1], replace(PIPELINE[1], run=refused)))


def test_a_night_that_lost_its_exposures_loses_its_catalogues(out):
    run(out)
    for visit in (1, 2):
        publish(out, visit, None)
    run(out)
    assert {name.partition("/")[0] for name in catalogues(out)} == {"seen"}
    assert Ledger(out).night(NIGHT) is None


DRIVER = """
import sys
from pathlib import Path
from flows.nights.patches import run_nights
from flows.pipeline.night_plan import plan_nights
from schemas.settings import Settings
from tests.support.whole_night import NIGHT, PIPELINE
out = Path(sys.argv[1])
print("ready", flush=True)
run_nights(plan_nights([NIGHT], out, Settings(), PIPELINE), out, Settings())
"""


def test_killed_at_any_moment_it_ends_with_the_same_bytes(out, tmp_path_factory):
    values = np.random.default_rng(1).normal(5, 1, 40_000).tolist()
    publish(out, 3, values)
    whole = tmp_path_factory.mktemp("whole")
    for visit, one in ((1, [1.0, 2.0]), (2, [3.0]), (3, values)):
        publish(whole, visit, one)
    run(whole)
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"}
    for delay in (0.0, 0.02, 0.05, 0.1):
        command = [sys.executable, "-c", DRIVER, str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=root) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
        for name, content in catalogues(out).items():
            if "/." not in name:
                assert catalogues(whole)[name] == content
    sweep(out)
    run(out)
    assert catalogues(out) == catalogues(whole)
    assert verify_output(out, TABLES).problems == ()


def test_the_rows_of_an_array_carry_the_settings_it_was_made_with(out):
    run(out)
    text = (out / "catalogs/shapes" / f"night={NIGHT}" / "shapes.zarr" / "zarr.json").read_text()
    assert json.loads(text)["attributes"]["rows"] == 3


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured through Linux's /proc")
def test_what_a_stage_maps_from_files_does_not_stay_in_memory(out):
    """Dask ends a worker for all that it has mapped, its own or from files."""
    kept = []

    def cut(inputs, context):
        large = context.allocate((96, 2**18), "float32")
        before = mapped_mib()
        large[:] = 1
        until(lambda: mapped_mib() < before + 32)
        kept.append(float(large.sum()))
        return PIPELINE[2].run(inputs, context)

    assert run(out, (*PIPELINE[:2], replace(PIPELINE[2], run=cut), *PIPELINE[3:])).failed == []
    assert kept == [96 * 2**18]


def test_synthetic_ids_are_refused(out):
    def negative(inputs, context):
        return pa.table({"thingId": [-1], "twice": [0.0]}, schema=THING.schema)

    result = run(out, (*PIPELINE[:1], replace(PIPELINE[1], run=negative)))
    assert "synthetic row" in result.failed[0].message


def stored(out, visit, planes, digest="d"):
    info = ExposureInfo(
        night="20260101", visit=visit, detector=0, instrument="test", band="r", midpoint_mjd_tai=61000.0,
        exposure_time_s=30, shape=(40, 50), psf=PsfModel(fwhm_px=2.2), background=0.0, noise=1.0,
        source_uri="memory://none", source_sha256="0" * 64, planes=planes,
    )  # fmt: skip
    pixels = {name: np.full(info.shape, visit, np.float32) for name in ("difference", *planes)}
    pixels["mask"] = np.zeros(info.shape, np.uint16)
    path = out / "tiles" / info.night / f"{info.name}.zarr"
    write_exposure(path, info, pixels, TileSettings(tile=56, chunk=28), digest)
    return ExposureKey(night="20260101", visit=visit, detector=0)


def test_gives_the_exposures_with_a_science_image_and_reads_a_plane_at_a_time(tmp_path):
    keys = [stored(tmp_path, 1, ("science",)), stored(tmp_path, 2, ()), stored(tmp_path, 3, ("science",))]
    night = StoredNight(tmp_path, keys)
    assert [info.visit for info in night.exposures()] == [1, 3]
    np.testing.assert_array_equal(night.read(night.exposures()[1], "science"), np.full((40, 50), 3, np.float32))
    assert night.read(night.exposures()[0], "mask").dtype == np.uint16


def test_missing_tiles_are_bad_input(tmp_path):
    key = stored(tmp_path, 1, ("science",))
    night = StoredNight(tmp_path / "elsewhere", [key])
    with pytest.raises(BadInput, match="run the exposure again"):
        night.exposures()


def test_pixels_are_told_apart_by_their_tiles_and_what_these_were_made_from(tmp_path):
    """What is kept of pixels is not taken for what would be made of others."""
    key = stored(tmp_path, 1, ("science",))
    first = StoredNight(tmp_path, [key]).identity(key)
    assert StoredNight(tmp_path, [key]).identity(key) == first
    other = stored(tmp_path, 2, ("science",))
    assert StoredNight(tmp_path, [key, other]).identity(other) != first
    stored(tmp_path / "elsewhere", 1, ("science",))
    assert StoredNight(tmp_path / "elsewhere", [key]).identity(key) != first
    stored(tmp_path, 1, ("science",), "other settings")
    assert StoredNight(tmp_path, [key]).identity(key) != first


def science_night(out, infos):
    """Exposures of stars, stored as tiles, and their sources."""
    places, found = [(ra, dec, 2e4, 0.0) for ra, dec in zip(*sky_grid(), strict=True)], []
    for info in infos:
        planes = {"science": science(info, places, info.visit), "mask": np.zeros(SHAPE, np.uint16)}
        key = ExposureKey(night=info.night, visit=info.visit, detector=info.detector)
        pixels = planes | {"difference": planes["science"] - 300}
        write_exposure(tile_path(out, key), info, pixels, TileSettings(tile=56, chunk=28), "d")
        rows = find_sources.STAGE(planes, Context(info, settings=FindSourcesSettings(min_snr=10))).rows
        CatalogStore(out).publish(SOURCE, key, rows, "d")
        found.append((key, rows))
    return StoredNight(out, [key for key, _ in found]), pa.concat_tables([rows for _, rows in found])


def test_stages_of_a_night_estimate_the_sky_of_an_exposure_once(tmp_path, monkeypatch):
    night, sources = science_night(tmp_path, [exposure(1, "g", 10.0), exposure(2, "r", 40.0)])
    made, real = [], sep.Background
    monkeypatch.setattr(sep, "Background", lambda *given, **more: made.append(1) or real(*given, **more))
    context = Context(settings=GatherObjectsSettings(), pixels=night)
    objects = gather_objects.STAGE({"source": sources}, context).rows
    cut_cutouts.STAGE({"object": objects, "source": sources}, Context(settings=CutCutoutsSettings(), pixels=night))
    assert len(made) == 2


def test_what_is_made_of_large_exposures_is_what_is_made_of_others(tmp_path, monkeypatch):
    """Objects and cutouts: of a large science image the blocks are read on which they lie."""
    night, sources = science_night(tmp_path, [exposure(1, "g", 10.0), exposure(2, "r", 40.0)])

    def made():
        context = Context(settings=GatherObjectsSettings(mesh=8), pixels=night)
        objects = gather_objects.STAGE({"source": sources}, context).rows
        context = Context(settings=CutCutoutsSettings(mesh=8), pixels=night)
        return objects, cut_cutouts.STAGE({"object": objects, "source": sources}, context).rows

    (whole, cut), read = made(), []
    monkeypatch.setattr("schemas.pixels.WHOLE_PIXELS", 1000)
    monkeypatch.setattr("kernels.image.science_image.BLOCK", 128)
    monkeypatch.setattr("kernels.image.science_image.MARGIN", 16)
    monkeypatch.setattr(TileStore, "read_all", lambda *_: pytest.fail("a whole plane is read"))
    once = TileStore.read
    monkeypatch.setattr(TileStore, "read", lambda *asked: read.append(asked[2:]) or once(*asked))
    large, pieces = made()
    assert len(whole) > 15
    for name in ("objectId", "g_psfFlux", "r_psfFlux", "r_apFlux", "r_apFluxErr"):
        np.testing.assert_allclose(large[name].to_numpy(), whole[name].to_numpy(), rtol=2e-3)
    np.testing.assert_array_equal(np.isfinite(pieces), np.isfinite(cut))
    scale = np.max(np.nan_to_num(np.abs(cut)), axis=(2, 3), keepdims=True)
    assert (np.nan_to_num(np.abs(pieces - cut)) <= 5e-3 * scale).all()
    assert np.isfinite(cut).any()
    assert max((y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in read) < SHAPE[0] * SHAPE[1]
    assert list((tmp_path / "staging").iterdir()) == []
