import os
import shutil
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
import zarr
from astropy.coordinates import SkyCoord

from flows.nights import night_stages, patches
from flows.nights.cluster import memory
from flows.nights.cluster.cluster import cluster
from flows.nights.patches import run_nights
from flows.pipeline.models import models_of
from flows.pipeline.night_plan import plan_nights
from flows.results.backup import backup_output, restore_output
from flows.results.prune import removals, take_out
from flows.results.status import read_status
from flows.results.verify import verify_output
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.class_table import SPECTRAL_CLASS, STAR_GALAXY
from schemas.ledger import PatchRecord
from schemas.objects import DIA_LINK, OBJECT
from schemas.settings import ExecutionSettings, PatchesSettings, Settings
from stages.star_galaxy import STAGE as STAR_GALAXY_STAGE
from tests.support.night import catalogues
from tests.support.patch_night import INFOS, NIGHT, PIPELINE, TELLING, TOLD, deadly, places, publish, without

OF_PATCHES = ("object", "object_margin", "cutouts", "dia_link", "star_galaxy", "spectral_class")
TABLES = {stage.gives.name: stage.gives for stage in PIPELINE} | {
    "object_margin": replace(OBJECT, name="object_margin")
}


def settings(order, **changed):
    return Settings(patches=PatchesSettings(order=order, **changed))


def run(out, order=7, pipeline=PIPELINE, workers=None, **changed):
    given = settings(order, **changed)
    return run_nights(plan_nights([NIGHT], out, given, pipeline), out, given, workers).get(NIGHT)


@pytest.fixture(autouse=True)
def made_here(monkeypatch):
    monkeypatch.setattr(patches, "HERE", 1000)


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    out = tmp_path_factory.mktemp("field")
    for info in INFOS:
        publish(out, info, places())
    return out


@pytest.fixture
def out(field, tmp_path):
    return shutil.copytree(field, tmp_path / "out")


@pytest.fixture(scope="module")
def whole(field, tmp_path_factory):
    """The night in patches of order 5."""
    out = shutil.copytree(field, tmp_path_factory.mktemp("whole") / "out")
    run(out, 5)
    return out


def rows(out, dataset):
    return CatalogStore(out).read_night(dataset, NIGHT).sort_by(dataset.schema.names[0])


def cutouts(out):
    groups = [zarr.open_group(path, mode="r") for path in sorted((out / "catalogs/cutouts").glob("*/*/*/*/*.zarr"))]
    ids = np.concatenate([group["objectId"][:] for group in groups])
    pixels = np.concatenate([group["cutouts"][:] for group in groups])
    return ids[np.argsort(ids)], pixels[np.argsort(ids)]


def files(out):
    return {name: one for name, one in catalogues(out).items() if name.partition("/")[0] in OF_PATCHES}


def written(out):
    return {path: (out / "catalogs" / path).stat().st_mtime_ns for path in files(out)}


def test_every_source_is_one_object_also_on_borders(whole):
    found, truth = rows(whole, OBJECT), places()
    there = SkyCoord(found["ra"].to_numpy(), found["dec"].to_numpy(), unit="deg")
    separation = SkyCoord(*truth.T, unit="deg")[:, None].separation(there[None]).arcsec
    assert (separation.min(1) < 1.0).all()
    assert ((separation < 7.0).sum(1) == 1).all()
    assert len(set(found["objectId"].to_pylist())) == len(found) <= 1.1 * len(truth)
    assert len(list((whole / "catalogs/object").glob("night=*/dataset/Norder=5/Dir=*/Npix=*.parquet"))) == 4


@pytest.mark.parametrize("order", [7, 9])
def test_where_the_borders_lie_changes_nothing(whole, out, order):
    result = run(out, order)
    assert result.failed == []
    # There is no association.
    assert result.not_run.keys() == {"gather_dia_objects", "link_dia_objects", "gather_static_objects"}
    count = len(list((out / "catalogs/object").glob(f"*/dataset/Norder={order}/*/*.parquet")))
    assert count == 4 if order == 7 else count > 6
    assert rows(out, OBJECT).equals(rows(whole, OBJECT))
    assert rows(out, DIA_LINK).equals(rows(whole, DIA_LINK))
    ids, pixels = cutouts(out)
    np.testing.assert_array_equal(ids, cutouts(whole)[0])
    np.testing.assert_array_equal(pixels, cutouts(whole)[1])
    for dataset, column in ((STAR_GALAXY, "pStar"), (SPECTRAL_CLASS, "pStar")):
        ours, theirs = (rows(one, dataset)[column].to_numpy() for one in (out, whole))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # networks judge batches, whose last digits differ
    assert result.rows["object"] == len(rows(whole, OBJECT))
    assert verify_output(out, TABLES).problems == ()


