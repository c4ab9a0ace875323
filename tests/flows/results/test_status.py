import io
import json
import shutil
from time import sleep

import pytest
from rich.console import Console

from flows.pipeline.provenance import provenance_of
from flows.results.status import MOST, UNKNOWN, NightStatus, Space, Status, read_status, show_status
from flows.storage.association_store import opened_association
from flows.storage.holder import myself
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from flows.storage.night_sums import keep_sums, lag_of, published_digest, state_of
from flows.storage.quarantine import Quarantine
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, NightRecord, Percentiles, WatchRecord
from schemas.night_range import NightRange
from schemas.settings import AssociationSettings, Settings
from schemas.summary import ExposureCounts, Trouble
from stages import PIPELINE
from tests.support.cli import nightstride

NIGHT = "20260101"


def record(visit, **given):
    known = {
        "night": NIGHT, "visit": visit, "detector": 0, "source_uri": f"{visit}.fits", "source_sha256": "s",
        "digest": "d", "detections": 3, "software": "0", "shutter_closed_at": "2026-01-02T03:00:00.000+00:00",
        "finished_at": f"2026-01-02T03:00:{10 * visit}+00:00",
    }  # fmt: skip
    return ExposureRecord(**(known | given))


@pytest.fixture
def out(tmp_path):
    ledger = Ledger(tmp_path)
    made = ledger.put_provenance(provenance_of(PIPELINE, Settings()))
    ledger.put(record(1, provenance=made))
    ledger.put(record(2, provenance=made))
    ledger.put(record(3, reason="disk_full: no space"))
    ledger.put(record(4, status="failed", reason="deadline: late", detections=0))
    ledger.put(record(5, status="quarantined", reason="flood: too many", detections=0))
    ledger.put(record(1, night="20260103", detector=1, shutter_closed_at=None))
    bad = BadInput("not_fits", "odd.fits", "is not a FITS file.", "leave it out.")
    Quarantine(tmp_path).put(bad, "odd.fits")
    # As a run leaves it: a record in the quarantine and one in the ledger.
    key = ExposureKey(night=NIGHT, visit=5, detector=0)
    Quarantine(tmp_path).put(BadInput("flood", "5.fits", "too many.", "look."), "5.fits", key)
    return tmp_path


def test_exposures_are_counted_by_state_and_reason(out):
    first, second, unknown = read_status(out).nights
    assert first.night == NIGHT
    assert first.exposures == {"done": 2, "outdated": 1, "quarantined": 1, "failed": 1}
    assert first.detections == 9
    assert [(one.uri, one.code, one.message) for one in first.troubles] == [
        ("3.fits", "disk_full", "no space"),
        ("4.fits", "deadline", "late"),
        ("5.fits", "flood", "too many"),
    ]
    assert (second.night, second.exposures, second.troubles) == ("20260103", {"done": 1}, ())
    assert (unknown.night, unknown.exposures, unknown.troubles[0].code) == (UNKNOWN, {"quarantined": 1}, "not_fits")


def test_lag_is_from_the_end_of_the_exposure_to_its_record(out):
    first, second, _ = read_status(out).nights
    assert (first.lag_s.n, first.lag_s.p50, first.lag_s.p99) == (3, 20.0, 30.0)
    assert second.lag_s is None


def test_models_are_named_with_their_exposures(out):
    models = read_status(out).nights[0].models
    assert models["detect: streak_net 1"] == 2
    assert models["not recorded"] == 1


def test_one_night_alone(out):
    assert [one.night for one in read_status(out, NightRange.of("20260103")).nights] == ["20260103"]
    with pytest.raises(Misconfigured, match=r"nothing of night 2026-01-03\. To fix, write '20260103'; known are"):
        read_status(out, NightRange.of("2026-01-03"))


def test_a_night_that_is_damaged_is_told_beside_the_others(out):
    (out / "ledger/20260103.sqlite").write_bytes(b"no database" * 1000)
    done = nightstride("status", out, "--json")
    found = json.loads(done.stdout.splitlines()[-1])
    assert done.code == 2
    assert [one["night"] for one in found["nights"]] == [NIGHT, "unknown"]
    (one,) = found["unreadable"]
    assert one["uri"] == "night 20260103"
    assert "20260103.sqlite: cannot be read" in one["message"]
    assert nightstride("status", out, "--night", "20260103").code == 2
    told = [str(error) for error in Ledger(out).damage()]
    assert len(told) == 1
    assert ".." not in told[0]
    assert "run its nights again" in told[0]


