import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.results.evaluation.recovery import recoveries
from flows.results.summary_table import LINES, MOST, show_night, show_summary, show_troubles
from flows.storage.catalog_store import CatalogStore
from schemas.quality import BandQuality
from schemas.summary import AlertCounts, AlertLag, ExposureCounts, RunSummary, Trouble
from schemas.tracklets import TRACKLET
from tests.flows.results.evaluation.test_recovery import injection
from tests.support.filled import filled_rows


def summary_of(**change):
    values = {
        "exposures": {"seen": 1, "done": 1, "skipped": 0, "quarantined": 0, "failed": 0}, "windows": 190532,
        "unscored": 0, "detections": 3, "not_run": {}, "seconds": {"detect": 9.87}, "report": None,
    }  # fmt: skip
    return RunSummary(**{**values, **change})


def shown(**change):
    text = io.StringIO()
    show_summary(summary_of(**change), Console(file=text, width=100))
    return text.getvalue()


def in_short(out=None, **change):
    text = io.StringIO()
    show_night(summary_of(**change), Console(file=text, width=60), out)
    return text.getvalue().splitlines()


def test_shows_counts_times_and_page():
    seconds = {"detect": 9.87, "waiting": 3.29, "wall": 7.0}
    text = shown(report="out/reports/20260101/index.html", nights=("20260101",), seconds=seconds)
    for word in (
        "190,532",
        "detect, worker s",
        "9.9 ( 75%)",
        "3.3 ( 25%)",
        "wall, s",
        "7.0",
        "20260101",
        "page: out/reports/20260101/index.html",
    ):
        assert word in text
    assert "Nothing to do" not in text


def test_brackets_are_shown_as_they_are():
    text = shown(not_run={"gather": "name it in [fits.band]", "link": "of [/oiii]"})
    assert ("name it in [fits.band]" in text, "of [/oiii]" in text) == (True, True)


def test_bands_keep_their_case():
    judged = tuple(
        BandQuality(instrument="X", band=one, verdict="pass", gates=(), drifts=(), reference=()) for one in ("R", "r")
    )
    assert "Quality R pass, r pass." in in_short(quality={"20260101": judged})


def _passed(*instruments):
    return tuple(
        BandQuality(instrument=one, band="r", verdict="pass", gates=(), drifts=(), reference=()) for one in instruments
    )


def test_bands_of_several_instruments_and_nights_are_told_apart():
    assert "Quality X r pass, Y r pass." in in_short(quality={"1": _passed("X", "Y")})
    assert "Quality 1 r pass, 2 r pass." in in_short(quality={"1": _passed("X"), "2": _passed("X")})
    assert "Quality 1 X r pass, 2 Y r pass." in in_short(quality={"1": _passed("X"), "2": _passed("Y")})


@pytest.mark.parametrize(("count", "told"), [(1, True), (MOST, True), (MOST + 1, False)])
def test_bands_are_named_unless_they_are_too_many(count, told):
    names = [f"b{number}" for number in range(count)]
    judged = (BandQuality(instrument="X", band=one, verdict="pass", gates=(), drifts=(), reference=()) for one in names)
    said = " ".join(in_short(quality={"20260101": tuple(judged)}))
    assert [f"{one} pass" in said.lower() for one in names] == [told] * count


def test_tells_how_deep_the_night_saw_or_why_that_is_not_known():
    told = recoveries("20260101", injection(300))
    low, high = told[0].snr.interval
    text = " ".join(shown(injection=told).split())
    assert f"{told[0].recovered} of 300" in text
    assert f"{told[0].snr.value:.1f} ({low:.1f} to {high:.1f})" in text
    assert text.count("synthetic streaks recovered") == 1
    assert "- (fewer than 20 streaks)" in " ".join(shown(injection=recoveries("20260101", injection(5))).split())
    assert "synthetic" not in shown()


