import asyncio
import os
import random
from datetime import date
from pathlib import Path

import pytest

from flows.adapters.sources import list_sources
from flows.fetch.archive_client import ArchiveClient
from flows.fetch.ztf_fetch import fetch
from flows.fetch.ztf_plan import listed, plan_fetch
from flows.fetch.ztf_search import ZtfSearch
from flows.ingest import prepare
from schemas.errors import Misconfigured
from schemas.settings import Settings

pytest_plugins = ("tests.flows.fetch.fetch_fixture",)
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