def test_a_night_whose_records_are_gone_is_told(out):
    (out / "ledger/20260103.sqlite").unlink()
    folder = out / "catalogs/dia_source/night=20260103"
    folder.mkdir(parents=True, exist_ok=True)
    assert not read_status(out).unreadable  # all of it was withdrawn
    (folder / "1-0.parquet").write_bytes(b"PAR1")
    found = read_status(out)
    assert [one.night for one in found.nights] == [NIGHT, "unknown"]
    (one,) = found.unreadable
    assert (one.uri, one.code, found.exit_code) == ("night 20260103", "lost_ledger", 2)
    assert "has catalogues, and no record in the ledger" in one.message
    assert [one.code for one in read_status(out, NightRange.of("20260103")).unreadable] == ["lost_ledger"]
    assert not read_status(out, NightRange.of(NIGHT)).unreadable
    with lease(out):
        assert not read_status(out).unreadable  # it may be about to write them


def test_a_night_that_a_run_did_not_bring_together_is_told_when_the_run_has_ended(out):
    """Where a signal ended it, nothing else tells; a night of other catalogues, as of alert packets, has no such."""
    assert [one.code for one in read_status(out).nights[1].troubles] == []
    published(out, "20260103")
    with lease(out):
        assert read_status(out).nights[1].troubles == ()
    found = read_status(out)
    (told,) = found.nights[1].troubles
    assert (told.uri, told.code, found.exit_code) == ("night 20260103", "unfinished_night", 1)
    assert "has 1 published exposure, but its tracklets and objects were made from 0" in told.message
    whole = NightRecord(night="20260103", exposures=1, software="0", finished_at="2026-01-03T04:00:00+00:00")
    Ledger(out).put_night(whole)
    assert read_status(out).nights[1].troubles == ()
    Ledger(out).put(record(2, night="20260103"))
    assert "has 2 published exposures" in read_status(out).nights[1].troubles[0].message


@pytest.mark.parametrize("kept", [False, True])
def test_a_night_that_was_searched_again_and_not_brought_together_is_told(out, kept):
    published(out, NIGHT)
    ledger, made_from = Ledger(out), published_digest(Ledger(out).briefs(NIGHT))
    whole = NightRecord(
        night=NIGHT, exposures=3, made_from=made_from, software="0", finished_at="2026-01-02T04:00:00+00:00"
    )

    def told():
        if kept:
            keep_sums(ledger, NIGHT)
        return [one.message for one in read_status(out).nights[0].troubles if one.code == "unfinished_night"]

    ledger.put_night(whole)
    assert told() == []
    ledger.put(record(4, status="quarantined", reason="flood: too many", detections=0))  # nothing that was published
    assert told() == []
    ledger.put(record(2, finished_at="2026-01-02T05:00:00+00:00"))
    (message,) = told()
    assert "has exposures that were searched again after its tracklets and objects were made" in message
    ledger.put_night(whole.model_copy(update={"made_from": ""}))  # before records told
    assert told() == []
    ledger.put_night(whole.model_copy(update={"made_from": published_digest(ledger.briefs(NIGHT))}))
    assert told() == []


def published(out, night):
    folder = out / "catalogs" / "dia_source" / f"night={night}"
    folder.mkdir(parents=True)


def test_other_settings_of_the_association_are_told_and_are_no_failure(tmp_path):
    Ledger(tmp_path).put(record(1))
    where = AssociationSettings()
    for night, sigmas in ((NIGHT, 4.0), ("20260103", 5.0)):
        given = where.model_copy(update={"sigmas": sigmas})
        with lease(tmp_path), opened_association(tmp_path, where) as store, store.matching(given, night):
            pass
    found = read_status(tmp_path)
    (note,) = found.notes
    assert note.startswith("association.sigmas was 4, and is 5 since night 20260103")
    assert (found.exit_code, found.values()["notes"]) == (0, [note])
    assert f"note: {note}." in shown(found)
    assert read_status(tmp_path, NightRange.of(NIGHT)).notes == ()


def test_what_is_no_output_folder_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="not an output folder"):
        read_status(tmp_path / "none")


