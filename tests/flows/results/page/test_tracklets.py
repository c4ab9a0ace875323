import re
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest

from flows.results.motion import read_motion
from flows.results.page.night import read_night
from flows.results.page.page import Limits, content, write_report
from flows.results.page.tracklets import PICTURES, motion_notes, ranked, tracklets_of
from flows.storage.catalog_store import CatalogStore
from schemas.tracklets import TRACKLET
from tests.support.tracklets import publish_linked


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return SimpleNamespace(out=out, ids=publish_linked(out))


def cutout(one):
    return SimpleNamespace(mark=SimpleNamespace(detection=SimpleNamespace(id=one)))


def test_what_is_unknown_comes_first_then_most_members_then_least_chance():
    known = {"trackletId": [1, 2, 3, 4, 5], "nSources": [3, 4, 3, 3, 5], "chance": [1e-3, 1e-2, 1e-5, 1e-3, 1e-9]}
    assert ranked(pa.table(known | {"designation": [""] * 4 + ["Ceres"]}))["trackletId"].to_pylist() == [2, 3, 1, 4, 5]


def test_known_objects_are_named(kit, night):
    motion = read_motion(night.out, kit.NIGHT)
    names = pa.array([f"({n}) Known" if n else "" for n in range(len(motion.tracklets))])
    place = motion.tracklets.schema.get_field_index("designation")
    named = replace(motion, tracklets=motion.tracklets.set_column(place, "designation", names))
    found = tracklets_of(named, [], 10)
    assert [row.cells[1] for row in found.rows] == ["–", "(1) Known"]
    assert "6 of 15 detections, 1 of them of known objects;" in found.lead
    texts = {one.text for one in motion_notes(named, [motion.sources["diaSourceId"]], 10).values()}
    assert texts == {"at rest", "tracklet 1", "tracklet 2, (1) Known"}


def test_detections_are_marked_with_their_tracklet_or_as_at_rest(kit, night):
    motion = read_motion(night.out, kit.NIGHT)
    ids = [motion.sources["diaSourceId"]]
    star, *movers = night.ids[:3]
    notes = motion_notes(motion, ids, 1)
    assert {notes[one].text for one in star} == {"at rest"}
    order = ranked(motion.tracklets)["trackletId"].to_pylist()
    for members in movers:
        rank = order.index(members[0]) + 1
        assert {notes[one].text for one in members} == {f"tracklet {rank}"}
        assert {notes[one].anchor for one in members} == {f"t{members[0]}" if rank == 1 else ""}  # one is on the page
    assert set(notes) == {one for group in night.ids[:3] for one in group}
    assert motion_notes(motion, ids, 2).keys() == notes.keys()
    assert motion_notes(None, ids, 2) == motion_notes(motion, [], 2) == {}


def test_rows_have_the_pictures_that_there_are_and_no_more(kit, night):
    motion = read_motion(night.out, kit.NIGHT)
    members = night.ids[1]
    found = tracklets_of(motion, [cutout(one) for one in (members[2], members[0])], 10)
    shown = {row.anchor: [one.mark.detection.id for one in row.cutouts] for row in found.rows}
    assert shown == {f"t{members[0]}": [members[0], members[2]], f"t{night.ids[2][0]}": []}
    assert "2 tracklets of 6 of 15 detections; 3 are at rest." in found.lead
    few = tracklets_of(motion, [], 1)
    assert len(few.rows) == 1
    assert few.lead.endswith("The first 1 are listed.")
    assert PICTURES * 10_000 < 2e6  # characters of small pictures: the page stays below its limit


def test_the_page_lists_tracklets_and_leads_to_their_detections(kit, night):
    text = write_report(night.out, kit.NIGHT).read_text()
    for members in night.ids[1:3]:
        assert f'id="t{members[0]}"' in text
        assert len(re.findall(f'href="#t{members[0]}"', text)) == 3
        assert all(f'href="#d{one}"' in text for one in members)
    assert text.count("<dd>at rest</dd>") == 3
    assert "0.500</td>" in text
    assert "1.500</td>" in text


def test_a_night_that_was_not_linked_has_no_such_section(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    page = content(tmp_path, read_night(tmp_path, kit.NIGHT, None), Limits(), None)
    assert page.tracklets is None
    assert "tracklets" not in {anchor for anchor, _ in page.sections}


def test_a_damaged_catalogue_is_a_note(kit, tmp_path):
    publish_linked(tmp_path)
    path = CatalogStore(tmp_path).night_path(TRACKLET, kit.NIGHT)
    path.write_bytes(path.read_bytes()[:100])
    page = content(tmp_path, read_night(tmp_path, kit.NIGHT, None), Limits(), None)
    assert page.tracklets is None
    assert any("tracklet.parquet" in note for note in page.notes)
