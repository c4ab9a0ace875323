"""Objects at rest in patches: those of the whole night, whatever the borders; what is read, and what fails."""

import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.nights import patches
from flows.nights.cluster import memory
from flows.nights.cluster.cluster import cluster
from flows.nights.patch_stages import margin_of
from flows.nights.patches import run_nights
from flows.pipeline.night_plan import plan_nights
from flows.results.verify import verify_output
from flows.storage.association_store import AssociationStore, opened_association
from flows.storage.association_tables import FILE
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from kernels.sky.patches import Patch, neighbours, pixels_at
from schemas.class_table import STAR_GALAXY
from schemas.dia_object import ASSOCIATION, DIA_OBJECT, DIA_OBJECT_SOURCE, DiaObjectFlag
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Retryable
from schemas.ledger import NightRecord
from schemas.objects import DIA_LINK, OBJECT
from schemas.patch import COVER_ORDER
from schemas.settings import AssociationSettings, ExecutionSettings, PatchesSettings, Settings
from schemas.stage import Context, Stage
from stages.gather_dia_objects import STAGE as GATHER
from tests.support.associated_night import LINKING, PIPELINE, STARS, make_night, pipeline, publish, table
from tests.support.association import detections, key
from tests.support.night import catalogues
from tests.support.patch_night import NIGHT

MARGIN = margin_of(DIA_OBJECT)
TABLES = {form.name: form for form in (*(stage.gives for stage in PIPELINE), MARGIN)}
ARCSEC = 1 / 3600


def settings(order, **changed):
    return Settings(patches=PatchesSettings(order=order, **changed), execution=ExecutionSettings(retries=0))


def plan(out, order=7, stages=PIPELINE, digest="d", **changed):
    known = None if digest is None else {NIGHT: digest}
    return plan_nights([NIGHT], out, settings(order, **changed), stages, known)


def run(out, order=7, stages=PIPELINE, digest="d", workers=None, **changed):
    works = plan(out, order, stages, digest, **changed)
    return run_nights(works, out, settings(order, **changed), workers).get(NIGHT)


@pytest.fixture(autouse=True)
def made_here(monkeypatch):
    monkeypatch.setattr(patches, "HERE", 1000)


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    out = tmp_path_factory.mktemp("field")
    make_night(out)
    return out


@pytest.fixture(scope="module")
def made(field, tmp_path_factory):
    """The night in patches of order 9."""
    out = shutil.copytree(field, tmp_path_factory.mktemp("made") / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "HERE", 1000)
        assert run(out, 9).failed == []
    return out


@pytest.fixture
def out(field, tmp_path):
    return shutil.copytree(field, tmp_path / "out")


def rows(out, dataset):
    return CatalogStore(out).read_night(dataset, NIGHT).sort_by(dataset.schema.names[0])


def of_whole_night(out):
    """The objects and their detections, made of the whole association of the night at once."""
    with opened_association(out, AssociationSettings()) as store:
        found = store.history(NIGHT)
    objects = GATHER(
        {ASSOCIATION.name: found, **{one.name: rows(out, one) for one in (DIA_LINK, STAR_GALAXY)}}, Context()
    )
    own = found.filter(pc.equal(found["night"], NIGHT)).sort_by("diaSourceId")
    return objects.rows, own.select(DIA_OBJECT_SOURCE.schema.names).cast(DIA_OBJECT_SOURCE.schema)


def held(path, dataset):
    """The patch of a file, and its rows."""
    order, pixel = (int(path.parts[n].removesuffix(".parquet").partition("=")[2]) for n in (-3, -1))
    return Patch(order, pixel, 30.0), CatalogStore(path).read_path(path, dataset)