def test_who_holds_it_and_what_watches_is_told(out):
    counts = ExposureCounts(seen=2, done=2, skipped=0, quarantined=0, failed=0)
    watch = WatchRecord(
        state="running", source="in", host=myself().host, pid=myself().pid, since="then", updated_at="now",
        on_the_way=2, waiting=9, exposures=counts,
    )  # fmt: skip
    Ledger(out).put_watch(watch)
    assert read_status(out).holder is None
    with lease(out) as holder:
        status = read_status(out)
    assert (status.holder, status.dead, status.watch) == (holder, None, watch)
    values = json.loads(json.dumps(status.values()))
    assert values["watch"]["waiting"] == 9
    assert values["holder"]["pid"] == holder.pid
    assert values["nights"][0]["lag_s"]["p50"] == 20.0
    assert values["nights"][0]["troubles"][0]["code"] == "disk_full"


def test_a_stream_or_run_that_was_killed_is_told(tmp_path):
    counts = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)
    watch = WatchRecord(
        state="running", source="in", host="h", pid=1, since="then", updated_at="now", on_the_way=0, waiting=6,
        exposures=counts,
    )  # fmt: skip
    Ledger(tmp_path).put(record(1))
    Ledger(tmp_path).put_watch(watch)
    with lease(tmp_path) as me:
        dead = me.model_copy(update={"started": me.started - 100.0})
    (tmp_path / "lease.json").write_text(dead.model_dump_json())
    status = read_status(tmp_path)
    assert (status.holder, status.dead, status.exit_code) == (None, dead, 1)
    assert status.values()["watch"]["state"] == "killed"
    assert status.values()["dead"]["pid"] == dead.pid
    text = shown(status)
    assert f"the last run did not end: process {dead.pid} on {dead.host}, since {dead.since}, was killed" in text
    assert "watch of in: does not run any more; it was killed, and last seen at now; 6 waiting; 0 done" in text
    with lease(tmp_path):  # the next run
        assert read_status(tmp_path).dead is None
    after = read_status(tmp_path)
    assert (after.dead, after.exit_code, after.watch.state) == (None, 0, "killed")
    Ledger(tmp_path).put_watch(watch.model_copy(update={"state": "ended"}))
    assert read_status(tmp_path).watch.state == "ended"


def test_a_stream_whose_time_to_stop_was_over_is_not_called_killed(tmp_path):
    with lease(tmp_path) as me:
        dead = me.model_copy(update={"started": me.started - 100.0})
    (tmp_path / "lease.json").write_text(dead.model_dump_json())
    counts = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)
    watch = WatchRecord(
        state="ended", source="in", host=dead.host, pid=dead.pid, since="then", updated_at="now", on_the_way=1,
        waiting=2, exposures=counts,
    )  # fmt: skip
    Ledger(tmp_path).put(record(1))
    Ledger(tmp_path).put_watch(watch)
    status = read_status(tmp_path)
    assert (status.dead, status.watch.state, status.exit_code) == (dead, "ended", 1)
    text = shown(status)
    assert "gave up what was on its way; run again: the next one does the rest" in text
    assert "watch of in: ended at now; 1 in progress, 2 waiting" in text
    assert "killed" not in text
    # An earlier one; one that had left nothing, and was bringing the night together.
    for other in ({"pid": 1}, {"on_the_way": 0, "waiting": 0}):
        Ledger(tmp_path).put_watch(watch.model_copy(update=other))
        assert "was killed; run again" in shown(read_status(tmp_path))


def test_what_was_in_quarantine_and_is_not_there_any_more_is_told_and_counts_no_more(tmp_path):
    out, raw = tmp_path / "out", tmp_path / "raw"
    raw.mkdir()
    files = [raw / f"{n}.fits" for n in range(3)]
    for file in files:
        file.write_text("bad")
    key = ExposureKey(night=NIGHT, visit=5, detector=0)
    Quarantine(out).put(BadInput("flood", "0.fits", "too many.", "look."), str(files[0]), key)
    Ledger(out).put(record(5, status="quarantined", reason="flood: too many", source_uri=str(files[0])))
    Quarantine(out).put(BadInput("truncated", "1.fits", "ends.", "fetch it."), str(files[1]))
    status = read_status(out)
    assert (status.exit_code, [one.exposures for one in status.nights]) == (1, [{"quarantined": 1}] * 2)
    for file in files[:2]:
        file.unlink()
    status = read_status(out)
    assert (status.exit_code, [one.exposures for one in status.nights]) == (0, [{}, {}])
    assert [[one.code for one in night.gone] for night in status.nights] == [["flood"], ["truncated"]]
    assert status.values()["nights"][1]["gone"][0]["uri"] == str(files[1])
    assert f"{NIGHT} gone: {files[0]} was quarantined (flood), and is not there any more" in shown(status)