def test_each_detection_is_linked_to_the_object_beside_it_across_borders(whole):
    links = rows(whole, DIA_LINK)
    assert len(links) == len(INFOS) * len(places())
    hosts = links["hostSeparation"].to_numpy()
    assert np.nanmax(hosts) < 30.0
    objects = rows(whole, OBJECT).select(["objectId", "ra", "dec"]).to_pandas().set_index("objectId")
    nearest = SkyCoord(*(places() + np.array([0.0, 3.0 / 3600])).T, unit="deg").match_to_catalog_sky(
        SkyCoord(objects.ra.to_numpy(), objects.dec.to_numpy(), unit="deg")
    )
    table = links.to_pandas()
    for info in INFOS:
        own = table[table.diaSourceId // 1000 == info.visit].sort_values("diaSourceId")
        expected = objects.index.to_numpy()[nearest[0]]
        given = own.hostObjectId.notna()
        assert given.mean() > 0.5
        assert (own.hostObjectId[given].astype("int64").to_numpy() == expected[given.to_numpy()]).all()


def test_a_rerun_makes_nothing_and_an_exposure_more_only_the_patches_it_touches(field, tmp_path):
    out = tmp_path / "out"
    for info in INFOS[:2]:
        publish(out, info, places())
    run(out, 9)
    assert run(out, 9) is None
    before = written(out)
    far = next(one for one in Ledger(out).patches(NIGHT) if one.datasets)
    publish(out, INFOS[1].model_copy(update={"visit": 9}), places(), sky=(far.pixel,))
    run(out, 9)
    changed = {path for path, time in written(out).items() if time != before.get(path)}
    touched = {path for path in changed if "/Npix=" in path}
    assert touched
    assert all(f"Npix={far.pixel}." in path for path in touched)
    assert verify_output(out, TABLES).problems == ()


def test_a_stage_of_another_version_is_run_again_on_what_is_kept_with_its_margin(out, whole):
    run(out, 9)
    result = run(out, 9, without(PIPELINE, "link_hosts"))
    assert {"link_hosts"} <= result.seconds.keys()
    assert "gather_objects" not in result.seconds
    assert rows(out, DIA_LINK).equals(rows(whole, DIA_LINK))


def test_a_failed_patch_leaves_the_others(out, monkeypatch):
    """What it fails in is told, what it had made is there, and the next run makes the rest."""
    number = [stage.name for stage in PIPELINE].index("link_hosts")
    (bad,) = [one.key for one in plan_nights([NIGHT], out, settings(7), PIPELINE)[0].patches][:1]

    def broken(inputs, context):
        if context.patch.pixel == bad.pixel:
            raise ZeroDivisionError("a defect of the stage")
        return PIPELINE[number].run(inputs, context)

    pipeline = (*PIPELINE[:number], replace(PIPELINE[number], run=broken), *PIPELINE[number + 1 :])
    result = run(out, 7, (*pipeline, TELLING))
    text = f"night {NIGHT}, patch {bad.name}, stage link_hosts: ZeroDivisionError: a defect of the stage"
    (failed,) = result.failed
    assert failed.message.startswith(f"{text}; stage link_hosts ")
    there = {path.stem for path in (out / "catalogs/dia_link").rglob("Npix=*.parquet")}
    assert there
    assert f"Npix={bad.pixel}" not in there
    assert list((out / "catalogs/object").rglob(f"Npix={bad.pixel}.parquet"))
    whole = run(out, 7, (*PIPELINE, TELLING))
    assert whole.failed == []
    assert "tell" in whole.seconds, "what was made without the patch is made again with it"
    assert run(out, 7, (*PIPELINE, TELLING)) is None


@pytest.mark.parametrize("sources", [40_000, 60])
def test_where_pixels_are_lost_the_patch_stays_as_it_was_and_is_told_of(out, whole, sources):
    """Whether the night is divided into the same patches as before, or into others."""
    run(out, 5)
    before, places_of = files(out), (out / "tiles").rglob
    (lost,) = places_of(f"{INFOS[0].visit}-*.zarr")
    lost.rename(out / "elsewhere")
    publish(out, INFOS[1], places(), flux=2e4)  # its patches are due, and the other exposure lies on all of them
    result = run(out, 5, sources=sources)
    assert {one.code for one in result.failed} == {"tiles_lost"}
    assert str(lost) in result.failed[0].message
    assert files(out) == before
    assert result.rows["object"] == len(rows(whole, OBJECT))
    problems = verify_output(out, TABLES).problems
    assert {one.code for one in problems} == {"tiles_lost"}
    assert all(one.remedy.startswith("put one of them back") for one in problems)
    (night,) = read_status(out).nights
    assert {one.code for one in night.troubles} == {"tiles_lost"}
    assert run(out, 5, sources=sources).failed == result.failed
    (out / "elsewhere").rename(lost)
    assert run(out, 5, sources=sources).failed == []
    assert verify_output(out, TABLES).problems == read_status(out).nights[0].troubles == ()
    assert files(out).keys() == before.keys() if sources > 60 else files(out).keys() != before.keys()
    assert rows(out, OBJECT) != rows(whole, OBJECT)


def test_dense_patches_are_divided_and_what_was_of_the_large_ones_goes(out, whole):
    run(out, 5)
    result = run(out, 5, sources=60)
    assert result.failed == []
    orders = {path.parts[-3] for path in (out / "catalogs/object").rglob("Npix=*.parquet")}
    assert "Norder=5" not in orders
    assert rows(out, OBJECT).equals(rows(whole, OBJECT))
    known = {one.name for one in Ledger(out).patches(NIGHT)}
    assert len(known) > 4
    assert not {name for name in known if name.startswith("5-")}
    assert verify_output(out, TABLES).problems == ()


def test_what_a_killed_run_left_is_removed_and_what_is_missing_made_again(out):
    run(out)
    before = files(out)
    one = next(path for path in sorted((out / "catalogs/object").rglob("Npix=*.parquet")))
    stray = one.parent / "Npix=1.parquet"
    shutil.copy(one, stray)
    one.unlink()
    assert {problem.code for problem in verify_output(out, TABLES).problems} >= {"unknown_file", "unreadable_catalogue"}
    run(out)
    assert files(out) == before


def test_the_ledger_knows_each_patch_and_the_night_their_sums(out):
    run(out)
    records = list(Ledger(out).patches(NIGHT))
    assert all(isinstance(one, PatchRecord) for one in records)
    night = Ledger(out).night(NIGHT)
    assert night.rows["object"] == sum(one.datasets["object"].rows for one in records if "object" in one.datasets)
    assert "object_margin" not in night.rows
    empty = [one for one in records if not one.datasets]
    assert all(reason == patches.NOTHING for one in empty for _, reason in one.idle.values())


def test_a_run_killed_before_it_described_the_night_is_made_good(out):
    run(out)
    before = files(out)
    described = [name for name in before if name.endswith(("properties", "_metadata", ".csv"))]
    assert {name.split("/")[0] for name in described} == {"object", "object_margin"}
    ledger = Ledger(out)
    ledger.put_night(ledger.night(NIGHT).model_copy(update={"patches": "of patches before"}))
    for name in described:
        (out / "catalogs" / name).unlink()
    result = run(out)
    assert "gather_objects" not in result.seconds
    assert files(out) == before
    assert run(out) is None


def test_where_records_do_not_tell_it_the_tiles_do(whole, tmp_path):
    for info in INFOS:
        publish(tmp_path, info, places(), sky=())
    run(tmp_path, 5)
    assert rows(tmp_path, OBJECT).equals(rows(whole, OBJECT))


def test_exposures_without_a_sky_say_so(tmp_path):
    publish(tmp_path, INFOS[0], places(), sky=())
    shutil.rmtree(tmp_path / "tiles")
    (work,) = plan_nights([NIGHT], tmp_path, settings(5), PIPELINE)
    assert not work.outdated
    assert work.not_run["gather_objects"] == "no exposure has a position on the sky"


def test_a_night_that_lost_its_exposures_loses_its_patches(out):
    run(out)
    for record in list(Ledger(out).records(NIGHT)):
        Ledger(out).put(record.model_copy(update={"datasets": {}}))
    run(out)
    assert files(out) == {}
    assert list(Ledger(out).patches(NIGHT)) == []
    assert Ledger(out).night(NIGHT) is None


def test_a_backup_holds_the_patches_and_a_restored_one_is_whole(whole, tmp_path):
    backup_output(whole, tmp_path / "kept")
    _, found = restore_output(tmp_path / "kept", tmp_path / "out", TABLES)
    assert found.problems == ()
    assert files(tmp_path / "out") == files(whole)
    assert run(tmp_path / "out", 5) is None


def test_pruning_a_night_takes_its_patches(out):
    run(out)
    take_out(out, removals(out, [NIGHT], settings(7), irreplaceable=True))
    assert files(out) == {}
    assert list(Ledger(out).patches(NIGHT)) == []
    assert not list((out / "catalogs").glob("object*/night=*"))


def test_stages_have_one_thread_whatever_the_loading_of_their_models_does(out, monkeypatch):
    seen = []

    def loaded(stage, given):
        found = models_of(stage, given)
        torch.set_num_threads(2)  # as where torch is loaded with the first model: it takes all cores
        return found

    def watched(inputs, context):
        seen.append((torch.get_num_threads(), numba.get_num_threads()))
        return STAR_GALAXY_STAGE.run(inputs, context)

    monkeypatch.setattr(night_stages, "models_of", loaded)
    threads = torch.get_num_threads()
    run(out, 7, tuple(replace(one, run=watched) if one.name == "star_galaxy" else one for one in PIPELINE))
    torch.set_num_threads(threads)
    assert seen == [(1, 1)] * 4


@pytest.mark.slow
def test_workers_give_the_same_bytes_and_a_damaged_exposure_fails_its_patches_alone(out, field, tmp_path):
    other = shutil.copytree(field, tmp_path / "other")
    run(other, 9)
    given = Settings(execution=ExecutionSettings(workers=2))
    killing = tuple(replace(stage, run=deadly) if stage.name == "link_hosts" else stage for stage in PIPELINE)
    with cluster(given, out) as workers:
        result = run(out, 9, (*PIPELINE, TELLING), workers)
        assert result.failed == []
        told = CatalogStore(out).read_night(TOLD, NIGHT)
        assert os.getpid() not in told["process"].to_pylist(), "a whole night is made by a worker, too"
        assert told["read"].to_pylist() == ["diaSourceId", "visit", "ra"]
        run(out, 9, workers=workers)
        assert files(out) == files(other)
        spoilt = CatalogStore(out).list(TABLES["source"])[0]
        spoilt.write_bytes(b"no Parquet")
        shutil.rmtree(out / "catalogs/object")
        failed = run(out, 9, workers=workers).failed
        killed = run(other, 7, killing, workers)
    assert {one.code for one in failed} == {"unreadable_catalogue"}
    assert [one.code for one in killed.failed] == ["killed_workers"]
    there = len(list((other / "catalogs/dia_link").rglob("Npix=*.parquet")))
    assert there == len([one for one in Ledger(other).patches(NIGHT) if one.datasets]) > 1
    assert run(other, 7).failed == []
    assert len(list((other / "catalogs/dia_link").rglob("Npix=*.parquet"))) == there + 1


def test_a_night_that_does_not_fit_the_memory_is_told_and_its_patches_stay(out, monkeypatch):
    monkeypatch.setattr(memory, "_memory_here", lambda: 2 * 2**30)
    work = plan_nights([NIGHT], out, settings(7), (*PIPELINE, TELLING))
    assert work[0].rows == sum(one.datasets["dia_source"].rows for one in Ledger(out).records(NIGHT))
    many = [replace(work[0], rows=1_000_000)]
    result = run_nights(many, out, settings(7))[NIGHT]
    (failed,) = result.failed
    assert (failed.uri, failed.code) == (f"night {NIGHT}", "memory")
    assert "1,000,000 detections take up to 2.08 GiB, there are 2.00 GiB" in failed.message
    assert result.rows["object"] > 0
    assert run(out, 7, (*PIPELINE, TELLING)).failed == []


def test_margins_lie_around_the_patches(whole):
    every = set()
    for path in (whole / "catalogs/object_margin").rglob("Npix=*.parquet"):
        around = CatalogStore(whole).read_path(path, TABLES["object_margin"])
        own = whole / path.relative_to(whole).as_posix().replace("object_margin", "object")
        inside = CatalogStore(whole).read_path(own, OBJECT)
        assert not set(around["objectId"].to_pylist()) & set(inside["objectId"].to_pylist())
        assert (np.diff(inside["objectId"].to_numpy()) > 0).all()
        every |= set(around["objectId"].to_pylist())
    assert every
    assert every <= set(rows(whole, OBJECT)["objectId"].to_pylist())