@pytest.mark.parametrize(("order", "sources"), [(5, 40_000), (7, 40_000), (9, 40_000), (5, 20)])
def test_objects_are_those_of_the_whole_night_wherever_the_borders_lie(out, order, sources):
    result = run(out, order, sources=sources)
    assert result.failed == []
    assert not result.not_run.keys() & {"gather_dia_objects", "link_dia_objects"}
    objects, links = of_whole_night(out)
    assert rows(out, DIA_OBJECT).equals(objects)
    assert rows(out, DIA_OBJECT_SOURCE).equals(links)
    assert (result.rows["dia_object"], result.rows["dia_object_source"]) == (len(objects), len(links))
    flags = np.bitwise_or.reduce(objects["flags"].to_numpy())
    assert flags == DiaObjectFlag.STATIONARY | DiaObjectFlag.VARIABLE_STAR | DiaObjectFlag.NUCLEAR
    speed = np.hypot(*(objects[name].to_numpy() for name in ("pmRa", "pmDec")))
    assert (speed > 3500).sum() > 0.9 * STARS
    assert len(CatalogStore(out).list(DIA_OBJECT)) > (4 if order == 9 or sources == 20 else 3)
    assert verify_output(out, TABLES).problems == ()


def test_each_object_lies_in_its_patch_and_its_detections_are_with_it(made):
    far, source_of = 0, {}
    for path in CatalogStore(made).list(TABLES["dia_source"]):
        found = CatalogStore(made).read_path(path, TABLES["dia_source"])
        where = np.stack([found[name].to_numpy() for name in ("ra", "dec")], axis=1)
        source_of |= dict(zip(found["diaSourceId"].to_pylist(), where, strict=True))
    for path, of in zip(CatalogStore(made).list(DIA_OBJECT), CatalogStore(made).list(DIA_OBJECT_SOURCE), strict=True):
        patch, objects = held(path, DIA_OBJECT)
        assert patch.holds(objects["ra"].to_numpy(), objects["dec"].to_numpy()).all()
        _, links = held(of, DIA_OBJECT_SOURCE)
        assert set(links["diaObjectId"].to_pylist()) == set(objects["diaObjectId"].to_pylist())
        where = np.array([source_of[one] for one in links["diaSourceId"].to_pylist()]).reshape(-1, 2)
        far += (~patch.holds(*where.T)).sum()
    assert far > 10  # detections that lie in another patch than their object


def test_margins_hold_all_objects_around_a_patch(made):
    every, around = rows(made, DIA_OBJECT), 0
    for path in CatalogStore(made).list(MARGIN):
        patch, found = held(path, MARGIN)
        where = every["ra"].to_numpy(), every["dec"].to_numpy()
        near = patch.holds(*where, patch.margin) & ~patch.holds(*where)
        assert found.equals(every.filter(pa.array(near)))
        around += len(found)
    assert around > 20


@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_lsdb_opens_it_as_it_is(made):
    lsdb = pytest.importorskip("lsdb", reason="the extra hats is not installed")
    folders = {form.name: made / "catalogs" / form.name / f"night={NIGHT}" for form in (DIA_OBJECT, MARGIN)}
    catalogue = lsdb.open_catalog(folders["dia_object"], margin_cache=folders[MARGIN.name])
    expected = rows(made, DIA_OBJECT)
    assert sorted(catalogue.compute()["diaObjectId"]) == expected["diaObjectId"].to_pylist()
    assert len(catalogue) == len(expected)
    ra, dec = expected["ra"][0].as_py(), expected["dec"][0].as_py()
    found = catalogue.cone_search(ra, dec, 2.0).compute()
    assert found["diaObjectId"].tolist() == [expected["diaObjectId"][0].as_py()]


def test_a_rerun_makes_nothing_and_another_association_objects_alone(out):
    run(out)
    before = catalogues(out)
    assert run(out) is None
    result = run(out, digest="another")
    assert result.seconds.keys() >= {"gather_dia_objects", "link_dia_objects"}
    assert "link_hosts" not in result.seconds
    after = catalogues(out)
    changed = {name.partition("/")[0] for name in after if after[name] != before[name]}
    assert {"dia_object", "dia_object_source", "dia_object_margin"} >= changed > {"dia_object"}  # digests are in them
    assert run(out, digest="another") is None