def test_of_what_is_gone_the_rest_is_counted():
    gone = tuple(Trouble(uri=f"{n}.fits", code="flood", message="too many") for n in range(MOST + 3))
    said = shown(Status((NightStatus(NIGHT, {}, 0, None, {}, (), gone=gone),), None, None))
    assert (said.count("was quarantined (flood)"), f"{NIGHT}: 3 more, see --json" in said) == (MOST, True)


def shown(status):
    console = Console(file=io.StringIO(), width=200)
    show_status(status, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [0, 20])
def test_in_a_narrow_terminal_the_table_has_its_content(width):
    console = Console(file=io.StringIO(), width=width)
    show_status(Status((NightStatus("20260101", {"done": 7}, 1234, None, {}, ()),), None, None), console)
    assert {"20260101", "1,234"} <= set(console.file.getvalue().split())


def test_a_night_is_a_row_with_its_troubles_below():
    troubles = tuple(Trouble(uri=f"{number}", code="deadline", message=f"late {number}") for number in range(MOST + 2))
    lag = Percentiles(n=3, p50=31.24, p99=600)
    night = NightStatus("20260101", {"done": 7, "failed": 22}, 1234, lag, {"detect: net 1": 7}, troubles)
    text = shown(Status((night,), None, None))
    row = next(line for line in text.splitlines() if "20260101" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "20260101", "7", "0", "0", "22", "1,234", "31.2 s / 10.0 min",
    ]  # fmt: skip
    assert "20260101 detect: net 1: 7 exposures" in text
    assert f"late {MOST - 1}" in text
    assert f"late {MOST}\n" not in text
    assert "2 more, see --json" in text


def watched(p50, p99):
    counts = ExposureCounts(seen=5, done=3, skipped=1, quarantined=1, failed=0)
    watch = WatchRecord(
        state="running", source="in", host="h", pid=1, since="then", updated_at="now", on_the_way=2, waiting=9,
        exposures=counts, lag_s=Percentiles(n=3, p50=p50, p99=p99), turnaround_s=Percentiles(n=3, p50=1.0, p99=2.0),
    )  # fmt: skip
    return shown(Status((), None, watch))


def test_a_stream_is_told_in_a_line():
    text = watched(90000.0, 9e5)
    assert "watch of in: running at now; 2 in progress, 9 waiting; 3 done, 1 skipped, 1 quarantined, 0 failed" in text
    assert "from shutter close 25.0 h / 10.4 d, from arrival 1.0 s / 2.0 s" in text


def test_the_lag_of_an_archive_is_not_told():
    assert "│ archive " in row(8 * 86400.0, 9 * 86400.0)[0]
    # One straggler does not hide how late a night was.
    assert "│ 6.0 d / 2000.0 d " in row(6 * 86400.0, 2000 * 86400.0)[0]
    assert "from shutter close archive, from arrival 1.0 s / 2.0 s" in watched(1e8, 1e8)


def row(p50, p99, **given):
    night = NightStatus(
        "20260101", {"done": 9}, 1, Percentiles(n=9, p50=p50, p99=p99), {}, **({"troubles": ()} | given)
    )
    text = shown(Status((night,), None, None))
    return next(line for line in text.splitlines() if "20260101" in line), text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 s"), (119.9, "119.9 s"), (120.0, "2.0 min"), (7194.0, "119.9 min"), (7200.0, "2.0 h"),
        (172440.0, "47.9 h"), (172800.0, "2.0 d"), (259200.0, "3.0 d"),
    ],
)  # fmt: skip
def test_a_unit_is_used_from_two_of_it(seconds, words):
    assert f"│ {words} / 1000.0 d " in row(seconds, 864e5)[0]


def test_an_exposure_of_a_week_ago_is_of_no_archive_yet():
    week = 7 * 86400.0
    assert "│ 7.0 d / 7.0 d " in row(week, week)[0]
    assert "│ archive " in row(week * (1 + 2**-52), week)[0]


