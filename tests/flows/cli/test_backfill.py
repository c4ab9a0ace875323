import json
import os

import pytest

from flows.cli.backfill import _give_way
from schemas.summary import ExposureCounts, RunSummary
from tests.support.cli import nightstride


def run(*arguments, cwd):
    return nightstride("backfill", *arguments, cwd=cwd)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing option"),
        (("--out", "x"), "name an archive"),
        (("--out", "x", "--searched-with", "m"), "not an output folder"),
        (("archive",), "--out"),
        (("archive", "--out", "x", "--from", "2025-01-01"), "is not a night"),
        (("archive", "--out", "x", "--to", "20251341"), "is not a night"),
        (("archive", "--out", "x", "--from", "20250102", "--to", "20250101"), "20250101 is before --from 20250102."),
        (("archive", "--out", "x", "--night", "20250102..20250101"), "the last night is before the first"),
        (("archive", "--out", "x", "--night", "20250102", "--to", "20250103"), "leave out --from and --to"),
        (("nowhere", "--out", "x"), "nowhere"),
    ],
)
def test_bad_usage_ends_with_2(tmp_path, arguments, says):
    ended = run(*arguments, cwd=tmp_path)
    assert ended.code == 2
    assert says in ended.stderr
    assert not (tmp_path / "x").exists()


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(tmp_path, write_ztf):
    write_ztf()
    ended = run(tmp_path, "--out", tmp_path / "out", "--dry-run", "--json", cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    answer = json.loads(ended.stdout.splitlines()[-1])
    assert answer["counts"] == {"search": 1}
    (only,) = answer["exposures"]
    assert (only["night"], only["visit"], only["detector"], only["code"]) == ("20190921", 99429086, 59, "new")
    assert "not in the ledger yet" in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("night", "there"),
    [("20190921", 1), ("20190920..20190921", 1), ("20190921..", 1), ("..20190920", 0), ("20190922..", 0)],
)
def test_a_range_of_nights_is_searched(tmp_path, write_ztf, night, there):
    write_ztf()
    ended = run(tmp_path, "--out", tmp_path / "out", "--night", night, "--dry-run", "--json", cwd=tmp_path)
    assert ended.code == (0 if there else 2)
    assert len(ended.summary.get("exposures", ())) == there


def test_it_gives_way_where_only_whole_nights_are_to_be_made_again(tmp_path, monkeypatch, write_ztf):
    write_ztf()
    given, searched = [], RunSummary(
        exposures=ExposureCounts(seen=1, done=0, skipped=1, quarantined=0, failed=0), windows=0, unscored=0,
        detections=0, not_run={}, seconds={"objects": 60.0}, report=None,
    )  # fmt: skip
    monkeypatch.setattr("flows.cli.backfill._give_way", given.append)
    monkeypatch.setattr("flows.nights.stream.backfill.search_exposures", lambda *_: searched)
    monkeypatch.setattr("flows.pipeline.plan.Planner.outdated", lambda *_: None)  # published and up to date
    ended = run(tmp_path, "--out", tmp_path / "out", "--nice", "3", cwd=tmp_path)
    assert (ended.code, given) == (0, [3]), ended.stderr


def test_it_gives_way_to_other_processes():
    child = os.fork()
    if child == 0:
        _give_way(7)
        _give_way(3)  # never back up
        os._exit(os.nice(0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == max(7, os.nice(0))