def test_what_detections_sit_on_is_looked_at_again_when_it_changes(out):
    run(out)
    result = run(out, stages=pipeline(replace(LINKING, version="another")))
    assert result.seconds.keys() >= {"link_hosts", "gather_dia_objects"}
    assert rows(out, DIA_OBJECT).equals(of_whole_night(out)[0])


def test_fluxes_of_objects_are_read_of_the_patches_around(out):
    """All stars have the flux of their detections, and lie north of them, some in another patch."""

    def measure(inputs, context):
        found = inputs[DIA_SOURCE.name]
        ra, dec = found["ra"].to_numpy(), found["dec"].to_numpy() + ARCSEC
        own = found.filter(pa.array(context.patch.holds(ra, dec)))
        columns = {"objectId": own["diaSourceId"], "ra": own["ra"], "dec": pc.add(own["dec"], ARCSEC)}
        return table(OBJECT, columns | {"r_nExposures": [1] * len(own), "r_psfFlux": own["psfFlux"]}, len(own))

    measuring = Stage("gather_objects", "t", "patch", (DIA_SOURCE,), OBJECT, measure, margin=True)
    used = (DIA_LINK, STAR_GALAXY, DIA_OBJECT, DIA_OBJECT_SOURCE)
    others = [stage for stage in PIPELINE if stage.per != "patch" or stage.gives in used]
    assert run(out, 9, (measuring, *others)).failed == []
    assert len(rows(out, OBJECT)) == len(rows(out, DIA_LINK))
    flags = rows(out, DIA_OBJECT)["flags"].to_numpy()
    assert np.bitwise_or.reduce(flags) == DiaObjectFlag.STATIONARY | DiaObjectFlag.NUCLEAR


def test_without_its_store_what_there_is_stays_and_the_rest_waits(out, monkeypatch):
    assert run(out, digest=None).not_run["gather_dia_objects"] == "no association in the input"
    run(out)
    before = catalogues(out)
    assert run(out, digest=None) is None
    run(out, stages=pipeline(replace(LINKING, version="another")), digest=None)
    after = catalogues(out)
    assert {name.partition("/")[0] for name in after if after[name] != before[name]} == {"dia_link"}

    def down(*_):
        raise Retryable("association_down", "a database", "does not answer.", "see to it.")

    monkeypatch.setattr(AssociationStore, "history", down)
    result = run(out, digest="another")
    assert {one.code for one in result.failed} == {"association_down"}
    assert CatalogStore(out).list(DIA_OBJECT) == []  # it is of another association
    monkeypatch.undo()
    monkeypatch.setattr(patches, "HERE", 1000)
    assert run(out, digest="another").failed == []
    assert rows(out, DIA_OBJECT).equals(of_whole_night(out)[0])


def test_a_patch_whose_objects_were_seen_too_often_is_told_before_they_are_read(out, monkeypatch):
    """Of thirty million detections of an object: its row in the store says how many there are."""
    with closing(sqlite3.connect(out / FILE)) as file, file:
        (often,) = file.execute("SELECT min(diaObjectId) FROM dia_object").fetchone()
        file.execute("UPDATE dia_object SET nDiaSources = 30000000 WHERE diaObjectId = ?", [often])
    asked = []
    read = AssociationStore.history
    monkeypatch.setattr(AssociationStore, "history", lambda *given: asked.append(given[2]) or read(*given))
    monkeypatch.setattr(memory, "_memory_here", lambda: 8 * 2**30)
    result = run(out)
    assert {one.code for one in result.failed} == {"memory"}
    assert re.search(
        r"30,\d{3},\d{3} detections, .* take up to 17\.\d\d GiB, there are 8\.00", result.failed[0].message
    )
    refused = {one.message.partition("patch ")[2].partition(":")[0] for one in result.failed}
    assert refused.isdisjoint(f"{patch.order}-{patch.pixel}" for patch in asked)
    lacking = {one.name for one in Ledger(out).patches(NIGHT) if "dia_object" not in one.datasets | one.idle}
    assert lacking == refused


