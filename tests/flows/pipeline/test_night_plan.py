from pathlib import Path

import pytest

from flows.nights.patches import run_nights
from flows.pipeline.graph import Graph
from flows.pipeline.night_plan import plan_nights
from flows.pipeline.night_work import NightWork
from schemas.ledger import DatasetRecord, NightRecord
from schemas.settings import Settings
from tests.support.whole_night import NIGHT, PIPELINE, publish

SETTINGS = Settings()


def planned(out, pipeline=PIPELINE):
    (work,) = plan_nights([NIGHT], out, SETTINGS, pipeline)
    return work


@pytest.fixture
def out(tmp_path):
    publish(tmp_path, 1, [1.0, 2.0])
    publish(tmp_path, 2, [3.0])
    return tmp_path


def test_a_new_night_is_outdated_and_a_finished_one_is_not(out):
    assert planned(out).outdated
    run_nights([planned(out)], out, SETTINGS)
    assert not planned(out).outdated
    assert set(planned(out).kept) == {"thing", "shapes", "total"}


def test_a_changed_an_added_and_a_removed_exposure_make_it_again(out):
    run_nights([planned(out)], out, SETTINGS)
    first = planned(out).digests
    publish(out, 2, [4.0])
    changed = planned(out)
    assert changed.outdated
    assert set(changed.kept) == set()
    publish(out, 2, [3.0])
    assert planned(out).digests == first
    publish(out, 3, [5.0])
    assert planned(out).outdated
    publish(out, 3, None)
    assert planned(out).digests == first  # it gives nothing to the night


def test_a_quarantined_exposure_does_not_count(out):
    first = planned(out).digests
    publish(out, 3, [5.0], status="quarantined")
    assert planned(out).digests == first


def test_only_what_follows_from_a_changed_stage_is_outdated(out):
    run_nights([planned(out)], out, SETTINGS)
    from dataclasses import replace

    later = (*PIPELINE[:3], replace(PIPELINE[3], version="2"))
    work = planned(out, later)
    assert work.outdated
    assert set(work.kept) == {"thing", "shapes"}


@pytest.mark.parametrize("name", ["thing/night=20260101/thing.parquet", "shapes/night=20260101/shapes.zarr/zarr.json"])
def test_a_damaged_or_missing_file_is_made_again(out, name):
    run_nights([planned(out)], out, SETTINGS)
    path = out / "catalogs" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    assert planned(out).outdated
    path.unlink()
    assert planned(out).outdated
    run_nights([planned(out)], out, SETTINGS)
    assert path.read_bytes() == whole


def test_a_night_without_what_it_needs_says_so(tmp_path):
    publish(tmp_path, 1, None)
    work = planned(tmp_path)
    assert not work.outdated
    assert work.not_run == {
        "gather": "no seen: stage see did not run",
        "cut": "no thing: stage gather did not run",
        "add": "no shapes: stage cut did not run",
    }


ENTRY = DatasetRecord(path="x", digest="d1", rows=1, sha256="s")
GATHER, CUT = PIPELINE[1:3]


def work(digests, *, published=(), kept=(), idle=None):
    """Work on a night for which ``digests`` would be made; without ``idle`` nothing is recorded of it."""
    record = None
    if idle is not None:
        record = NightRecord(
            night=NIGHT, exposures=2, datasets=dict.fromkeys(published, ENTRY), idle=idle, software="0",
            finished_at="now",
        )  # fmt: skip
    graph = Graph((GATHER, CUT), {"add": "no reason"})
    return NightWork(NIGHT, Path(), graph, digests, record, dict.fromkeys(kept, ENTRY), {}, 0, 2)


@pytest.mark.parametrize(
    ("digests", "known", "outdated"),
    [
        ({}, {}, False),
        ({"thing": "d1"}, {}, True),
        ({"thing": "d1"}, {"published": ["thing"], "kept": ["thing"], "idle": {}}, False),
        ({"thing": "d1"}, {"published": ["thing"], "kept": [], "idle": {}}, True),
        ({"thing": "d1"}, {"idle": {"thing": ("d1", "nothing")}}, False),
        ({"thing": "d2"}, {"idle": {"thing": ("d1", "nothing")}}, True),
        ({}, {"published": ["thing"], "idle": {}}, True),
        ({}, {"idle": {"thing": ("d1", "nothing")}}, False),
        ({"thing": "d1"}, {"published": ["shapes"], "idle": {"thing": ("d1", "nothing")}}, True),
        ({"thing": "d1", "shapes": "d1"}, {"published": ["thing"], "kept": ["thing"], "idle": {}}, True),
        (
            {"thing": "d1", "shapes": "d2"},
            {"published": ["thing"], "kept": ["thing"], "idle": {"shapes": ("d2", "none")}},
            False,
        ),
    ],
)
def test_a_night_is_outdated_where_something_is_to_be_made_or_withdrawn(digests, known, outdated):
    assert work(digests, **known).outdated is outdated


def test_what_had_nothing_to_work_on_has_nothing_until_its_input_changes():
    idle = {"thing": ("d1", "nothing was seen"), "shapes": ("d1", "no thing"), "gone": ("d1", "no stage")}
    found = work({"thing": "d1", "shapes": "d2"}, idle=idle)
    assert found.idle == {"thing": "nothing was seen"}
    assert found.not_run == {"add": "no reason", "gather": "nothing was seen"}
    assert work({"thing": "d1"}).idle == {}
    assert work({"thing": "d1"}).not_run == {"add": "no reason"}


def test_nothing_to_work_on_is_found_out_once(tmp_path):
    publish(tmp_path, 1, [])
    result = run_nights([planned(tmp_path)], tmp_path, SETTINGS)[NIGHT]
    assert "nothing was seen" in result.not_run["gather"]
    again = planned(tmp_path)
    assert not again.outdated
    assert "nothing was seen" in again.not_run["gather"]
    assert again.not_run["add"] == result.not_run["add"]
    publish(tmp_path, 2, [1.0])
    assert planned(tmp_path).outdated
