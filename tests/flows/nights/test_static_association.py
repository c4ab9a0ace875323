"""Lasting objects within an output folder: ids over nights and reprocessing, in any patches; failures; the command."""

import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nightstride as ns
from flows.nights import associate, catalogues, patches, run
from flows.nights.associate import associate_output
from flows.pipeline.graph import declared_tables
from flows.results.verify import verify_output
from flows.storage.association_tables import FILE
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger, unpublish
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.objects import OBJECT
from schemas.settings import AssociationSettings, PatchesSettings, Settings
from schemas.static_object import STATIC_OBJECT
from stages.gather_objects import STAGE as GATHER
from tests.support.cli import nightstride
from tests.support.finished import finished as ended
from tests.support.patch_night import CORNER, INFOS, places, publish, without

NIGHTS = ("20260101", "20260102", "20260103")


def info_of(n, night):
    """An exposure of the field on the n-th night."""
    one = INFOS[n % len(INFOS)]
    return one.model_copy(update={"night": night, "visit": one.visit + 10 * n, "midpoint_mjd_tai": 61041.0 + n})


def search(out, n):
    """Publish the exposure of the n-th night: of the second two in three sources, of the third with other fluxes."""
    where = places()[::3]
    publish(out, info_of(n, NIGHTS[n]), where[len(where) // 3 :] if n == 1 else where, flux=6e4 if n == 2 else 3e4)


def settings(order=7, **association):
    return Settings(patches=PatchesSettings(order=order), association=AssociationSettings(**association))


def finished(out, *nights, given=None):
    """End a run of some nights in patches that have borders in the field."""
    return ended(out, *nights, settings=given or settings())


@pytest.fixture(autouse=True)
def made_here(monkeypatch):
    monkeypatch.setattr(patches, "HERE", 1000)


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Three nights that are not brought together."""
    out = tmp_path_factory.mktemp("field")
    for n in range(len(NIGHTS)):
        search(out, n)
    return out


@pytest.fixture
def out(field, tmp_path):
    return shutil.copytree(field, tmp_path / "out")


@pytest.fixture(scope="module")
def made(field, tmp_path_factory):
    """The nights brought together in the order of time, in patches of order 7."""
    out = shutil.copytree(field, tmp_path_factory.mktemp("made") / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "HERE", 1000)
        for night in NIGHTS:
            assert finished(out, night).exit_code == 0
    return out


def rows(out, night):
    return CatalogStore(out).read_night(STATIC_OBJECT, night).sort_by("objectId").to_pylist()


def ids(out, night):
    return {one["objectId"]: one["staticObjectId"] for one in rows(out, night)}


def test_each_object_of_a_night_has_a_lasting_id(made):
    objects = {night: CatalogStore(made).read_night(OBJECT, night).sort_by("objectId") for night in NIGHTS}
    for night in NIGHTS:
        assert [one["objectId"] for one in rows(made, night)] == objects[night]["objectId"].to_pylist()
    assert {**ids(made, NIGHTS[0])} == {one: one for one in ids(made, NIGHTS[0])}
    first, second, third = (set(ids(made, night).values()) for night in NIGHTS)
    assert len(first & third) > 0.9 * len(first)
    assert len(second & first) > 0.9 * len(second)
    assert len(first) > len(second) > 10


def test_histories_are_those_of_the_catalogues(made):
    """Against the fluxes of all nights, joined by ids, and their distances by the plain sphere."""
    flux, place = {}, {}
    for night in NIGHTS:
        lasting = ids(made, night)
        for one in CatalogStore(made).read_night(OBJECT, night).to_pylist():
            flux.setdefault(lasting[one["objectId"]], []).append((one["r_psfFlux"], one["g_psfFlux"]))
            place.setdefault(lasting[one["objectId"]], []).append((one["ra"], one["dec"]))
    for one in rows(made, NIGHTS[2]):
        red = [r for r, _ in flux[one["staticObjectId"]] if r is not None]
        assert one["nNights"] == len(flux[one["staticObjectId"]])
        assert (one["r_psfFluxNdata"], one["r_psfFluxMin"]) == (len(red), pytest.approx(min(red)) if red else None)
        _, dec = np.array(place[one["staticObjectId"]]).T
        assert np.ptp(dec) * 3600 < 1.5
        assert one["meanDec"] == pytest.approx(dec.mean(), abs=0.7 / 3600)
    assert {one["firstNight"] for one in rows(made, NIGHTS[2])} >= {NIGHTS[0]}
    assert {one["lastNight"] for one in rows(made, NIGHTS[2])} == {NIGHTS[2]}


@pytest.mark.parametrize("order", [5, 9])
def test_neither_borders_nor_the_way_there_play_a_part(out, made, order):
    """All nights in one run and in other patches, against one night after the other."""
    assert finished(out, *NIGHTS, given=settings(order)).exit_code == 0
    for night in NIGHTS:
        assert rows(out, night) == rows(made, night)
    assert verify_output(out, declared_tables()).problems == ()


@pytest.fixture
def backwards(tmp_path):
    """The nights searched and brought together from the last to the first."""
    for n in (2, 1, 0):
        search(tmp_path, n)
        finished(tmp_path, NIGHTS[n])
    return tmp_path


def test_a_backfill_of_earlier_nights_changes_no_id(backwards, made):
    out, before = backwards, ids(backwards, NIGHTS[2])
    assert {one["nNights"] for one in rows(out, NIGHTS[2])} == {1}
    summary = finished(out, *NIGHTS)
    assert summary.catalogues["static_object"] == sum(len(ids(out, night)) for night in NIGHTS)
    assert ids(out, NIGHTS[2]) == before == {one: one for one in before}
    assert {one["nNights"] for one in rows(out, NIGHTS[2])} >= {2, 3}  # made again, with the earlier nights
    assert len({*ids(out, NIGHTS[0]).values()} & {*before.values()}) == len(
        {*ids(made, NIGHTS[0]).values()} & {*ids(made, NIGHTS[2]).values()}
    )


def test_a_night_with_another_exposure_keeps_the_ids(out):
    finished(out, NIGHTS[0])
    before = set(ids(out, NIGHTS[0]).values())
    publish(out, info_of(3, NIGHTS[0]), places()[::3], flux=5e4)
    finished(out, NIGHTS[0])
    after = ids(out, NIGHTS[0])
    assert {*after} != before  # positions have changed, and so the ids within the night
    assert {*after.values()} >= before


def test_a_second_run_does_nothing(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    summary = finished(out, *NIGHTS)
    assert "objects" not in summary.seconds
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not summary.not_run.keys() & {"gather_static_objects"}


def test_a_night_that_is_withdrawn_takes_its_objects_with_it(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    for record in [*Ledger(out).records(NIGHTS[0])]:
        unpublish(record, out)
    finished(out, *NIGHTS)
    left = rows(out, NIGHTS[2])
    assert {one["nNights"] for one in left} == {1, 2}
    assert CatalogStore(out).read_night(STATIC_OBJECT, NIGHTS[0]) is None
    assert verify_output(out, declared_tables()).problems == ()
    for record in [*Ledger(out).records(NIGHTS[2])]:
        unpublish(record, out)
    finished(out, *NIGHTS)
    ended = min({*ids(made, NIGHTS[0]).values()} - {*ids(out, NIGHTS[1]).values()})
    told = nightstride("explain", out, ended)
    pattern = rf"has no object {ended} on the science images any more: it ended at \S+, with night {NIGHTS[2]}\. "
    assert (told.code, bool(re.search(pattern, told.stderr))) == (2, True)


def test_the_command_makes_later_nights_again_and_begins_again_in_the_order_of_time(backwards, made):
    out, before = backwards, ids(backwards, NIGHTS[2])
    associate_output(out, settings(), EVERY_NIGHT, False, print)
    assert ids(out, NIGHTS[2]) == before
    assert {one["nNights"] for one in rows(out, NIGHTS[2])} >= {2, 3}
    associate_output(out, settings(), EVERY_NIGHT, True, print)
    for night in NIGHTS:
        assert rows(out, night) == rows(made, night)
    assert verify_output(out, declared_tables()).problems == ()


def test_a_lost_store_is_made_again_from_the_catalogues(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    (out / FILE).unlink()
    associate_output(out, settings(), EVERY_NIGHT, False, print)
    for night in NIGHTS:
        assert rows(out, night) == rows(made, night)


def test_without_association_they_are_not_made(out):
    summary = finished(out, NIGHTS[0], given=settings(store="none"))
    assert summary.not_run["gather_static_objects"] == "association.store is none"
    assert "static_object" not in summary.catalogues


def test_a_damaged_catalogue_is_told_and_the_other_nights_go_on(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    path = CatalogStore(out).list(OBJECT)[0]
    path.write_bytes(path.read_bytes()[:-100])
    (out / FILE).unlink()
    summary = associate_output(out, settings(), EVERY_NIGHT, False, print)
    assert summary.exit_code == 1
    assert any(NIGHTS[0] in one.message for one in summary.failed)
    finished(out, NIGHTS[0])  # the file is made again
    assert associate_output(out, settings(), NightRange.of(NIGHTS[0]), False, print).exit_code == 0


def test_explain_tells_what_an_object_was_in_each_night(made):
    (row,) = [one for one in rows(made, NIGHTS[2]) if one["nNights"] == 3][:1]
    for identity in (row["staticObjectId"], row["objectId"]):
        told = nightstride("explain", made, identity, "--json")
        assert (told.code, told.summary["staticObjectId"]) == (0, row["staticObjectId"])
        assert [one["night"] for one in told.summary["nights"]] == [*NIGHTS]
        assert f"object {row['objectId']} at {row['meanRa']:.1f}" in told.stderr
    refused = nightstride("explain", made, row["objectId"], "--picture", made / "a.png")
    assert (refused.code, "draws detections" in refused.stderr) == (2, True)
    assert nightstride("explain", made, 12345).code == 2


def test_light_curves_are_joined_as_the_page_says(made):
    page = (Path(__file__).parents[3] / "docs/use/association.md").read_text()
    (snippet,) = (
        one for one in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "static_object" in one
    )
    names = {"out": str(made)}
    exec(compile(snippet, "association.md", "exec"), names)
    found = names["by_night"].collect()
    assert len(found) == sum(len(ids(made, night)) for night in NIGHTS)
    assert found["staticObjectId"].n_unique() == len({one for night in NIGHTS for one in ids(made, night).values()})


def test_verify_tells_of_a_night_that_is_associated_otherwise(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    with closing(sqlite3.connect(out / FILE)) as connection, connection:
        connection.execute("UPDATE static_night SET madeFrom = 'x' WHERE night = ?", [NIGHTS[1]])
        connection.execute("DELETE FROM static_seen WHERE night = ?", [NIGHTS[0]])
    told = nightstride("verify", out, "--json")
    said = " ".join(one["problem"] for one in told.summary["problems"])
    assert f"objects of night {NIGHTS[1]} on the science images are not associated as they are published" in said
    assert "lasting objects do not have as many nights as they say" in said


def test_python_has_them(made):
    found = ns.open(made).static_objects(["staticObjectId", "nNights", "r_psfFluxMean"], "nNights == 3")
    assert set(found["nNights"].tolist()) == {3}
    assert set(found["staticObjectId"].tolist()) <= {*ids(made, NIGHTS[0])} | {*ids(made, NIGHTS[2]).values()}


def test_a_patch_whose_objects_fail_withholds_those_of_no_other_and_is_tried_once(out, monkeypatch):
    tried = []

    def failing(inputs, context):
        if context.patch.holds(*np.array(CORNER)[:, None] + 0.002).any():
            tried.append(context.patch.pixel)
            raise ValueError("bad luck")
        return GATHER.run(inputs, context)

    stages = tuple(replace(one, run=failing) if one is GATHER else one for one in run.PIPELINE)
    with monkeypatch.context() as patch:
        patch.setattr(run, "PIPELINE", stages)
        patch.setattr(catalogues, "PIPELINE", stages)
        for _ in range(2):
            summary = finished(out, *NIGHTS, given=settings(9))
            assert {one.code for one in summary.night_failed} == {"ValueError"}
            assert len(tried) == len(set(summary.night_failed)) == 3
            tried.clear()
            for night in NIGHTS:
                assert [one["objectId"] for one in rows(out, night)] == sorted(
                    CatalogStore(out).read_night(OBJECT, night)["objectId"].to_pylist()
                )
    assert finished(out, *NIGHTS, given=settings(9)).exit_code == 0
    assert "objects" not in finished(out, *NIGHTS, given=settings(9)).seconds


def test_an_unreadable_catalogue_of_an_earlier_night_withholds_no_later_one(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    path = next(one for one in CatalogStore(out).list(OBJECT) if NIGHTS[0] in str(one))
    path.write_bytes(path.read_bytes()[:-100])
    with closing(sqlite3.connect(out / FILE)) as connection, connection:
        connection.execute("UPDATE static_night SET madeFrom = 'x' WHERE night = ?", [NIGHTS[0]])
        connection.execute("UPDATE night SET stamp = ''")
    publish(out, info_of(3, "20260104"), places()[::3])
    summary = finished(out, "20260104")
    assert summary.night_failed == ()  # it is told to those who ask for that night
    assert {one["nNights"] for one in rows(out, "20260104")} >= {4}
    assert len(rows(out, NIGHTS[0])) > 0


def test_the_command_leaves_what_is_of_a_night_as_a_whole(made, tmp_path, monkeypatch):
    out = shutil.copytree(made, tmp_path / "out")
    before = Ledger(out).night(NIGHTS[0]).datasets
    (out / FILE).unlink()
    monkeypatch.setattr(associate, "PIPELINE", without(associate.PIPELINE, "link_tracklets"))
    assert associate_output(out, settings(), EVERY_NIGHT, False, print).exit_code == 0
    assert Ledger(out).night(NIGHTS[0]).datasets == before != {}
    assert rows(out, NIGHTS[2]) == rows(made, NIGHTS[2])
