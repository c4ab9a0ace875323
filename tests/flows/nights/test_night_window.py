"""Links over nights as a stage of the run, against the command, and against the bodies that the detections are of."""

import io
import json
import shutil

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

import nightstride as ns
from flows.cli.app import app
from flows.nights import night_window
from flows.nights.progress import Progress
from flows.nights.run import planner, with_catalogues
from flows.pipeline.graph import declared_tables
from flows.results import link_nights
from flows.results.page.page import write_report
from flows.results.verify import verify_output
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from kernels.linking.orbits import Link
from schemas.errors import BadInput, Misconfigured
from schemas.settings import AssociationSettings, LinkNightsSettings, LinkTrackletsSettings, Settings
from schemas.summary import ExposureCounts, RunSummary
from schemas.tracklets import LINK_SOURCE, TRACKLET
from stages import link_tracklets
from tests.support.ades import publish_rows
from tests.support.linked_nights import OBSCODE, night_rows
from tests.support.tracklets import publish_linked

needs_heliolinx = pytest.mark.skipif(
    link_nights.find_spec("heliolinx") is None, reason="the extra `link` is not installed"
)
ROWS, BODIES = night_rows()
FIRST, SECOND, THIRD = NIGHTS = tuple(ROWS)
NO_STORE = AssociationSettings(store="none")
OFF = Settings(association=NO_STORE)


def given(**settings):
    return Settings(association=NO_STORE, link_nights=LinkNightsSettings(nights=14, **settings))


ON = given(obscode=OBSCODE)


def finished(out, *nights, settings=ON):
    """End a run of some nights that had nothing to search."""
    counts = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)
    none = {"windows": 0, "unscored": 0, "detections": 0, "not_run": {}, "seconds": {}, "report": None}
    summary = RunSummary(exposures=counts, nights=nights, **none)
    return with_catalogues(summary, out, settings, Progress(Console(file=io.StringIO()), 0))


def links(out, night=THIRD):
    """Rows of `link_source` of a night; None if there is no such catalogue."""
    table = CatalogStore(out).read_night(LINK_SOURCE, night)
    return None if table is None else table.to_pylist()


def searched(out, *nights):
    for night in nights:
        publish_rows(out, ROWS[night], night=night)
    return out


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    out = searched(tmp_path_factory.mktemp("three") / "out", *NIGHTS)
    assert finished(out, *NIGHTS).exit_code == 0
    return out


@pytest.fixture
def out(three, tmp_path):
    return shutil.copytree(three, tmp_path / "out")


@needs_heliolinx
def test_links_are_of_one_body_each_and_those_of_the_command(three, tmp_path):
    command = ["link", str(three), "--nights", "14", "--obscode", OBSCODE, "--out", str(tmp_path / "links.parquet")]
    assert CliRunner().invoke(app, command).exit_code == 0
    rows = [row for row in pq.read_table(tmp_path / "links.parquet").to_pylist() if row["linkId"] is not None]
    theirs = {}
    for row in rows:
        theirs.setdefault(row["linkId"], set()).add(int(row["id"]))
    ours = {}
    for row in links(three):
        ours.setdefault(row["linkId"], set()).add(row["diaSourceId"])
    assert sorted(map(sorted, ours.values())) == sorted(map(sorted, theirs.values()))
    owners = [{BODIES[one] for one in some} for some in ours.values()]
    assert len(owners) >= 4
    assert all(len(some) == 1 and -1 not in some for some in owners)
    assert len({min(some) for some in owners}) == len(owners)


@needs_heliolinx
def test_a_row_tells_its_detection_and_its_link(three):
    found = links(three)
    told = {row["diaSourceId"]: (night, row) for night, rows in ROWS.items() for row in rows}
    for row in found:
        night, detection = told[row["diaSourceId"]]
        assert (row["sourceNight"], row["ra"], row["midpointMjdTai"]) == (
            night,
            detection["ra"],
            detection["midpointMjdTai"],
        )
        own = [one for one in found if one["linkId"] == row["linkId"]]
        assert (row["nSources"], row["nNights"]) == (len(own), 3)
        assert {one["sourceNight"] for one in own} == {*NIGHTS}
        assert row["linkId"] == own[0]["diaSourceId"] == min(own, key=lambda one: one["midpointMjdTai"])["diaSourceId"]
        assert (row["linkRms"] < 1, 0.7 < row["a"] < 6, 0 <= row["e"] < 1) == (True, True, True)
    order = [(row["linkId"], row["midpointMjdTai"]) for row in found]
    assert order == sorted(order)
    assert [links(three, night) for night in (FIRST, SECOND)] == [[], []]
    assert verify_output(three, declared_tables()).problems == ()


