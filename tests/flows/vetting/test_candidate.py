"""What is gathered for the page of a candidate; the page itself: test_app.py."""

import base64
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.results.page.words import NOTHING, measured
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import write_exposure
from flows.vetting import candidate
from flows.vetting.candidate import Fact, _file_facts, _motion, _object_facts, read_candidate
from flows.vetting.stamps import _ranges, open_tiles, other_visits, place_stamps
from schemas.class_table import STAR_GALAXY
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.known_object import SS_EPHEMERIS, SS_SOURCE
from schemas.ledger import SourceFile
from schemas.objects import DIA_LINK, OBJECT
from schemas.patch import PatchKey
from schemas.settings import AssociationSettings, Settings
from tests.support.vetting import EACH, KNOWN, NIGHT, VISITS, filled, source_id

MOVER, REST, ON_OBJECT, MATCHED = (source_id(102, rank) for rank in (0, 1, 2, 3))


@pytest.fixture
def content(vet_night, vet_index):
    def made(which):
        return read_candidate(vet_night, vet_index, vet_index.row_of(which), AssociationSettings())

    return made


def words(facts):
    return {one.name: one.value for one in facts}


def row_of(out, which):
    table = CatalogStore(out).read(DIA_SOURCE, ExposureKey(night=NIGHT, visit=which >> 21, detector=3))
    return next(one for one in table.to_pylist() if one["diaSourceId"] == which)


def test_a_mover_has_its_tracklet_and_no_object(content, vet_night):
    found, row = content(MOVER), row_of(vet_night, MOVER)
    assert found.tracklet_id == source_id(101, 0)
    motion = words(found.tracklet)
    assert motion["Detections"] == "3 on 3 visits"
    assert motion["Rate"] == "3.300 ± 0.010 °/day, 8.25″/min"
    assert (motion["Towards"], motion["RMS about it"]) == ("PA 270.0 ± 0.3°", "0.10″")
    assert motion["Arc"] == "24.0″ in 2.9 min"  # two thousandths of a day
    assert motion["By chance"] == "1×10⁻⁴ expected"
    assert found.sky.count("<a href") == 3
    assert found.seen == "3 detections of its tracklet, flux of its trail"
    assert found.curve.count('class="seen') == 3
    assert found.curve.count("2500 ± 100 nJy") == 3
    facts = words(found.facts)
    assert (facts["Known as"], facts["File"]) == ("nothing known", "script>.fits")
    assert facts["Length"] == "9.0 px, 9.0 ± 0.4″"
    assert facts["Angle"] == "PA 90 deg"
    assert facts["x, y"] == f"{measured(row['x'], row['xErr'], 2)}, {measured(row['y'], row['yErr'], 2)} px"
    assert facts["RA, Dec"] == f"{row['ra']:.6f}, {row['dec']:.6f} deg, ± 0.072″ in RA, ± 0.072″ in Dec"
    assert (facts["Reliability"], facts["S/N"], facts["Flags"]) == ("0.970", "25.0", "none")
    assert dict(found.shares) == pytest.approx({"Trail": 0.6, "Point": 0.2, "Satellite": 0.05, "Artefact": 0.15})
    assert found.title.endswith("visit 102, detector 3")
    assert found.notes == ()


def test_a_slow_mover_that_is_an_object_on_each_visit_has_the_light_curve_of_its_tracklet(content, monkeypatch):
    alone = pa.Table.from_pylist([{"diaSourceId": MOVER, "midpointMjdTai": 1.0, "psfFlux": 1.0, "psfFluxErr": 1.0}])
    monkeypatch.setattr(candidate, "object_of", lambda *_: (5, alone))
    assert content(MOVER).seen == "3 detections of its tracklet, flux of its trail"


def test_a_tracklet_that_cannot_be_read_costs_its_light_curve_alone(content, monkeypatch):
    def damaged(*_):
        raise BadInput("damaged", "x.parquet", "it is damaged.", "run again.")

    monkeypatch.setattr(candidate, "curve_of", damaged)
    found = content(MOVER)
    assert (found.curve, found.sky.count("<a href")) == ("", 3)
    assert [note for note in found.notes if "x.parquet" in note]


def test_what_is_at_rest_has_a_light_curve_and_a_host(content):
    found = content(REST)
    assert (found.tracklet, found.tracklet_id, found.sky) == (
        (Fact("Seen", "again at its place: at rest"),), None, "",
    )  # fmt: skip
    assert found.seen.startswith("3 detections of its object")
    assert found.curve.count('class="seen') == 3
    assert words(found.facts)["Angle"] == NOTHING  # a point has none
    (host,) = found.static
    assert (host.name, host.match) == ("host candidate: object 77", False)
    assert list(words(host.facts).items()) == [
        ("Separation", "9.40″"), ("Directional distance", "2.50 light radii"), ("S/N", "55.0 in r"),
        ("Half-light radius", "1.70″"),
    ]  # fmt: skip