@pytest.mark.parametrize(
    ("done", "windows", "told"), [(1, 0, "none again"), (1, 1200, "1,200"), (0, 0, "0"), (0, 7, "7")]
)
def test_what_is_done_without_a_search_was_searched_before(done, windows, told):
    counts = {"seen": 1, "done": done, "skipped": 0, "quarantined": 0, "failed": 1 - done}
    assert rows(exposures=counts, windows=windows)["places searched"] == told


@pytest.mark.parametrize(
    ("change", "following"),
    [
        ({"detections": 0, "exposures": {"skipped": 1}}, []),
        ({"detections": 0, "exposures": {"quarantined": 1}}, ["status out"]),
        ({"detections": 0, "exposures": {"failed": 1}}, ["status out"]),
        ({"detections": 3, "exposures": {"failed": 1}}, ["explain out ID, nightstride vet out"]),
    ],
)
def test_what_to_do_next_follows_from_what_was_found(change, following):
    counts = {"seen": 2, "done": 1, "skipped": 0, "quarantined": 0, "failed": 0} | change["exposures"]
    lines = [one for one in in_short(Path("out"), **change | {"exposures": counts}) if one.startswith("Next")]
    assert lines == [f"Next: nightstride {one}; --verbose shows all figures." for one in following]
    assert not any(one.startswith("Next") for one in in_short(None, **change | {"exposures": counts}))


def test_says_when_there_was_nothing_to_do():
    none = dict.fromkeys(ExposureCounts.model_fields, 0)
    assert in_short(exposures=none)[0] == "Nothing to do: no exposure came."
    counts = {"seen": 2, "done": 0, "skipped": 2, "quarantined": 0, "failed": 0}
    assert shown(exposures=counts).startswith("Nothing to do: every exposure is published already.")


def test_names_troubles_and_counts_those_beyond():
    troubles = tuple(Trouble(uri=str(n), code="x", message=f"[{n}] is bad") for n in range(MOST + 3))
    counts = {"seen": MOST + 3, "done": 0, "skipped": 0, "quarantined": MOST + 3, "failed": 0}
    text = shown(exposures=counts, quarantined=troubles, not_run={"vet": "no science"}, warnings=("no page",))
    assert "quarantined: [0] is bad" in text
    assert f"[{MOST}] is bad" not in text
    assert "quarantined: 3 more" in text
    assert "vet not run" in text
    assert "warning: no page" in text


def test_counts_candidates_by_cause_and_leaves_out_what_did_not_occur():
    text = shown(causes={"cosmic_ray": {"refused": 1204, "published": 2}, "ghost": {"refused": 0, "published": 0}})
    assert "candidates, cosmic ray" in text
    assert "1,204 refused, 2 published" in text
    assert "ghost" not in text


def rows(**change):
    cells = (line.strip("│┃ ").split("│") for line in shown(**change).splitlines())
    return {cell[0].strip(): cell[-1].strip() for cell in cells if len(cell) == 2}


@pytest.mark.parametrize(
    ("nights", "title", "label"), [((), "Nights", "-"), (("1",), "Night", "1"), (("1", "2"), "Nights", "1 2")]
)
def test_one_night_is_a_night(nights, title, label):
    assert shown(nights=nights).splitlines()[0].strip() == title
    assert rows(nights=nights)["night"] == label


@pytest.mark.parametrize(
    ("seen", "skipped", "seconds", "nothing"),
    [
        (2, 2, {}, True), (0, 0, {}, True), (2, 1, {}, False), (2, 2, {"objects": 1.0}, False),
        (2, 1, {"objects": 1.0}, False),
    ],
)  # fmt: skip
def test_there_was_nothing_to_do_where_all_is_skipped_and_no_night_was_worked_on(seen, skipped, seconds, nothing):
    counts = {"seen": seen, "done": seen - skipped, "skipped": skipped, "quarantined": 0, "failed": 0}
    assert ("Nothing to do" in shown(exposures=counts, seconds=seconds)) is nothing