@needs_heliolinx
def test_explain_status_the_page_and_python_tell_of_links(three):
    rows = links(three)
    first, last = rows[0], [row for row in rows if row["linkId"] == rows[0]["linkId"]][-1]
    for row in (first, last):
        shown = CliRunner().invoke(app, ["explain", str(three), str(row["diaSourceId"]), "--json"])
        lines = [" ".join(line.split()) for line in shown.stderr.splitlines()]
        begin = f"link {first['linkId']}, {first['nSources']} detections"
        (link,) = [line for line in lines if line.startswith(begin)]
        assert f"in 3 nights, a {first['a']:.3f} au" in link
        assert any(line.startswith(f"linked {last['diaSourceId']} {THIRD}, MJD") for line in lines)
        told = json.loads(shown.stdout.splitlines()[-1])["motion"]["link"]
        assert told == [one for one in rows if one["linkId"] == first["linkId"]]
    status = CliRunner().invoke(app, ["status", str(three)])
    assert f"{THIRD} links over nights: {len(rows)} detections" in status.stdout + status.stderr
    page = write_report(three, THIRD, association=NO_STORE).read_text()
    assert f'<h2 id="links-h">Links over nights</h2>\n  <p>{len({row["linkId"] for row in rows})} objects' in page
    assert all(str(row["linkId"]) in page for row in rows)
    assert "links-h" not in write_report(three, FIRST, association=NO_STORE).read_text()
    table = ns.open(three).dataset("link_source").to_arrow()
    assert [(THIRD, row["linkId"]) for row in rows] == list(
        zip(table["night"].to_pylist(), table["linkId"].to_pylist(), strict=True)
    )


@needs_heliolinx
def test_a_rerun_with_nothing_new_links_nothing(out, monkeypatch):
    monkeypatch.setattr(night_window, "linked", None)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert finished(out, *NIGHTS).exit_code == 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@needs_heliolinx
def test_an_earlier_night_that_comes_later_is_linked_with_those_after_it(three, tmp_path):
    out = searched(tmp_path / "out", FIRST, THIRD)
    finished(out, FIRST, THIRD)
    assert links(out) == []
    searched(out, SECOND)
    summary = finished(out, SECOND)
    assert (summary.exit_code, summary.catalogues["link_source"]) == (0, 0)  # of the night that was asked for
    assert links(out) == links(three)
    records = [Ledger(one).night(THIRD).datasets[LINK_SOURCE.name] for one in (out, three)]
    assert records[0] == records[1]


@needs_heliolinx
def test_a_night_that_was_linked_with_what_was_not_as_planned_is_linked_again(three, tmp_path, monkeypatch):
    out = searched(tmp_path / "out", *NIGHTS)
    found = link_tracklets.find_tracklets

    def failing(detections, *more):
        if detections.mjd[0] < ROWS[SECOND][0]["midpointMjdTai"]:
            raise ZeroDivisionError("a defect of the stage")
        return found(detections, *more)

    with monkeypatch.context() as patch:
        patch.setattr(link_tracklets, "find_tracklets", failing)
        assert [trouble.uri for trouble in finished(out, *NIGHTS).night_failed] == [f"night {FIRST}"]
        patch.setattr(night_window, "linked", None)  # not once more while nothing changes
        assert [trouble.uri for trouble in finished(out, *NIGHTS).night_failed] == [f"night {FIRST}"]
    assert finished(out, *NIGHTS).exit_code == 0
    assert links(out) == links(three)


@needs_heliolinx
def test_a_night_before_that_changes_is_looked_at_again(out, monkeypatch):
    publish_rows(out, ROWS[FIRST][:-5], night=FIRST, digest="other")
    asked = []
    monkeypatch.setattr(night_window, "linked", lambda window: asked.append(window) or [])
    assert finished(out, FIRST).exit_code == 0
    assert (len(asked), links(out)) == (1, [])


@needs_heliolinx
def test_of_later_nights_nothing_but_links_is_made_again(out):
    publish_rows(out, ROWS[FIRST][:-5], night=FIRST, digest="other")
    before = Ledger(out).night(THIRD)
    other = ON.model_copy(update={"link_tracklets": LinkTrackletsSettings(by_chance=0.1)})
    assert finished(out, FIRST, settings=other).exit_code == 0
    assert Ledger(out).night(THIRD) == before  # its tracklets would be others, too: that is for a run of it
    assert finished(out, FIRST).exit_code == 0
    after = Ledger(out).night(THIRD)
    assert after.drawn is False
    assert {name for name, entry in after.datasets.items() if entry != before.datasets[name]} == {LINK_SOURCE.name}
    assert finished(out, THIRD).exit_code == 0
    assert Ledger(out).night(THIRD).datasets == after.datasets


@needs_heliolinx
def test_a_later_night_that_cannot_be_linked_again_stays_as_it_was(out, monkeypatch):
    def failing(window):
        raise Misconfigured("too_slow", "heliolinx", "took too long.", "wait.")

    publish_rows(out, ROWS[FIRST][:-5], night=FIRST, digest="other")
    monkeypatch.setattr(night_window, "linked", failing)
    before = links(out)
    summary = finished(out, FIRST)
    assert (summary.exit_code, links(out)) == (1, before)
    assert [trouble.message.partition(":")[0] for trouble in summary.night_failed] == [
        f"night {THIRD}, stage link_nights"
    ]