def test_patches_beside_one_that_failed_wait_for_it(out, made):
    bad, _ = held(CatalogStore(made).list(DIA_LINK)[0], DIA_LINK)

    def broken(inputs, context):
        if context.patch.pixel == bad.pixel:
            raise ZeroDivisionError("a defect of the stage")
        return LINKING.run(inputs, context)

    result = run(out, 9, pipeline(replace(LINKING, run=broken)))
    assert len(result.failed) == 1
    lacking = {one.pixel for one in Ledger(out).patches(NIGHT) if "dia_object" not in one.datasets | one.idle}
    there = {one.key.pixel for one in plan(out, 9)[0].patches}
    assert lacking == there & {bad.pixel, *neighbours(np.array([bad.pixel]), 9).tolist()} < there
    assert run(out, 9).failed == []
    assert rows(out, DIA_OBJECT).equals(of_whole_night(out)[0])


def test_the_file_of_a_whole_night_that_was_is_withdrawn(out):
    store, ledger = CatalogStore(out), Ledger(out)
    former = store.record(store.publish(DIA_OBJECT, NIGHT, DIA_OBJECT.empty(), "former"))
    ledger.put_night(
        NightRecord(night=NIGHT, datasets={"dia_object": former}, exposures=2, software="0", finished_at="now")
    )
    assert run(out).failed == []
    assert not (out / former.path).exists()
    assert ledger.night(NIGHT).datasets == {}
    assert len(rows(out, DIA_OBJECT)) > 0
    assert verify_output(out, TABLES).problems == ()


def test_an_object_whose_mean_is_outside_all_patches_belongs_to_one_that_touches_it(tmp_path):
    """It was seen just inside in the night, and just outside before."""
    (own,) = pixels_at(np.array([45.0]), np.array([10.0]), COVER_ORDER)
    dec = 10 + np.arange(0, 900, 0.02) * ARCSEC
    edge = dec[np.flatnonzero(pixels_at(np.full(len(dec), 45.0), dec, COVER_ORDER) != own)[0]]
    with opened_association(tmp_path, AssociationSettings()) as store:
        for visit, north in ((1, 0.2), (2, 0.2), (3, -0.1)):
            night = NIGHT if visit == 3 else "20250101"
            found = detections(visit, [45.0], [edge + north * ARCSEC])
            store.associate(key(visit, night), "d", found, AssociationSettings())
    publish(tmp_path, 3, found, (int(own),))
    assert run(tmp_path, 9).failed == []
    (path,) = CatalogStore(tmp_path).list(DIA_OBJECT)
    patch, objects = held(path, DIA_OBJECT)
    assert len(objects) == 1
    assert not patch.holds(objects["ra"].to_numpy(), objects["dec"].to_numpy()).any()
    assert len(rows(tmp_path, DIA_OBJECT_SOURCE)) == 1
    assert len(rows(tmp_path, MARGIN)) == 0


def test_where_no_object_was_seen_there_is_no_catalogue(tmp_path):
    publish(
        tmp_path,
        3,
        detections(3, [45.0], [10.0], trailLength=[9.0]),
        (0, *pixels_at(np.array([45.0]), np.array([10.0]), 9)),
    )
    result = run(tmp_path, 9)
    assert (result.failed, result.not_run["gather_dia_objects"]) == ([], "nothing of the night lies there")
    assert CatalogStore(tmp_path).list(DIA_OBJECT) == []
    assert run(tmp_path, 9) is None


@pytest.mark.slow
def test_workers_give_the_same_bytes(out, made):
    with cluster(Settings(execution=ExecutionSettings(workers=2)), out) as workers:
        assert run(out, 9, workers=workers).failed == []
    assert catalogues(out) == catalogues(made)