def test_the_object_that_it_sits_on_is_told(content):
    (found,) = content(ON_OBJECT).static
    assert (found.name, found.match) == ("sits on: object 77", True)
    assert list(words(found.facts)) == ["Separation", "S/N", "Half-light radius"]
    assert content(source_id(102, 5)).static == ()


def test_an_object_of_one_exposure_is_told_to_be_perhaps_the_detection_itself(content, vet_night, monkeypatch):
    read = CatalogStore.read_path

    def once(self, path, dataset):
        table = read(self, path, dataset)
        if dataset is not OBJECT:
            return table
        return table.set_column(
            table.column_names.index("nSources"), OBJECT.schema.field("nSources"), pa.array([1], pa.int32())
        )

    monkeypatch.setattr(CatalogStore, "read_path", once)
    candidate._kept.cache_clear()
    (found,) = content(ON_OBJECT).static
    candidate._kept.cache_clear()
    assert words(found.facts)["Seen"] == "on one exposure only: it may be the detection itself"


def test_known_objects_have_their_distance_and_whether_they_match(content, vet_night):
    for which, match in ((MOVER, False), (MATCHED, True)):
        (near,) = content(which).known
        assert (near.name, near.match) == (KNOWN, match)
        row, mover = (row_of(vet_night, one) for one in (which, MOVER))
        east = (mover["ra"] + 1e-4 - row["ra"]) * np.cos(np.radians(row["dec"]))
        apart = 3600 * np.hypot(east, mover["dec"] - row["dec"])
        facts = words(near.facts)
        assert float(facts["Separation"].rstrip("″")) == pytest.approx(apart, abs=0.06 + 1e-4 * apart)
        assert facts["Magnitude"] == "V 18.2"
        assert facts["Rate"].startswith("0.4000 deg/day")


def test_all_columns_are_told_with_unit_and_meaning_but_errors_with_their_value(content, vet_night):
    columns = {one.name: one for one in content(MOVER).columns}
    expected = [name for name in DIA_SOURCE.schema.names if not name.endswith("Err") and "Cov" not in name]
    assert list(columns) == expected
    row = row_of(vet_night, MOVER)
    assert columns["midpointMjdTai"].value == f"{row['midpointMjdTai']:.7f} d"
    assert columns["psfFlux"].value == "2520 ± 60 nJy"
    assert columns["visit"].value == "102"
    assert all(one.doc for one in columns.values())


def test_where_it_comes_from(content, vet_night):
    found = content(MOVER).origin
    values = words(found)
    assert values["Digest of the result"] == "e" * 64
    assert values["File"] == "file:///data/<script>alert(102)</script>.fits"
    assert values["Made"] == "2026-11-04T03:12:00+00:00 by nightstride 0.1.0"
    assert pq.read_metadata(vet_night / values["Catalogue"]).num_rows == EACH
    assert next(one.value for one in found if one.name == "SHA-256 of it") == "0" * 64


def test_a_detection_that_is_gone_is_refused(vet_night, vet_index, tmp_path, monkeypatch):
    row = vet_index.row_of(MOVER)
    with pytest.raises(BadInput):
        read_candidate(tmp_path, vet_index, row, AssociationSettings())
    others = vet_index.columns | {"diaSourceId": vet_index.columns["diaSourceId"] + 1000}
    with pytest.raises(BadInput, match="not a published detection any more") as caught:
        read_candidate(vet_night, replace(vet_index, columns=others), row, AssociationSettings())
    assert caught.value.code == "no_candidate"
    monkeypatch.setattr(Ledger, "get", lambda *_: None)  # its catalogue is still there
    with pytest.raises(BadInput, match="not a published detection any more"):
        read_candidate(vet_night, vet_index, row, AssociationSettings())


@pytest.fixture
def changed(monkeypatch):
    """Return a function that changes the records of exposures as they are read."""

    def change(**fields):
        get = Ledger.get
        monkeypatch.setattr(Ledger, "get", lambda ledger, key: get(ledger, key).model_copy(update=fields))

    return change


