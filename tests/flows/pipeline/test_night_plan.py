import pytest

from flows.nights.night_stages import run_nights
from flows.pipeline.night_plan import plan_nights
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


def test_a_changed_an_added_and_a_removed_exposure_make_it_anew(out):
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
def test_a_damaged_or_missing_file_is_made_anew(out, name):
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