@pytest.mark.parametrize(("count", "more"), [(MOST, 0), (MOST + 1, 1)])
def test_troubles_are_listed_as_long_as_there_are_no_more_than_that(count, more):
    troubles = tuple(Trouble(uri=f"{n}", code="deadline", message=f"late {n:02d}") for n in range(count))
    text = row(1, 2, troubles=troubles)[1]
    assert text.count("deadline: late") == MOST
    assert ("more, see --json" in text) is bool(more)
    assert f"{more} more, see --json" in text or not more


@pytest.mark.parametrize(
    ("closed", "finished", "seconds"),
    [
        ("2026-01-02T03:00:00+00:00", "2026-01-02T03:00:41+00:00", 41),
        ("2026-01-02T03:00:00", "2026-01-02T03:00:41", 41),
        ("2026-01-02T03:00:00", "2026-01-02T05:00:00+02:00", 0),
        (None, "2026-01-02T03:00:41", None),
    ],
)
def test_a_time_without_a_zone_is_utc(closed, finished, seconds):
    assert lag_of(record(1, shutter_closed_at=closed, finished_at=finished)) == seconds


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [
        ("done", None, "done"), ("done", "disk_full: no space", "outdated"), ("failed", "late: x", "failed"),
        ("quarantined", "flood: x", "quarantined"),
    ],
)  # fmt: skip
def test_what_is_published_is_outdated_where_doing_it_again_failed(status, reason, state):
    assert state_of(record(1, status=status, reason=reason)) == state


def test_a_night_of_quarantined_files_alone_is_found(tmp_path):
    for visit, night in ((1, NIGHT), (2, "20260102")):
        key = ExposureKey(night=night, visit=visit, detector=0)
        Quarantine(tmp_path).put(BadInput("flood", f"{visit}.fits", "too many.", "look."), f"{visit}.fits", key)
    Ledger(tmp_path).put(record(3, night="20260103"))
    (found,) = read_status(tmp_path, NightRange.of(NIGHT)).nights
    assert (found.exposures, [one.uri for one in found.troubles]) == ({"quarantined": 1}, ["1.fits"])
    assert [one.night for one in read_status(tmp_path).nights] == [NIGHT, "20260102", "20260103"]
    with pytest.raises(Misconfigured, match="nothing of night 20260104"):
        read_status(tmp_path, NightRange.of("20260104"))


def test_sums_that_were_kept_are_used_as_long_as_they_hold(out, monkeypatch):
    ledger, before = Ledger(out), read_status(out)
    for night in ("20260101", "20260103", "20260109"):
        keep_sums(ledger, night)
    assert read_status(out).nights == before.nights
    kept = ledger.sums(NIGHT)
    assert kept.states == {"done": 2, "outdated": 1, "quarantined": 1, "failed": 1}
    ledger.put_sums("20260103", kept.model_copy(update={"stamp": ledger.stamp("20260103"), "detections": 77}))
    assert [one.detections for one in read_status(out).nights] == [9, 77, 0]
    sleep(0.02)  # file systems tell times in steps of some milliseconds
    ledger.put(record(2, night="20260103", detections=5))
    assert [one.detections for one in read_status(out).nights] == [9, 8, 0]


def test_sums_of_what_cannot_be_stamped_are_not_kept(tmp_path):
    keep_sums(Ledger(tmp_path), NIGHT)
    assert Ledger(tmp_path).sums(NIGHT) is None
    assert not (tmp_path / "ledger").exists()


def test_the_space_of_the_file_system_is_told(out):
    space = read_status(out).space
    there = shutil.disk_usage(out)
    assert (space.bytes, space.files_free <= space.files) == (there.total, True)
    assert abs(space.bytes_free - there.free) < 2**30  # others write meanwhile
    assert read_status(out).values()["space"]["bytes"] == there.total
    told = shown(Status((), None, None, Space(10 * 2**30, 2**31, 70_000, 5000)))
    assert "2.0 of 10.0 GiB free, 5,000 of 70,000 files" in told
    assert str(Space(2**30, 2**29, 0, 0)) == "0.5 of 1.0 GiB free"
    assert shown(Status((), None, None)).count("GiB") == 0


def test_who_holds_it_is_shown():
    me = myself()
    for holder in (None, me):
        text = shown(Status((), holder, None))
        assert (f"held by process {me.pid} on {me.host}, since {me.since}" in text) == (holder is not None)
