import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from benchmarks.motion.linking import ERROR, findable, several_nights
from flows.cli.app import app
from flows.results import link_nights as module
from flows.results.detection_table import read_detections
from flows.results.link_nights import link_over_nights
from flows.results.linking import link_table
from flows.storage.atomic import write_file
from schemas.errors import Misconfigured
from tests.support.linked_nights import publish_nights
from tests.support.tracklets import publish_linked, source_table

pytest_plugins = ("tests.support.s3_fixture",)


def write(path, movers, density, **changes):
    """Write a table of six nights, and return who each detection is of, by its id."""
    ra, dec, mjd, owner = several_nights(np.random.default_rng(7), movers, density, side=3.0)
    columns = {"id": np.arange(len(ra)), "mjd": mjd, "ra": ra, "dec": dec, "posErr": np.full(len(ra), ERROR)}
    pq.write_table(pa.table(columns | {"obscode": ["I41"] * len(ra)} | changes), path)
    return owner


def run(path, *options):
    result = CliRunner().invoke(app, ["link", str(path), "--json", *options])
    return result, json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def linked(tmp_path):
    """Return what `link_over_nights` takes, of some bodies among false detections."""
    write(tmp_path / "table.parquet", 4, 0.5)
    table = read_detections(tmp_path / "table.parquet")
    return table, *link_table(table)[1:]


@pytest.mark.slow
def test_bodies_among_false_detections_are_linked(tmp_path):
    pytest.importorskip("heliolinx", reason="the extra link is not installed")
    owner = write(tmp_path / "table.parquet", 12, 5.0)
    mjd = pq.read_table(tmp_path / "table.parquet")["mjd"].to_numpy()
    result, found = run(tmp_path / "table.parquet", "--nights", "14", "--out", str(tmp_path / "members.parquet"))
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    rows = pq.read_table(tmp_path / "members.parquet")
    links = rows.filter(pa.compute.is_valid(rows["linkId"])).group_by("linkId").aggregate(
        [("id", "list"), ("a", "mean"), ("e", "mean"), ("i", "mean"), ("linkRms", "max")]
    ).to_pylist()  # fmt: skip
    owners = [set(owner[one["id_list"]].tolist()) for one in links]
    pure = {next(iter(some)) for some in owners if len(some) == 1} - {-1}
    assert len(links) == found["links"] == len(pure) > 0
    wanted = findable(mjd, owner)
    assert len(wanted) >= 8
    assert len(wanted - pure) <= 1
    assert found["linked_nights"] == sum(len(one["id_list"]) for one in links)
    assert all(0.7 < one["a_mean"] < 6 and 0 <= one["e_mean"] < 1 and one["linkRms_max"] < 1 for one in links)
    assert rows["trackletId"].null_count > 0  # pairs are not tracklets
    assert rows.schema.field("a").metadata == {b"unit": b"AU"}


@pytest.mark.slow
def test_unrelated_detections_give_no_links(tmp_path):
    pytest.importorskip("heliolinx", reason="the extra link is not installed")
    write(tmp_path / "table.parquet", 0, 40.0)
    result, found = run(tmp_path / "table.parquet", "--nights", "14")
    assert (result.exit_code, found["links"], found["linked_nights"]) == (0, 0, 0)


def test_without_the_option_nothing_changes(tmp_path):
    write(tmp_path / "table.parquet", 1, 0.5)
    found = run(tmp_path / "table.parquet", "--out", str(tmp_path / "members.parquet"))[1]
    assert set(found) == {"detections", "tracklets", "linked", "stationary", "left_out"}
    assert "linkId" not in pq.read_table(tmp_path / "members.parquet").column_names


def test_without_the_extra_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    write(tmp_path / "table.parquet", 0, 0.5)
    result, found = run(tmp_path / "table.parquet", "--nights", "14")
    assert (result.exit_code, found["error"]["code"]) == (2, "missing_extra")
    assert "pip install 'nightstride[link]'" in result.stderr + result.stdout