@pytest.mark.parametrize(("count", "more"), [(MOST, False), (MOST + 1, True)])
@pytest.mark.parametrize("kind", ["quarantined", "failed", "night_failed", "quality_failed"])
def test_troubles_are_counted_beyond_so_many(kind, count, more):
    troubles = tuple(Trouble(uri=str(n), code="x", message=f"no {n:02d}.") for n in range(count))
    text = shown(**{kind: troubles})
    assert text.count(f"{kind.rpartition('_')[2]}: no ") == MOST
    assert ("more, see" in text) is ("1 more, see" in text) is more


def test_shares_of_no_work_are_nothing():
    assert rows(seconds={"detect": 0.0})["detect, worker s"] == "0.0 (  0%)"


@pytest.mark.parametrize("counted", [{"refused": 1, "published": 0}, {"refused": 0, "published": 1}])
def test_a_cause_that_occurred_once_is_told(counted):
    told = rows(causes={"cosmic_ray": counted})["candidates, cosmic ray"]
    assert told == f"{counted['refused']} refused, {counted['published']} published"


def test_assumptions_are_shouted_once_for_each_kind():
    text = shown(assumed={"assumed_site": 1, "no_zero_point": 1200})
    assert "ASSUMED (assumed_site), 1 exposure: the longitude" in text
    assert "ASSUMED (no_zero_point), 1,200 exposures" in text
    assert "nightstride inspect FILE" in text
    assert "ASSUMED" not in shown()


TROUBLES = tuple(Trouble(uri=str(n), code="x", message=f"[{n}] is bad") for n in range(300))


def test_ten_lines_say_what_was_found_and_what_to_do_next():
    lines = in_short(
        Path("out"), nights=("20260101",), report="out/reports/20260101/index.html", catalogues={"tracklet": 24},
        seconds={"wall": 37.4, "detect": 20.0}, injection=recoveries("20260101", injection(300)),
        exposures={"seen": 6, "done": 3, "skipped": 2, "quarantined": 1, "failed": 0}, quarantined=TROUBLES[:1],
    )  # fmt: skip
    counts = "3 searched, 2 published before or copies, 1 in quarantine"
    assert lines[0] == f"Night 20260101: 6 exposures: {counts}, in 37 s."
    assert lines[1] == "Found: 3 detections, 24 tracklets."
    assert lines[2].startswith("Synthetic streaks recovered ")
    assert lines[3:] == [
        "quarantined: [0] is bad",
        "page: out/reports/20260101/index.html",
        "Next: nightstride explain out ID, nightstride vet out; --verbose shows all figures.",
    ]
    assert not any("worker" in line for line in lines)


def test_pages_of_several_nights_are_named_as_far_as_they_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nights = ("20260101", "20260102", "20260103")
    change = {"nights": nights, "report": "out/reports/20260103/index.html"}
    pages = [f"page: out/reports/{night}/index.html" for night in nights[1:]]
    for there in (pages[1:], pages):
        path = tmp_path / there[0].removeprefix("page: ")
        path.parent.mkdir(parents=True)
        path.touch()
        assert [line for line in in_short(Path("out"), **change) if line.startswith("page")] == there
        assert [line for line in shown(**change).splitlines() if line.startswith("page")] == there


def test_the_movers_of_no_known_object_are_counted_and_the_best_named(tmp_path):
    publish_tracklets(tmp_path, "20260101", [("", 3, 0.5), ("(433) Eros", 5, 0.1), ("", 4, 0.25)])
    found = in_short(tmp_path, nights=("20260101",), catalogues={"tracklet": 3})[1]
    best = "look first at 3 (0.25 deg/day), 1 (0.50 deg/day)"
    assert found == f"Found: 3 detections, 3 tracklets, 2 of no known object: {best}."