def test_known_objects_have_their_names_in_tracklets_and_alone(tmp_path):
    known = {row["diaSourceId"]: f"object {BODIES[row['diaSourceId']]}" for row in ROWS[FIRST][::2]}
    publish_rows(tmp_path, ROWS[FIRST], known, FIRST)
    window = night_window.read_window(tmp_path, FIRST, ON.link_nights)
    ids, names = window["diaSourceId"].to_pylist(), window["designation"].to_pylist()
    assert len(ids) > 20
    assert names == [known.get(one, "") for one in ids]
    centre = LinkNightsSettings(nights=3, obscode="500")
    assert set(night_window.read_window(tmp_path, FIRST, centre)["obscode"].to_pylist()) == {"500"}


def test_more_than_the_memory_holds_is_refused(tmp_path, monkeypatch):
    searched(tmp_path, *NIGHTS)
    counts = []
    monkeypatch.setattr(night_window, "require_night_fit", lambda night, rows: counts.append((night, rows)))
    window = night_window.read_window(tmp_path, THIRD, ON.link_nights)
    assert [night for night, _ in counts] == [THIRD] * 3
    assert counts[-1][1] == len(window) > counts[0][1]


def test_nothing_is_linked_unless_it_is_asked_for_and_links_go_with_the_setting(tmp_path, monkeypatch):
    monkeypatch.setattr(night_window, "linked", lambda window: [Link((0, 1, len(window.mjd) - 1), 3, 0.1, 2, 0.1, 5)])
    out = searched(tmp_path / "out", *NIGHTS)
    summary = finished(out, *NIGHTS, settings=OFF)
    assert (links(out), "link_nights" in summary.not_run, "link_source" in summary.catalogues) == (None, False, False)
    assert finished(out, *NIGHTS).catalogues["link_source"] == 3
    assert CatalogStore(out).read_night(TRACKLET, THIRD) is not None
    finished(out, *NIGHTS, settings=OFF)
    assert (links(out), LINK_SOURCE.name in Ledger(out).night(THIRD).datasets) == (None, False)


@pytest.mark.parametrize("failure", ["crash", "observatory"])
def test_what_cannot_be_linked_costs_the_links_alone(failure, tmp_path, monkeypatch):
    out = searched(tmp_path / "out", *NIGHTS)
    if failure == "crash":
        program = tmp_path / "python"
        program.write_text("#!/bin/sh\nkill -SEGV $$\n")
        program.chmod(0o755)
        monkeypatch.setattr(link_nights.sys, "executable", str(program))
    summary = finished(out, *NIGHTS, settings=ON if failure == "crash" else given())
    assert summary.exit_code == 1
    said = [trouble.message for trouble in summary.night_failed]
    assert any(f"night {THIRD}, stage link_nights: " in text and "set link_nights." in text for text in said)
    assert links(out) is None
    assert summary.catalogues["tracklet_source"] > 0


def test_the_instrument_tells_the_observatory_as_long_as_tiles_are_there(tmp_path):
    star, *movers = publish_linked(tmp_path, false=0)
    (night,) = Ledger(tmp_path).nights()
    window = night_window.read_window(tmp_path, night, LinkNightsSettings(nights=3))
    assert sorted(window["diaSourceId"].to_pylist()) == sorted(one for some in movers for one in some)
    assert (set(window["obscode"].to_pylist()), set(window["own"].to_pylist())) == ({"I41"}, {True})
    tracklets = CatalogStore(tmp_path).read_night(TRACKLET, night)["trackletId"].to_pylist()
    assert sorted(set(window["trackletId"].to_pylist())) == sorted(tracklets)
    assert not {*star} & {*window["diaSourceId"].to_pylist()}
    tiles = sorted((tmp_path / "tiles" / night).iterdir())
    shutil.rmtree(tiles[0])  # the others tell
    assert night_window.read_window(tmp_path, night, LinkNightsSettings(nights=3)).equals(window)
    for path in tiles[1:]:
        shutil.rmtree(path)
    with pytest.raises(BadInput, match=r"is not known for all detections\. To fix, set link_nights\.obscode"):
        night_window.read_window(tmp_path, night, LinkNightsSettings(nights=3))


def test_what_cannot_be_linked_is_refused_before_anything_is_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(link_nights, "find_spec", lambda name: object())
    with pytest.raises(Misconfigured, match=r"link_nights.obscode: is 'Q00'.* To fix, "):
        planner(tmp_path, given(obscode="Q00"))
    monkeypatch.setattr(link_nights, "find_spec", lambda name: None)
    with pytest.raises(Misconfigured, match=r"pip install 'nightstride\[link\]'"):
        planner(tmp_path, ON)
    planner(tmp_path, OFF)