def test_an_observatory_that_is_not_known_is_told(linked, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(module, "linked", lambda window: [])
    table, tracklets, still = linked
    for codes, said in ((np.full(len(table.ids), "I41"), []), (np.full(len(table.ids), "Q00"), ["Q00"])):
        notes = link_over_nights(table._replace(obscode=codes), tracklets, still, 14)[1]
        assert [name for name in said if any(f"obscode {name}" in words for words in notes)] == said
        assert len(notes) == len(said)
    for codes, remedy in ((["Q00", ""], True), (["Q00", "I41"], False)):
        some = np.resize(np.array(codes), len(table.ids))
        (note,) = link_over_nights(table._replace(obscode=some), tracklets, still, 14)[1]
        assert ("--obscode CODE gives one to rows that have none" in note) is remedy


def test_rows_without_an_observatory_get_the_one_that_is_given(tmp_path):
    write(
        tmp_path / "table.parquet",
        0,
        0.5,
        obscode=pa.nulls(len(write(tmp_path / "table.parquet", 0, 0.5)), pa.string()),
    )
    assert set(read_detections(tmp_path / "table.parquet", "W84").obscode) == {"W84"}
    assert set(read_detections(tmp_path / "table.parquet").obscode) == {""}


@pytest.mark.parametrize(
    ("name", "value", "code"), [("SECONDS", 0.01, "too_slow"), ("MOST_TRACKLETS", -1, "too_many_tracklets")]
)
def test_limits_have_a_remedy(linked, monkeypatch, name, value, code):
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(module, name, value)
    with pytest.raises(Misconfigured, match="To fix, ") as raised:
        link_over_nights(*linked, 14)
    assert raised.value.code == code


def test_a_crash_has_a_remedy(linked, monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(module.sys, "executable", str(program))
    with pytest.raises(Misconfigured, match=r"ended with -11.* To fix, ") as raised:
        link_over_nights(*linked, 14)
    assert raised.value.code == "linking_failed"


def test_too_many_pairs_are_thinned_and_it_is_told(linked, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    asked = []
    monkeypatch.setattr(module, "linked", lambda window: asked.append(window) or [])
    link_over_nights(*linked, 14)
    whole = asked.pop().group[-1] + 1
    monkeypatch.setattr(module, "MOST_TRACKLETS", int(whole) - 3)
    notes = link_over_nights(*linked, 14)[1]
    assert asked[0].group[-1] + 1 == whole - 3
    assert "too many detections" in notes[0]


def test_what_is_in_a_table_twice_is_linked_over_nights_once(linked, tmp_path, monkeypatch):
    """As where detectors overlap: copies once were pairs and tracklets of their own, which no orbit explains."""
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    asked = []
    monkeypatch.setattr(module, "linked", lambda window: asked.append(window) or [])
    link_over_nights(*linked, 14)
    table = pq.read_table(tmp_path / "table.parquet")
    near = table["dec"].to_numpy() + np.random.default_rng(1).normal(0, 0.1 / 3600, len(table))
    copies = table.set_column(0, "id", pa.array(np.arange(len(table)) + 10_000)).set_column(3, "dec", pa.array(near))
    assert copies.column_names == table.column_names
    pq.write_table(pa.concat_tables([table, copies]), tmp_path / "twice.parquet")
    twice = read_detections(tmp_path / "twice.parquet")
    link_over_nights(twice, *link_table(twice)[1:], 14)
    once, again = asked
    assert abs(int(again.group[-1]) - int(once.group[-1])) <= 3  # places differ by errors: so may a tracklet or pair
    assert len(again.mjd) <= len(once.mjd) + 3


@pytest.mark.parametrize("nights", [3, 7, 14])
def test_any_time_shorter_than_half_a_window_lies_in_one(nights):
    rng = np.random.default_rng(nights)
    mjd = np.sort(np.concatenate([rng.uniform(60000, 60040, 200), rng.uniform(60400, 60403, 50)]))
    windows = list(module._windows(mjd, nights))
    assert all(mjd[stop - 1] - mjd[start] < nights for start, stop in windows)
    for first in range(len(mjd)):
        last = np.searchsorted(mjd, mjd[first] + nights / 2) - 1
        assert any(start <= first and last < stop for start, stop in windows)
    assert list(module._windows(np.zeros(0), nights)) == []


def test_an_output_folder_is_linked_as_the_table_of_its_rows(out, tmp_path):
    pytest.importorskip("heliolinx", reason="the extra link is not installed")
    rows = publish_nights(out)
    first, *_, last = sorted(rows)
    for nights in (sorted(rows), [first], [last]):
        own = [row for night in nights for row in rows[night]]
        pq.write_table(source_table(own), tmp_path / "table.parquet")
        chosen = () if len(nights) > 1 else ("--night", f"{nights[0]}..{nights[0]}")
        answers = []
        for path, some in ((out, chosen), (tmp_path / "table.parquet", ())):
            made = tmp_path / "members.parquet"
            result, found = run(path, "--nights", "14", "--obscode", "I41", "--out", str(made), *some)
            assert result.exit_code == 0, result.output
            answers.append((found, pq.read_table(made)))
        assert answers[0][0] == answers[1][0] | {"detections": len(own)}
        assert answers[0][1].equals(answers[1][1])
    assert run(out, "--nights", "14", "--obscode", "I41")[1]["links"] > 0


def test_the_instrument_tells_the_observatory(tmp_path):
    (star, *movers) = publish_linked(tmp_path, false=0)
    table = read_detections(tmp_path, "644")
    assert set(table.obscode) == {"I41"}
    assert (table.scale, sorted(table.ids.to_pylist())) == ("tai", sorted([*star, *movers[0], *movers[1]]))
    for folder in ("tiles", "ledger"):  # as after `prune`, and in a copy of the catalogues alone
        shutil.rmtree(tmp_path / folder)
        assert set(read_detections(tmp_path, "644").obscode) == {"644"}


@pytest.mark.services
def test_a_table_in_a_bucket_is_refused(bucket):
    write_file(bucket / "table.csv", b"id,mjd,ra,dec\n", bucket)
    with pytest.raises(Misconfigured, match="is not an output folder"):
        read_detections(bucket / "table.csv")


def test_nights_are_those_of_an_output_folder(tmp_path):
    publish_linked(tmp_path / "out")
    write(tmp_path / "table.parquet", 1, 0.1)
    for path, code in ((tmp_path / "out", "no_night"), (tmp_path / "table.parquet", "no_output")):
        result, answer = run(path, "--night", "19990101")
        assert (result.exit_code, answer["error"]["code"]) == (2, code)
