import json

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.results.catalogue_rows import CatalogueRows
from flows.results.motion import detection_motion, read_motion
from flows.results.prune import removals, take_out
from flows.results.status import read_status
from flows.results.verify import verify_output
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.errors import BadInput
from schemas.ledger import ExposureRecord, NightRecord
from schemas.settings import Settings
from schemas.tracklets import LINK_SOURCE, TRACKLET, TRACKLET_SOURCE
from tests.flows.results.page.conftest import NIGHT, make_info, make_rows, publish
from tests.support.ades import publish_rows
from tests.support.filled import filled
from tests.support.tracklets import MJD, STEP, mover, numbered, publish_linked


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, publish_linked(out)


def explain(out, source_id):
    return CliRunner().invoke(app, ["explain", str(out), str(source_id), "--json"])


def test_a_member_tells_its_tracklet_with_all_members_by_time(night):
    out, (_, mover, *_) = night
    for one in mover:
        found = detection_motion(out, NIGHT, one)
        assert not found.stationary
        assert found.tracklet["trackletId"] == mover[0]
        assert [member["diaSourceId"] for member in found.members] == mover
        assert [member["midpointMjdTai"] for member in found.members] == [MJD + n * STEP for n in range(3)]


def test_what_rests_and_what_does_neither_are_told_apart(night):
    out, (star, _, _, (false, *_), *_) = night
    resting, alone = detection_motion(out, NIGHT, star[1]), detection_motion(out, NIGHT, false)
    assert (resting.stationary, resting.tracklet, resting.members) == (True, None, ())
    assert (alone.stationary, alone.tracklet) == (False, None)
    assert detection_motion(out, NIGHT, 7) is None


def test_explain_shows_it(night):
    out, (star, mover, _, (false, *_), *_) = night
    shown = explain(out, mover[1])
    lines = [" ".join(line.split()) for line in shown.stderr.splitlines()]
    wanted = f"tracklet {mover[0]}, 3 detections, 0.5000 deg/day at position angle 40.0 deg"
    assert any(line.startswith(wanted) for line in lines)
    assert all(any(f"of it {one}" in line for line in lines) for one in mover)
    told = json.loads(shown.stdout.splitlines()[-1])["motion"]
    assert told["tracklet"]["nSources"] == len(told["members"]) == 3
    assert "at rest: seen again at its place" in explain(out, star[0]).stderr
    assert "neither at rest nor in a tracklet" in explain(out, false).stderr


def test_a_night_that_was_not_linked_has_no_motion(tmp_path):
    info = make_info((60, 70))
    rows = make_rows(info, 2, 1)
    publish(tmp_path, info, rows, 1)
    assert read_motion(tmp_path, NIGHT) is None
    assert "not linked" in explain(tmp_path, rows[0]["diaSourceId"]).stderr
    assert read_status(tmp_path).nights[0].tracklets is None


def publish_links(out, night, links):
    """Publish a night, without pixels, and the links of some detections, by their ids; None: it was not linked."""
    datasets = {}
    if links is not None:
        given = {"diaSourceId": [*links], "linkId": [*links.values()], "midpointMjdTai": range(len(links))}
        table = filled(LINK_SOURCE.schema, len(links), **given)
        store = CatalogStore(out)
        datasets[LINK_SOURCE.name] = store.record(store.publish(LINK_SOURCE, night, table, "d" * 64))
    ended = {"software": "0", "finished_at": "2026-11-12T04:00:00+00:00"}
    exposure = {"visit": 1, "detector": 1, "source_uri": "s", "source_sha256": "s", "digest": "d", "datasets": {}}
    Ledger(out).put(ExposureRecord(night=night, **exposure, **ended))
    Ledger(out).put_night(NightRecord(night=night, datasets=datasets, exposures=1, **ended))


def test_the_link_of_a_detection_is_that_of_the_latest_night_that_has_one(tmp_path):
    rows, (ids,) = numbered([mover(150.0, 20.0, 0.5, 40.0, range(3))])
    publish_rows(tmp_path, rows, night=NIGHT)

    def link():
        found = detection_motion(tmp_path, NIGHT, ids[0]).link
        return [(one["linkId"], one["diaSourceId"]) for one in found]

    assert link() == []  # the night itself names no links
    publish_links(tmp_path, "20261104", {1: 8, ids[0]: 9, 2: 9})
    publish_links(tmp_path, "20261105", None)
    publish_links(tmp_path, "20261106", {3: 10})
    publish_links(tmp_path, "20261107", {})
    assert link() == [(9, ids[0]), (9, 2)]
    publish_links(tmp_path, "20261108", {ids[0]: 11, 4: 11})
    assert link() == [(11, ids[0]), (11, 4)]
    CatalogStore(tmp_path).night_path(LINK_SOURCE, "20261108").unlink()
    assert link() == [(9, ids[0]), (9, 2)]
    Ledger(tmp_path).remove_night("20261104")  # as while it is linked again
    assert link() == []


def test_a_night_without_one_of_its_catalogues_counts_as_not_linked(tmp_path):
    publish_rows(tmp_path, numbered([mover(150.0, 20.0, 0.5, 40.0, range(3))])[0], night=NIGHT)
    CatalogStore(tmp_path).night_path(TRACKLET, NIGHT).unlink()
    assert read_motion(tmp_path, NIGHT) is None


def test_a_damaged_catalogue_is_named(tmp_path):
    _, mover, *_ = publish_linked(tmp_path)
    path = CatalogStore(tmp_path).night_path(TRACKLET, NIGHT)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"tracklet\.parquet"):
        detection_motion(tmp_path, NIGHT, mover[0])
    assert explain(tmp_path, mover[0]).exit_code == 2


def test_status_counts_tracklets(night):
    out, _ = night
    assert read_status(out).nights[0].tracklets == 2
    assert f"{NIGHT} tracklets: 2" in CliRunner().invoke(app, ["status", str(out)]).stdout


def test_verify_and_export_know_both_catalogues(night):
    out, _ = night
    declared = {dataset.name: dataset for dataset in (TRACKLET_SOURCE, TRACKLET)}
    assert not [one for one in verify_output(out, declared).problems if "tracklet" in str(one)]
    for name, rows in (("tracklet_source", 9 + 6), ("tracklet", 2)):
        assert CatalogueRows(out, declared[name], (NIGHT,)).count(None) == rows


def test_prune_takes_them_with_their_night(tmp_path):
    publish_linked(tmp_path)
    assert len(list((tmp_path / "catalogs").rglob("tracklet*.parquet"))) == 2
    take_out(tmp_path, removals(tmp_path, [NIGHT], Settings(), irreplaceable=True))
    assert list((tmp_path / "catalogs").rglob("*.parquet")) == []
