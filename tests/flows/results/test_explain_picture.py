"""Pictures of all detections of an object at rest or of a tracklet."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from flows.results.explain import explain_detection
from flows.results.explain_picture import MOST_ROWS, detection_levels, related_ids, related_levels
from flows.results.motion import DetectionMotion
from flows.storage.association_store import opened_association
from flows.storage.layout import tile_path
from schemas.settings import AssociationSettings
from tests.support.alert_night import info_of, make_night
from tests.support.association import detections, put
from tests.support.cli import nightstride

SETTINGS = AssociationSettings()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three visits to five objects at rest."""
    return make_night(tmp_path_factory.mktemp("whole") / "out", visits=3, count=5)


def ids(n, detector=0):
    return [(info_of(n).visit << 21) | (detector << 12) | rank for rank in range(5)]


def test_an_object_is_shown_on_each_visit_the_earliest_on_top(whole):
    found = explain_detection(whole, ids(1)[2], SETTINGS)
    assert related_ids(found) == [ids(n)[2] for n in range(3)]
    levels, drawn = related_levels(whole, found, 400)
    assert drawn == related_ids(found)
    one = detection_levels(whole, found, 400)
    high = one.shape[0]
    assert levels.shape == (3 * high + 2, one.shape[1])
    assert (levels[[high, 2 * high + 1]] == 255).all()  # between the rows
    np.testing.assert_array_equal(levels[high + 1 : 2 * high + 1], one)
    last = detection_levels(whole, explain_detection(whole, ids(2)[2], SETTINGS), 400)
    np.testing.assert_array_equal(levels[:high], last)  # the first row of an array is at the bottom


def test_a_tracklet_goes_before_an_object_and_lost_tiles_are_left_out(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "out")
    found = explain_detection(out, ids(0)[1], SETTINGS)
    members = tuple({"diaSourceId": ids(n)[n + 1]} for n in range(3))
    linked = replace(found, motion=DetectionMotion(False, {"trackletId": ids(0)[1]}, members))
    assert related_ids(linked) == [ids(n)[n + 1] for n in range(3)]
    shutil.rmtree(tile_path(out, info_of(1)))
    assert related_levels(out, linked, 400)[1] == [ids(0)[1], ids(2)[3]]
    for n in (0, 2):
        shutil.rmtree(tile_path(out, info_of(n)))
    assert related_levels(out, linked, 400) is None


def test_of_what_was_seen_often_some_are_shown_and_itself(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "out")
    rows = detections(1, [0.0], [0.0])
    assert len(rows) == 1
    with opened_association(out, SETTINGS) as store:
        place = store.of_object(ids(0)[0])[1]
        ra = np.degrees(np.arctan2(place["y"][0].as_py(), place["x"][0].as_py()))
        dec = np.degrees(np.arcsin(place["z"][0].as_py()))
        for n in range(30):
            put(store, 500 + n, [ra], [dec], night="20260102", mjd=61050 + n)
    for chosen in (0, 1, 2):
        found = related_ids(explain_detection(out, ids(chosen)[0], SETTINGS))
        assert len(found) <= MOST_ROWS
        assert ids(chosen)[0] in found
        assert found == sorted(found)


def test_the_command_names_the_rows_from_top_to_bottom(whole, tmp_path):
    done = nightstride("explain", whole, ids(0)[3], "--picture", tmp_path / "a.png")
    assert f"from top to bottom: {', '.join(str(ids(n)[3]) for n in range(3))}" in done.stderr
    image = Image.open(tmp_path / "a.png")
    assert image.size[1] > 400
    assert len(image.getcolors()) > 20