def test_without_tiles_there_are_no_pictures_and_all_else(content, monkeypatch):
    before = content(MATCHED)
    monkeypatch.setattr(candidate, "open_tiles", lambda *_: None)
    found = content(MATCHED)
    assert (found.stamps, found.visits) == ((), ())
    assert [note for note in found.notes if "not there any more" in note]
    assert (found.known, found.curve, found.facts) == (before.known, before.curve, before.facts)


def test_a_detection_without_a_place_has_its_stamps_and_nothing_about_the_place(content, monkeypatch):
    read, before = CatalogStore.read, content(ON_OBJECT)

    def placeless(self, dataset, key):
        table = read(self, dataset, key)
        nothing = pa.nulls(len(table), pa.float64())
        for name in ("ra", "dec") if dataset is DIA_SOURCE else ():
            table = table.set_column(table.column_names.index(name), table.schema.field(name), nothing)
        return table

    monkeypatch.setattr(CatalogStore, "read", placeless)
    found = content(ON_OBJECT)
    assert found.stamps == before.stamps
    assert (found.visits, found.known, found.static) == ((), (), ())
    assert before.visits
    assert before.known
    assert before.static


@pytest.mark.parametrize(
    ("there", "names", "match"),
    [((SS_EPHEMERIS, SS_SOURCE), [KNOWN], True), ((SS_EPHEMERIS,), [KNOWN], False), ((SS_SOURCE,), [], None),
     ((), [], None)],
)  # fmt: skip
def test_known_objects_are_told_where_they_were_predicted(content, vet_night, changed, there, names, match):
    datasets = Ledger(vet_night).get(ExposureKey(night=NIGHT, visit=102, detector=3)).datasets
    kept = {DIA_SOURCE.name, *(one.name for one in there)}
    changed(datasets={name: entry for name, entry in datasets.items() if name in kept})
    found = content(MATCHED)
    assert [(one.name, one.match) for one in found.known] == [(name, match) for name in names]


@pytest.mark.parametrize("dataset", [DIA_LINK, OBJECT])
def test_what_nobody_has_linked_sits_on_nothing_that_is_known(content, monkeypatch, dataset):
    table = CatalogStore.list
    monkeypatch.setattr(
        CatalogStore, "list", lambda self, one, *night: [] if one is dataset else table(self, one, *night)
    )
    found = [(one.name, list(words(one.facts))) for one in content(ON_OBJECT).static]
    assert found == ([] if dataset is DIA_LINK else [("sits on: object 77", ["Separation"])])


def test_of_patches_that_is_read_in_which_the_place_lies(tmp_path):
    place = 150.0, 20.0
    own = int(candidate.pixels_at(np.array([place[0]]), np.array([place[1]]), 5)[0])
    for pixel, label, share in ((own, "star", 0.9), (own + 1, "galaxy", 0.1)):
        key = PatchKey(night=NIGHT, order=5, pixel=pixel)
        row = {"objectId": 5, "classLabel": label, "pStar": share, "pGalaxy": 1 - share}
        CatalogStore(tmp_path).publish(STAR_GALAXY, key, filled(STAR_GALAXY, [row]), "d")
    found = words(_object_facts(tmp_path, NIGHT, place, 5))
    assert list(found) == ["Image"]  # no other dataset has it
    assert found["Image"].startswith("star (")
    assert _object_facts(tmp_path, NIGHT, place, 6) == []
    assert _object_facts(tmp_path, NIGHT, (150.0, -20.0), 5) == []


def test_each_plane_that_has_a_file_of_its_own_is_named(vet_night):
    record = Ledger(vet_night).get(ExposureKey(night=NIGHT, visit=101, detector=3))
    files = {"difference": SourceFile(uri="a.fits", sha256="1" * 64), "science": SourceFile(uri="b.fits")}
    told = [(one.name, one.value) for one in _file_facts(record.model_copy(update={"source_files": files}))]
    assert told == [
        ("File, difference", "a.fits"), ("SHA-256 of it", "1" * 64), ("File, science", "b.fits"),
        ("SHA-256 of it", NOTHING),
    ]  # fmt: skip
    assert [one.value for one in _file_facts(record)] == [record.source_uri, record.source_sha256]


def test_a_tracklet_that_the_night_does_not_list_is_drawn(vet_index):
    unlisted = replace(vet_index, tracklets=vet_index.tracklets.slice(0, 0))
    facts, identity, drawn = _motion(unlisted, unlisted.row_of(MOVER), MOVER)
    assert (facts, identity, bool(drawn)) == ((), source_id(101, 0), True)


