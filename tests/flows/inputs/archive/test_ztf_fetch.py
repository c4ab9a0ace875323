import asyncio
import os
import random
from datetime import date, timedelta
from pathlib import Path

import pytest

from flows.inputs.archive import ztf_fetch
from flows.inputs.archive.client import ArchiveClient
from flows.inputs.archive.ztf_fetch import FetchPlan, Piece, ToFetch, fetch, listed, plan_fetch, require_room
from flows.inputs.archive.ztf_search import ZtfSearch
from flows.inputs.ingest import prepare
from flows.inputs.sources import list_sources
from schemas.errors import Misconfigured, Retryable
from schemas.settings import Settings

pytest_plugins = ("tests.support.archive_fixture",)


ALL = ("mask", "psf", "science", "template")
NIGHT = date(2018, 12, 1)


def fetched(settings, folder, products=ALL):
    async def run():
        async with ArchiveClient(settings) as client:
            quadrants = await listed(client, ZtfSearch(NIGHT, NIGHT))
            plan = await plan_fetch(client, quadrants, products, folder, lambda: None)
            return await fetch(client, plan, folder, lambda count: None), client.received

    return asyncio.run(run())


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images(folder):
    """Exposures that a run finds: name -> (planes with siblings, pixels of all planes)."""
    found = {}
    for source in list_sources([str(folder)], Settings()):
        info, planes = prepare(source, Settings())
        pixels = {name: plane.tobytes() for name, plane in planes.items()}
        found[Path(source.uri).name] = [plane for plane, _ in source.siblings], pixels, info.psf
    return found


@pytest.fixture
def flat(archive, tmp_path_factory):
    """Folder with the archive's files side by side."""
    folder = tmp_path_factory.mktemp("flat")
    for place, data in archive.files.items():
        (folder / Path(place).name).write_bytes(data)
    return folder


def test_a_run_reads_each_exposure_with_its_siblings(archive, settings, flat, tmp_path):
    done, received = fetched(settings, tmp_path)
    assert (done.whole, done.failed) == (4, [])
    assert received == sum(map(len, archive.files.values()))
    ours = images(tmp_path)
    assert ours == images(flat)
    assert all(planes == ["mask", "psf", "science", "template"] for planes, *_ in ours.values())
    assert len(ours) == 4
    shared = [path for path in tmp_path.rglob("*refimg.fits") if "sci/" in str(path)]
    assert len(shared) == 4
    assert all(path.stat().st_nlink >= 2 for path in shared)


