import json
import random
from collections import Counter
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from unittest.mock import patch

import pyarrow as pa
import pytest

from flows.publish import ades_files, ades_night, submissions
from flows.publish.ades_night import reportable_night, require_good, trails_agree
from flows.publish.ades_report import draft_report, submit_report, tracklet_names
from flows.publish.submissions import Submissions
from flows.storage.atomic import WriteConditions
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import submissions_folder
from flows.storage.ledger import Ledger
from flows.storage.object_store import configure
from schemas.ades import AdesSettings
from schemas.dia_source import DIA_SOURCE, DetectionFlag, exposure_of
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.settings import StoreSettings
from schemas.tracklets import TRACKLET
from tests.support.ades import (
    NIGHT,
    REAL,
    SETTINGS,
    apart_arcsec,
    as_xml,
    measured,
    needs_schema,
    needs_ztf,
    parsed,
    publish_rows,
    two_movers,
    ztf_nights,
)
from tests.support.ades_blocks import CONTEXT
from tests.support.memory_store import bucket_in_memory
from tests.support.tracklets import mover, numbered, publish_linked


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A night of two movers, one of them known, and their rows by id; nothing may be submitted of it."""
    out = tmp_path_factory.mktemp("out")
    rows, ids = two_movers()
    publish_rows(out, rows, dict.fromkeys(ids[1], "(433) Eros"))
    return out, {row["diaSourceId"]: row for row in rows}, ids


@pytest.fixture(scope="module")
def schema():
    import xmlschema

    return xmlschema.XMLSchema(str(REAL / "ades" / "xsd" / "submit.xsd"))


def rows_of(report, form="psv"):
    return parsed(report.text, form)[1]


@pytest.mark.parametrize("form", ["psv", "xml"])
def test_a_night_comes_back_from_its_report(night, form):
    out, known, ids = night
    report = draft_report(out, NIGHT, SETTINGS, form)
    header, rows = parsed(report.text, form)
    assert ("observatory", "mpcCode", "I41") in header
    assert ("submitter", "name", "A. Sender") in header
    assert [text for group, _, text in header if group == "measurers"] == ["B. Measurer", "C. Other"]
    assert ("fundingSource", "", "Nobody & <Sons>") in header
    assert [int(one["obsSubID"]) for one in rows] == sorted(known, key=lambda one: (one not in ids[0], one))
    for one in rows:
        row = known[int(one["obsSubID"])]
        assert apart_arcsec(one, row) < 0.01
        assert (float(one["mag"]), one["band"], one["photCat"], one["stn"]) == (row["magAB"], "Pr", "PS1_DR1", "I41")
        assert one.get("permID", "") == ("433" if row["diaSourceId"] in ids[1] else "")
    names = [{one["trkSub"] for one in rows if int(one["obsSubID"]) in group} for group in ids]
    assert [len(group) for group in names] == [1, 1]
    assert names[0] != names[1]
    assert report.summary.model_dump(include={"tracklets", "known", "observations", "missing", "path"}) == {
        "tracklets": 2, "known": 1, "observations": 6, "missing": (), "path": None
    }  # fmt: skip


def test_both_formats_say_the_same(night):
    one, other = (parsed(draft_report(night[0], NIGHT, SETTINGS, form).text, form) for form in ("psv", "xml"))
    assert sorted(one[0]) == sorted(other[0])
    assert one[1] == other[1]


@needs_schema
def test_a_simulated_night_is_valid_by_the_published_schema(night, schema):
    xml = draft_report(night[0], NIGHT, SETTINGS, "xml").text
    schema.validate(xml)
    schema.validate(as_xml(*parsed(draft_report(night[0], NIGHT, SETTINGS, "psv").text, "psv")))
    # It is the rules that are tested: a fault is found.
    assert not schema.is_valid(xml.replace("<mode>CCD</mode>", "<mode>CCDX</mode>", 1))


@needs_schema
@needs_ztf
def test_linked_detections_of_ztf_are_valid_by_the_published_schema(tmp_path, schema):
    """Real detections of asteroids, linked; the objects are those that ZTF says."""
    nights, known = ztf_nights()
    total, wrong = Counter(), 0
    for label, rows in sorted(nights.items())[:3]:
        publish_rows(tmp_path, rows, known, label)
        report = draft_report(tmp_path, label, SETTINGS, "xml")
        total += Counter(report.summary.model_dump(include={"tracklets", "known", "observations"}))
        if not report.text:
            continue
        schema.validate(report.text)
        psv = parsed(draft_report(tmp_path, label, SETTINGS, "psv").text, "psv")
        schema.validate(as_xml(*psv))
        for one in psv[1]:
            wrong += known[int(one["obsSubID"])] != one.get("permID")
            row = next(row for row in rows if row["diaSourceId"] == int(one["obsSubID"]))
            assert apart_arcsec(one, row) < 0.02
        lines = draft_report(tmp_path, label, SETTINGS, "obs80").text.splitlines()
        assert [len(line) for line in lines[-len(psv[1]) :]] == [80] * len(psv[1])
    assert total == {"tracklets": 10, "known": 10, "observations": 46}
    assert wrong == 0


def test_only_the_station_of_the_images_counts_where_no_setting_says(tmp_path):
    publish_linked(tmp_path)
    report = draft_report(tmp_path, NIGHT, SETTINGS.model_copy(update={"mpc_code": None}), "psv")
    header, rows = parsed(report.text, "psv")
    assert ("telescope", "design", "Schmidt") in header
    assert {(one["stn"], one["seeing"]) for one in rows} == {("I41", "2.20")}
    other = draft_report(tmp_path, NIGHT, SETTINGS.model_copy(update={"mpc_code": "W84"}), "psv")
    assert (other.text, other.summary.left_out) == ("", {"other_station": 2})


def test_a_tracklet_of_two_stations_is_left_out(night):
    out, *_ = night
    stations = iter(["I41", "W84", "I41", "W84", "I41", "W84"])
    real = ades_night._reduction

    def alternate(*arguments):
        return replace(real(*arguments), stn=next(stations))

    with patch.object(ades_night, "_reduction", alternate):
        found = reportable_night(out, NIGHT, SETTINGS)
    assert (found.tracklets, found.left_out) == ([], {"two_stations": 2})


def test_a_block_of_two_stations_is_not_written(night):
    found = reportable_night(night[0], NIGHT, SETTINGS).tracklets[0].observations
    rows = [replace(one, trkSub="N000001", stn=stn) for one, stn in zip(found, ("I41", "X05"), strict=False)]
    for form in ades_files.FORMS:
        with pytest.raises(BadInput, match="X05"):
            ades_files.written(CONTEXT, rows, form)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trailClass": "satellite"}, "satellite"),
        ({"trailClass": "glint_trail"}, "satellite"),
        ({"flags": int(DetectionFlag.SATELLITE)}, "satellite"),
    ],
)
def test_a_tracklet_with_a_satellite_is_left_out_whole(tmp_path, changes, reason):
    """Even where the tracklet was linked, and one detection was classified afterwards."""
    rows, ids = two_movers()
    publish_rows(tmp_path, rows)
    store = CatalogStore(tmp_path)
    visit, detector = exposure_of(ids[0][1])
    key = ExposureKey(night=NIGHT, visit=visit, detector=detector)
    table = store.read(DIA_SOURCE, key).to_pylist()
    changed = [row | (changes if row["diaSourceId"] == ids[0][1] else {}) for row in table]
    store.publish(DIA_SOURCE, key, pa.Table.from_pylist(changed, schema=DIA_SOURCE.schema), "e")
    report = draft_report(tmp_path, NIGHT, SETTINGS, "psv")
    assert report.summary.left_out == {reason: 1}
    assert {int(one["obsSubID"]) for one in rows_of(report)} == set(ids[1])


def test_injected_streaks_have_no_way_in(night):
    """A row that was injected, put among the members of a tracklet by force, takes the tracklet out."""
    out, _, ids = night
    real = ades_night._rows

    def with_injected(*arguments):
        return {one: row | ({"injectionId": -5} if one == ids[0][0] else {}) for one, row in real(*arguments).items()}

    with patch.object(ades_night, "_rows", with_injected):
        report = draft_report(out, NIGHT, SETTINGS, "psv")
    assert report.summary.left_out == {"synthetic": 1}
    assert {int(one["obsSubID"]) for one in rows_of(report)} == set(ids[1])


def pair(rate=2.0, **changes):
    """Two detections of a fast mover, 30 s exposures: trails of 2.5 arcsec times the rate."""
    rows, _ = numbered([mover(150.0, 20.0, rate, 40.0, range(2))], visits=2)
    motion = {"trackletId": rows[0]["diaSourceId"], "rate": rate, "positionAngle": 40.0, "chance": 1e-3}
    return motion, [row | measured(**changes) for row in rows]


def test_two_detections_are_reported_if_they_are_trails_that_agree():
    motion, rows = pair(4.0)
    require_good(motion, rows, 0.05)
    assert trails_agree(motion, rows)
    for changes in ({"trailAngle": 80.0}, {"trailLength": 9.0}, {"trailLength": None}, {"exposureTime": None}):
        with pytest.raises(BadInput, match="two trails that agree"):
            require_good(motion, [rows[0], rows[1] | changes], 0.05)
    with pytest.raises(BadInput, match="has 1 detections"):
        require_good(motion, rows[:1], 0.05)
    with pytest.raises(BadInput, match="by chance"):
        require_good(motion | {"chance": 0.2}, rows, 0.05)


def test_single_detections_of_known_objects_with_a_designation_are_reported_on_request(tmp_path):
    rows, _ = two_movers()
    alone, _ = numbered([mover(150.5, 20.4, 0.4, 10.0, range(1))], first=200)
    asked = SETTINGS.model_copy(update={"known_singles": True})
    for out, name in ((tmp_path / "one", "2014 AA360"), (tmp_path / "other", "Planet Nine")):
        publish_rows(out, [*rows, *(row | measured() for row in alone)], {alone[0]["diaSourceId"]: name})
    assert draft_report(tmp_path / "one", NIGHT, SETTINGS, "psv").summary.observations == 6
    report = draft_report(tmp_path / "one", NIGHT, asked, "psv")
    single = rows_of(report)[-1]
    assert (report.summary.observations, single["provID"], "trkSub" in single) == (7, "2014 AA360", False)
    summary = draft_report(tmp_path / "other", NIGHT, asked, "psv").summary
    assert (summary.observations, summary.left_out) == (6, {"no_designation": 1})


def test_objects_under_one_tracklet_are_not_mixed(tmp_path):
    rows, ids = two_movers()
    publish_rows(tmp_path, rows, {ids[0][0]: "433", ids[0][1]: "433", ids[0][2]: "1862", ids[1][0]: "A name"})
    assert draft_report(tmp_path, NIGHT, SETTINGS, "psv").summary.left_out == {"two_objects": 2}


def test_a_name_that_is_no_designation_is_told(tmp_path):
    rows, ids = two_movers()
    publish_rows(tmp_path, rows, dict.fromkeys(ids[0], "Planet Nine"))
    report = draft_report(tmp_path, NIGHT, SETTINGS, "psv")
    assert report.summary.notes == {"of a known object whose designation is not one of ADES": 1}
    assert (report.summary.tracklets, report.summary.known) == (2, 0)


def test_detections_without_errors_and_with_an_unknown_band_are_told(tmp_path):
    publish_rows(tmp_path, two_movers(band="clear")[0])
    report = draft_report(tmp_path, NIGHT, SETTINGS, "psv")
    assert report.summary.notes == {"detections without a magnitude, as their band has no code": 6}
    assert not any("mag" in one or "band" in one for one in rows_of(report))
    given = SETTINGS.model_copy(update={"bands": {"clear": "C"}})
    assert {one["band"] for one in rows_of(draft_report(tmp_path, NIGHT, given, "psv"))} == {"C"}


def test_detections_on_simulated_images_are_told(tmp_path):
    rows, _ = two_movers()
    publish_rows(tmp_path, rows)
    told = "detections on simulated images, not for the Minor Planet Center"
    assert told not in draft_report(tmp_path, NIGHT, SETTINGS, "psv").summary.notes
    first, *_ = ledger = [*Ledger(tmp_path).records(NIGHT)]
    Ledger(tmp_path).put(first.model_copy(update={"flags": ("simulated",)}))
    there = sum(exposure_of(row["diaSourceId"]) == (first.visit, first.detector) for row in rows)
    assert draft_report(tmp_path, NIGHT, SETTINGS, "psv").summary.notes[told] == there < len(rows)
    for one in ledger:
        Ledger(tmp_path).put(one.model_copy(update={"flags": ("simulated",)}))
    assert draft_report(tmp_path, NIGHT, SETTINGS, "psv").summary.notes[told] == len(rows)


def test_a_damaged_catalogue_leaves_out_its_tracklets(tmp_path):
    rows, ids = two_movers()
    publish_rows(tmp_path, rows)
    visit, detector = exposure_of(ids[0][0])
    CatalogStore(tmp_path).path(DIA_SOURCE, ExposureKey(night=NIGHT, visit=visit, detector=detector)).write_bytes(b"?")
    report = draft_report(tmp_path, NIGHT, SETTINGS, "psv")
    assert (report.text, report.summary.left_out) == ("", {"unreadable_catalogue": 2})


@pytest.mark.parametrize("name", ["submitter", "measurers", "ast_cat"])
def test_nothing_is_submitted_without_a_setting_and_a_draft_says_so(night, name):
    out, *_ = night
    less = AdesSettings(**{key: value for key, value in SETTINGS if key != name})
    with pytest.raises(Misconfigured, match=f"ades.{name}"):
        submit_report(out, NIGHT, less, "psv")
    draft = draft_report(out, NIGHT, less, "xml")
    assert draft.summary.missing == (f"ades.{name}",)
    assert f"DRAFT, not to be submitted; not set: ades.{name}" in draft.text
    assert Submissions(out).records(NIGHT) == []


@pytest.mark.parametrize("code", ["ZZZ", "500", "247", "250", "C57"])
def test_an_observatory_that_is_not_known_or_moves_is_refused(night, code):
    with pytest.raises(Misconfigured, match="not a code of an observatory"):
        draft_report(night[0], NIGHT, SETTINGS.model_copy(update={"mpc_code": code}), "psv")


def test_an_observatory_beyond_those_known_here_is_taken_at_its_word(tmp_path):
    publish_linked(tmp_path)
    draft = draft_report(tmp_path, NIGHT, SETTINGS.model_copy(update={"mpc_code": "Z21"}), "psv")
    assert all(one.startswith("ades.telescope.") for one in draft.summary.missing)  # whose it is nobody knows here


def test_a_night_that_is_not_there_or_was_not_linked_is_refused(tmp_path, night):
    with pytest.raises(Misconfigured, match="holds no night 20261104"):
        draft_report(night[0], "20261104", SETTINGS, "psv")
    publish_rows(tmp_path, two_movers()[0])
    CatalogStore(tmp_path).night_path(TRACKLET, NIGHT).unlink()
    with pytest.raises(Misconfigured, match="was not linked"):
        draft_report(tmp_path, NIGHT, SETTINGS, "psv")


def test_names_are_the_same_always_and_the_next_one_where_one_is_taken(night):
    out, *_ = night
    names = {one["trkSub"] for one in rows_of(draft_report(out, NIGHT, SETTINGS, "psv"))}
    assert names == {one["trkSub"] for one in rows_of(draft_report(out, NIGHT, SETTINGS, "xml"), "xml")}
    first = min(found.id for found in reportable_night(out, NIGHT, SETTINGS).tracklets)
    assert next(tracklet_names(first)) in names
    assert list(islice(tracklet_names(1), 2)) == ["NWNW7KB", "NQt2XQx"]  # as ever: by the SHA-256 of id and attempt
    with patch("flows.publish.ades_report.tracklet_name", lambda seed: f"N{seed % 2:06d}"):
        assert len({one["trkSub"] for one in rows_of(draft_report(out, NIGHT, SETTINGS, "psv"))}) == 2


def test_nothing_is_submitted_twice(tmp_path):
    rows, _ids = two_movers()
    publish_rows(tmp_path, rows)
    assert draft_report(tmp_path, NIGHT, SETTINGS, "psv").summary.dry_run is True
    report, path = submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    assert path == submissions_folder(tmp_path, NIGHT) / "001.psv"
    assert (report.summary.dry_run, report.summary.path) == (False, str(path))
    assert path.read_text() == report.text == draft_report_text(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for form in ("psv", "xml", "obs80"):
        again, nothing = submit_report(tmp_path, NIGHT, SETTINGS, form)
        assert (again.text, nothing, again.summary.submitted_before, again.summary.changed) == ("", None, 6, 0)
        assert (again.summary.dry_run, again.summary.path) == (False, None)
    assert sorted(tmp_path.rglob("*")) == before


def draft_report_text(out):
    """What was submitted, from the record."""
    (record,) = Submissions(out).records(NIGHT)
    return record.text


def test_a_night_that_is_searched_again_is_recognised_by_exposure_and_place(tmp_path):
    """Other ids, other digests, places off by 0.05 arcsec: nothing is new, but all has changed."""
    rows, _ = two_movers()
    publish_rows(tmp_path, rows)
    first, _ = submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    moved = [row | {"diaSourceId": row["diaSourceId"] + 7, "dec": row["dec"] + 0.05 / 3600} for row in rows]
    publish_rows(tmp_path, moved)
    again, nothing = submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    assert (nothing, again.summary.submitted_before, again.summary.changed, again.summary.withdrawn) == (None, 6, 6, 0)
    corrected, path = submit_report(tmp_path, NIGHT, SETTINGS, "psv", corrections=True)
    assert path.name == "002.psv"
    assert [one["trkSub"] for one in rows_of(corrected)] == [one["trkSub"] for one in rows_of(first)]
    assert "Corrections of observations submitted before." in corrected.text
    for corrections in (False, True):
        assert submit_report(tmp_path, NIGHT, SETTINGS, "psv", corrections)[1] is None


def test_what_is_elsewhere_on_an_exposure_was_not_submitted(tmp_path):
    rows, _ = two_movers()
    publish_rows(tmp_path, rows)
    submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    publish_rows(tmp_path, [row | {"dec": row["dec"] + 20 / 3600} for row in rows])
    summary = draft_report(tmp_path, NIGHT, SETTINGS, "psv").summary
    assert (summary.submitted_before, summary.withdrawn) == (0, 6)


def test_only_what_is_new_of_a_tracklet_is_added_under_its_name(tmp_path):
    groups = [mover(150.0, 20.0, 0.5, 40.0, range(4))]
    rows = [row | measured() for row in numbered(groups, visits=4)[0]]
    publish_rows(tmp_path, rows[:3])
    first, _ = submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    publish_rows(tmp_path, rows)
    more, _ = submit_report(tmp_path, NIGHT, SETTINGS, "xml")
    assert [int(one["obsSubID"]) for one in rows_of(more, "xml")] == [rows[3]["diaSourceId"]]
    assert {one["trkSub"] for one in rows_of(more, "xml")} == {one["trkSub"] for one in rows_of(first)}
    publish_rows(tmp_path, rows[1:])
    assert draft_report(tmp_path, NIGHT, SETTINGS, "psv").summary.withdrawn == 1


def test_the_label_of_the_night_does_not_matter(tmp_path):
    rows, _ = two_movers()
    publish_rows(tmp_path, rows)
    submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    publish_rows(tmp_path, rows, night="20261104")
    assert submit_report(tmp_path, "20261104", SETTINGS, "psv")[1] is None


def test_what_was_submitted_of_the_night_before_is_not_withdrawn(tmp_path):
    """What goes is told of its own night alone; an exposure that changes its night is of the one that it is in."""
    groups, nights = [mover(150.0, 20.0, 0.5, 40.0, range(3))], (NIGHT, "20261104")
    made = [[row | measured() for row in numbered(groups, first=first)[0]] for first in (100, 200)]
    for night, rows in zip(nights, made, strict=True):
        publish_rows(tmp_path, rows, night=night)
    told = [submit_report(tmp_path, night, SETTINGS, "psv")[0].summary for night in (*nights, NIGHT)]
    assert [(one.observations, one.submitted_before) for one in told] == [(3, 0), (3, 0), (0, 3)]
    assert [one.withdrawn for one in told] == [0, 0, 0]
    Ledger(tmp_path).remove(ExposureKey(night=NIGHT, visit=100, detector=5))
    publish_rows(tmp_path, made[0][1:], night=NIGHT)
    assert [draft_report(tmp_path, night, SETTINGS, "psv").summary.withdrawn for night in nights] == [3, 0]
    publish_rows(tmp_path, made[0][:1], night=nights[1])
    assert [draft_report(tmp_path, night, SETTINGS, "psv").summary.withdrawn for night in nights] == [2, 4]


def test_a_crash_at_any_write_submits_once(tmp_path):
    """The record is the submission; a report whose writing failed is written by the next call."""
    publish_rows(tmp_path, two_movers()[0])
    real, calls = submissions.write_file, []

    def failing(path, *arguments):
        calls.append(path.name)
        if len(calls) == fail:
            raise Retryable("disk_full", str(path), "could not be written.", "free space there.")
        return real(path, *arguments)

    folder = submissions_folder(tmp_path, NIGHT)
    for fail, there in ((1, []), (2, ["001.json"])):  # noqa: B007 - `failing` reads it
        calls.clear()
        with patch.object(submissions, "write_file", failing), pytest.raises(Retryable):
            submit_report(tmp_path, NIGHT, SETTINGS, "psv")
        assert sorted(path.name for path in folder.glob("*")) == there
    assert submit_report(tmp_path, NIGHT, SETTINGS, "psv")[1] is None
    assert (folder / "001.psv").read_text() == draft_report_text(tmp_path)


def test_a_damaged_record_stops_everything(tmp_path):
    publish_rows(tmp_path, two_movers()[0])
    submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    record = submissions_folder(tmp_path, NIGHT) / "001.json"
    content = record.read_text()
    record.write_text(content[:100])
    with pytest.raises(BadInput, match="nobody knows what was submitted"):
        submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    record.write_text(json.dumps(json.loads(content) | {"schema_version": 2}))
    with pytest.raises(Misconfigured, match="schema version 2"):
        submit_report(tmp_path, NIGHT, SETTINGS, "psv")


def test_two_who_submit_at_once_submit_once(tmp_path):
    publish_rows(tmp_path, two_movers()[0])
    patience = patch.object(submissions, "WAIT_S", 0.05)
    with Submissions(tmp_path).lock(NIGHT), patience, pytest.raises(Misconfigured, match="has locked it"):
        submit_report(tmp_path, NIGHT, SETTINGS, "psv")
    assert submit_report(tmp_path, NIGHT, SETTINGS, "psv")[1] is not None


def test_a_report_of_many_tracklets_has_a_name_for_each():
    rng = random.Random(1)
    ids = [rng.getrandbits(62) for _ in range(20_000)]
    taken = set()
    for one in ids:
        taken.add(next(name for name in tracklet_names(one) if name not in taken))
    assert len(taken) == len(ids)


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """An output folder in a bucket, with a night of two movers."""
    out, store = bucket_in_memory(monkeypatch, tmp_path.name.replace("_", "-"))
    monkeypatch.setattr(submissions, "write_conditions", lambda out: WriteConditions(enforced=True))
    publish_rows(out, two_movers()[0])
    yield out, store
    configure(StoreSettings())


def test_in_a_bucket_it_is_the_same(memory):
    out, _ = memory
    report, path = submit_report(out, NIGHT, SETTINGS, "xml")
    assert str(path) == f"{out}/reports/ades/{NIGHT}/001.xml"
    assert path.read_bytes().decode() == report.text
    assert submit_report(out, NIGHT, SETTINGS, "psv")[1] is None
    assert len(Submissions(out).all()) == 1


def test_in_a_bucket_who_comes_second_is_refused(memory):
    """The other one submits between reading what was submitted, and writing."""
    out, _ = memory
    real = Submissions.add

    def overtaken(self, record, suffix):
        with patch.object(Submissions, "add", real):
            assert submit_report(out, NIGHT, SETTINGS, "psv")[1] is not None
        return real(self, record, suffix)

    with patch.object(Submissions, "add", overtaken), pytest.raises(Retryable, match="somebody else meanwhile"):
        submit_report(out, NIGHT, SETTINGS, "xml")
    assert [one.form for one in Submissions(out).all()] == ["psv"]


def test_exposures_of_two_observatories_need_a_setting():
    exposures = {n: SimpleNamespace(instrument=name) for n, name in enumerate(("ztf", "decam", "unheard of"))}
    settings = SETTINGS.model_copy(update={"mpc_code": None})
    codes = [ades_night._station(settings, {n: one}) for n, one in exposures.items()]
    assert codes == ["I41", "W84", ""]
    with pytest.raises(Misconfigured, match="I41 and W84") as caught:
        ades_night._station(settings, exposures)
    assert (caught.value.code, caught.value.where) == ("two_stations", "ades.mpc_code")
    assert ades_night._station(SETTINGS, exposures) == SETTINGS.mpc_code