def test_stamps_are_the_planes_about_it_and_the_other_visits_by_time(content, vet_night, vet_index):
    found = content(MOVER)
    assert [one.name for one in found.stamps] == ["difference", "science", "template"]
    store = open_tiles(vet_night, found.key)
    again = place_stamps(store, found.detection)
    assert again == list(found.stamps)
    for stamp in again:
        values = np.frombuffer(base64.b64decode(stamp.values), "<f4").reshape(stamp.side, stamp.side)
        y0, x0 = round(found.detection.y) - stamp.side // 2, round(found.detection.x) - stamp.side // 2
        plane = store.read(stamp.name, y0, x0, y0 + stamp.side, x0 + stamp.side)
        known = np.isfinite(values[::-1])
        np.testing.assert_array_equal(values[::-1][known], plane[known])
        assert (stamp.width, stamp.unit) == (stamp.side, store.info.pixel_unit)
        low, high = np.nanmin(values), np.nanmax(values)
        assert (stamp.ranges["linear"].low, stamp.ranges["linear"].high) == pytest.approx((low, high))
        assert low <= stamp.ranges["zscale"].low < stamp.ranges["zscale"].high <= high + 1
        assert stamp.mark is not None
    asinh, noise = again[0].ranges["asinh"], store.info.noise
    level = store.info.background
    assert (asinh.low, asinh.high, asinh.soft) == pytest.approx((level - 3 * noise, level + 8 * noise, 4 * noise))
    assert [one.link.split("?")[0] for one in found.visits] == [f"/exposure/{NIGHT}/{v}-3" for v in VISITS if v != 102]
    assert [one.name.split(" ", 1)[1] for one in found.visits] == ["-1 min", "+1 min"]
    assert {one.side for one in found.visits} == {again[0].side}
    assert all(one.mark is None for one in found.visits)


def test_visits_of_other_nights_are_shown_too(content, vet_night, vet_index, tmp_path):
    found = content(MOVER)
    store = open_tiles(vet_night, found.key)
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / NIGHT).symlink_to(tile_path(vet_night, found.key).parent)
    planes = {name: store.read(name, 0, 0, *store.info.shape) for name in store.planes}
    later = store.info.model_copy(
        update={"night": "20261106", "visit": 300, "midpoint_mjd_tai": store.info.midpoint_mjd_tai + 3}
    )
    write_exposure(tile_path(tmp_path, later), later, planes, Settings().tiles, "d")
    records = vet_index.exposures[NIGHT]
    other = next(one for one in records if one.key == found.key).model_copy(update={"night": "20261106", "visit": 300})
    row = row_of(vet_night, MOVER)
    place = row["ra"], row["dec"]
    shown = other_visits(tmp_path, [other, *records], found.key, found.detection, place, store.info.midpoint_mjd_tai)
    assert [one.name.split(" ", 1)[1] for one in shown] == ["-1 min", "+1 min", "+3.0 d"]
    assert shown[-1].link.startswith("/exposure/20261106/300-3")


def test_a_place_that_is_not_on_an_exposure_has_no_picture_of_it(content, vet_night, vet_index):
    found = content(MOVER)
    records = vet_index.exposures[NIGHT]
    assert other_visits(vet_night, records, found.key, found.detection, (10.0, -40.0), 0.0) == []
    assert open_tiles(vet_night, ExposureKey(night=NIGHT, visit=999, detector=3)) is None
    row = row_of(vet_night, MOVER)
    pruned = [one.model_copy(update={"visit": 900 + one.visit}) for one in records]
    assert other_visits(vet_night, pruned, found.key, found.detection, (row["ra"], row["dec"]), 0.0) == []


def test_a_picture_without_a_value_has_ranges_that_can_be_drawn():
    for one in _ranges(np.full((3, 3), np.nan, np.float32), 10.0, 2.0, 8.0).values():
        assert np.isfinite([one.low, one.high]).all()
        assert one.low < one.high
    flat = _ranges(np.full((3, 3), 7.0, np.float32), 10.0, 2.0, 8.0)
    assert [(flat[name].low, flat[name].high) for name in ("zscale", "linear")] == [(7.0, 9.0)] * 2


def test_a_tracklet_may_have_the_number_0(vet_index):
    mover = source_id(101, 0)
    tracklet = vet_index.columns["tracklet"]
    first = replace(
        vet_index,
        columns=vet_index.columns | {"tracklet": np.where(tracklet == mover, 0, tracklet)},
        tracklets=vet_index.tracklets.set_column(0, "trackletId", pa.array([0], pa.int64())),
    )
    facts, identity, drawn = _motion(first, first.row_of(mover), mover)
    assert (words(facts)["Detections"], identity, bool(drawn)) == ("3 on 3 visits", 0, True)