def test_without_orbits_no_tracklet_is_said_to_be_of_no_known_object(tmp_path):
    publish_tracklets(tmp_path, "20260101", [("", 3, 0.5)])
    best = "look first at 1 (0.50 deg/day)"
    told = {"nights": ("20260101",), "catalogues": {"tracklet": 1}}
    assert in_short(tmp_path, **told)[1] == f"Found: 3 detections, 1 tracklet: {best}."
    (tmp_path / "catalogs/ss_ephemeris/night=20260101").mkdir(parents=True)
    assert in_short(tmp_path, **told)[1] == f"Found: 3 detections, 1 tracklet, 1 of no known object: {best}."


def test_a_folder_with_a_space_is_quoted():
    next_line = in_short(Path("my out"), nights=("20260101",))[-1]
    assert next_line.startswith("Next: nightstride explain 'my out' ID, nightstride vet 'my out';")
    next_line = in_short(Path("-out"), nights=("20260101",))[-1]
    assert next_line.startswith("Next: nightstride explain ./-out ID, nightstride vet ./-out;")


def publish_tracklets(out, night, rows):
    names = ("trackletId", "designation", "nSources", "rate")
    told = [dict(zip(names, (number, *row), strict=True)) for number, row in enumerate(rows, 1)]
    CatalogStore(out).publish(TRACKLET, night, filled_rows(TRACKLET.schema, told), "d")


@pytest.mark.parametrize(
    "kind", ["quarantined", "failed", "night_failed", "quality_failed", "alerts_failed", "warnings"]
)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 300])
def test_the_lines_are_ten_at_most_whatever_went_wrong(kind, count):
    change = {kind: tuple(one.message for one in TROUBLES[:count]) if kind == "warnings" else TROUBLES[:count]}
    lines = in_short(
        Path("out"), **change, nights=("1", "2"), report="page", assumed={"assumed_site": 2, "no_zero_point": 1},
        alerts={"sent": 3},
    )  # fmt: skip
    assert len(lines) <= LINES
    told = sum("is bad" in line for line in lines)
    beyond = [int(line.split()[0]) for line in lines if "more troubles" in line]
    assert told + sum(beyond) == count
    where = "more troubles: nightstride status out --json lists those of all exposures"
    assert sum(where in line for line in lines) == len(beyond)
    assert sum(line.startswith("ASSUMED: ") for line in lines) == 1
    assert lines[0] == "2 nights, 1 to 2: 1 exposure: 1 searched."


def test_quiet_shows_troubles_alone():
    text = io.StringIO()
    show_troubles(summary_of(failed=TROUBLES[:2]), Console(file=text))
    assert text.getvalue().splitlines() == ["failed: [0] is bad", "failed: [1] is bad"]


def test_a_stream_that_is_stopped_before_anything_came_has_something_to_do():
    left = in_short(exposures=dict.fromkeys(ExposureCounts.model_fields, 0), stopped=True, warnings=("6 are left",))
    assert [left[0], left[2]] == ["No night: 0 exposures: none.", "warning: 6 are left"]


def test_a_rerun_of_what_is_done_says_so():
    lines = in_short(exposures={"seen": 2, "done": 0, "skipped": 2, "quarantined": 0, "failed": 0}, nights=("1",))
    assert lines[:2] == [
        "Nothing to do: every exposure is published already.", "Night 1: 2 exposures: 2 published before or copies.",
    ]  # fmt: skip


def test_alerts_are_told_with_their_lag_where_any_was_sent():
    lag = AlertLag(n=2, p50=1.5, p95=12.0, p99=1234.5)
    told = shown(alerts=AlertCounts(sent=1200, dead=3, lag_s=lag))
    rows = {line.strip("│ ").split("  ")[0]: line.split()[-2:] for line in told.splitlines() if "lert" in line}
    assert "1,200" in told
    assert "1.5, 12.0, 1,234.5" in told
    assert {"alerts sent", "alerts dead"} <= rows.keys()
    assert "median, 95 %, 99 %" not in shown(alerts=AlertCounts(sent=0))
    assert "alerts" not in shown()
    assert any(line.startswith("Alerts: 1,200 sent") for line in in_short(alerts=AlertCounts(sent=1200, dead=3)))
