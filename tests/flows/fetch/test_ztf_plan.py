import asyncio
from datetime import date, timedelta

import pytest

from flows.fetch.archive_client import ArchiveClient
from flows.fetch.ztf_plan import FetchPlan, Piece, ToFetch, listed, plan_fetch, require_room
from flows.fetch.ztf_search import ZtfSearch
from schemas.errors import Misconfigured

pytest_plugins = ("tests.flows.fetch.fetch_fixture",)
ALL = ("mask", "psf", "science", "template")
NIGHT = date(2018, 12, 1)


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