def test_again_nothing_is_fetched(archive, settings, tmp_path):
    fetched(settings, tmp_path)
    before, times = files(tmp_path), {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    archive.asked.clear()
    done, received = fetched(settings, tmp_path)
    assert (done.whole, done.files, received) == (0, [], 0)
    assert {place for place, _ in archive.asked} == {"/ibe/search/ztf/products/sci"}
    assert files(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_trouble_of_all_kinds_changes_nothing_but_the_time(archive, settings, tmp_path):
    fetched(settings, tmp_path / "calm")
    dice = random.Random(7)

    def trouble(place, number, headers):
        roll = dice.random()
        return (
            503
            if roll < 0.2
            else ("cut", dice.randrange(1, 30_000))
            if roll < 0.4 and "products" not in place
            else None
        )

    archive.trouble = trouble
    archive.headers = lambda data: {}
    done, _ = fetched(settings.model_copy(update={"retries": 30}), tmp_path / "storm")
    assert (done.whole, done.failed) == (4, [])
    assert files(tmp_path / "storm") == files(tmp_path / "calm")


@pytest.mark.parametrize("product", ["sciimg.fits", "refimg.fits"])
def test_an_exposure_that_lacks_a_file_is_not_published_half(archive, settings, tmp_path, product):
    bad = min(place for place in archive.files if place.endswith(product))
    archive.trouble = lambda place, number, headers: (
        500 if place == bad and headers.get("Range") != "bytes=0-0" else None
    )
    done, _ = fetched(settings, tmp_path)
    lost = 1 if product == "sciimg.fits" else 2
    assert (done.whole, len(done.failed)) == (4 - lost, lost)
    assert {trouble.code for trouble in done.failed} == {"archive_error"}
    assert len(images(tmp_path)) == 4 - lost
    archive.trouble = None
    done, _ = fetched(settings, tmp_path)
    assert (done.whole, done.failed) == (lost, [])
    assert len(images(tmp_path)) == 4


def test_without_links_a_shared_file_is_copied(archive, settings, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert fetched(settings, tmp_path)[0].whole == 4
    assert all(path.stat().st_nlink == 1 for path in tmp_path.rglob("*refimg.fits"))
    assert len([*tmp_path.rglob("*refimg.fits")]) == 6


def test_a_folder_that_may_not_be_written_stops_all(archive, settings, tmp_path):
    (tmp_path / "sci").write_text("a file where a folder should be")
    with pytest.raises(Misconfigured) as caught:
        fetched(settings, tmp_path)
    assert caught.value.code == "not_writable"


def planned(settings, folder, products=ALL, search=None):
    async def run():
        async with ArchiveClient(settings) as client:
            quadrants = await listed(client, search or ZtfSearch(NIGHT, NIGHT))
            return await plan_fetch(client, quadrants, products, folder, lambda: None)

    return asyncio.run(run())


def names(pieces):
    return [piece.target.name.split("_")[-1] for piece in pieces]


def test_all_files_of_a_night_with_the_difference_image_last(archive, settings, tmp_path):
    plan = planned(settings, tmp_path)
    assert (len(plan.todo), plan.whole, plan.absent, plan.failed) == (4, 0, 0, ())
    for one in plan.todo:
        assert names(one.pieces) == ["mskimg.fits", "diffimgpsf.fits", "sciimg.fits", "scimrefdiffimg.fits.fz"]
        assert {piece.target.parent for piece in one.pieces} == {tmp_path / one.quadrant.folder}
        assert one.template.target.name == one.quadrant.template_name
    assert plan.bytes == sum(map(len, archive.files.values()))
    assert len(plan.pieces) == len(archive.files)


def test_only_what_is_wanted_and_not_there_is_asked_for(archive, settings, tmp_path):
    first = planned(settings, tmp_path).todo[0]
    for piece in first.pieces:
        piece.target.parent.mkdir(parents=True, exist_ok=True)
        piece.target.write_bytes(b"there")
    plan = planned(settings, tmp_path, ("psf",))
    assert (len(plan.todo), plan.whole) == (3, 1)
    assert all(names(one.pieces) == ["diffimgpsf.fits", "scimrefdiffimg.fits.fz"] for one in plan.todo)
    again = planned(settings, tmp_path, ALL)
    assert again.todo[0].pieces == ()
    assert again.todo[0].template is not None


def test_what_the_archive_lacks_is_told_apart(archive, settings, tmp_path):
    difference, *_ = sorted(place for place in archive.files if "scimrefdiffimg" in place)
    del archive.files[difference]
    mask = next(place for place in archive.files if "mskimg" in place and difference.split("_sc")[0] not in place)
    del archive.files[mask]
    archive.counts.clear()
    plan = planned(settings, tmp_path)
    assert (len(plan.todo), plan.absent) == (3, 1)
    assert sorted(len(one.pieces) for one in plan.todo) == [3, 4, 4]
    assert not any(archive.counts[place] for place in archive.counts if difference.split("_sc")[0] in place
                   and place != difference)  # fmt: skip


def test_a_file_that_cannot_be_asked_for_fails_its_exposure_alone(archive, settings, tmp_path):
    bad = next(place for place in archive.files if "sciimg" in place)
    archive.trouble = lambda place, number, headers: 500 if place == bad else None
    plan = planned(settings, tmp_path)
    assert len(plan.todo) == 3
    (trouble,) = plan.failed
    assert trouble.code == "archive_error"
    assert bad in trouble.message


def test_the_search_limits_what_is_listed(archive, settings, tmp_path):
    both = NIGHT + timedelta(1)
    assert len(planned(settings, tmp_path, (), ZtfSearch(NIGHT, both, quadrants=(2,))).todo) == 2
    assert planned(settings, tmp_path, (), ZtfSearch(NIGHT, both, bands=("i",))).todo == ()
    assert planned(settings, tmp_path, (), ZtfSearch(NIGHT + timedelta(9), NIGHT + timedelta(9))).todo == ()


def test_too_much_is_refused_with_both_figures(settings, tmp_path):
    plan = planned(settings, tmp_path)
    require_room(plan, tmp_path / "not" / "yet", 1.0)
    require_room(plan, tmp_path, None)
    with pytest.raises(Misconfigured, match=r"17 files are 0.00 GiB|18 files are 0.00 GiB") as caught:
        require_room(plan, tmp_path, 1e-6)
    assert caught.value.where == "fetch.max_gib"
    huge = plan.todo[0].pieces[0]
    huge = Piece(type(huge.file)(huge.file.url, 2**60, None), huge.target)
    with pytest.raises(Misconfigured, match="are free") as caught:
        require_room(FetchPlan((ToFetch(plan.todo[0].quadrant, (huge,)),), 0, 0, ()), tmp_path, None)
    assert caught.value.code == "disk_full"


@pytest.mark.parametrize("product", ["refimg.fits", "sciimg.fits"])
def test_a_full_disk_stops_all(settings, tmp_path, monkeypatch, product):
    async def full(client, file, target, tell):
        if target.name.endswith(product):
            raise Retryable("disk_full", str(target), "no room.", "make room.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"whole")

    monkeypatch.setattr(ztf_fetch, "download", full)
    with pytest.raises(Retryable) as caught:
        fetched(settings, tmp_path)
    assert caught.value.code == "disk_full"


def test_what_has_come_since_it_was_planned_is_not_fetched_again(archive, settings, tmp_path):
    plan = planned(settings, tmp_path)
    planned_bytes = plan.bytes

    async def run():
        async with ArchiveClient(settings) as client:
            return await fetch(client, plan, tmp_path, lambda count: None), client.received

    assert asyncio.run(run())[1] == planned_bytes
    done, received = asyncio.run(run())
    assert (done.whole, done.files, received) == (4, [], 0)
