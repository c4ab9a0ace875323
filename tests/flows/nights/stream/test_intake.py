import posixpath
from dataclasses import dataclass, field

import pytest

from flows.inputs.source import AN_ALERT, Source
from flows.inputs.sources import list_sources
from flows.nights.stream import intake as module
from flows.nights.stream.intake import Intake
from flows.pipeline.outcome import Item, Plan
from flows.storage.quarantine import Quarantine
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.settings import Settings
from schemas.summary import Trouble


@dataclass
class Place:
    """Files that arrive: those that the test puts there."""

    ready: list = field(default_factory=list)
    told: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    waiting: int = 0
    announced: bool = False

    def poll(self, room):
        self.asked.append(room)
        taken, self.ready = self.ready[:room], self.ready[room:]
        return taken

    def finished(self, uri):
        self.told.append(uri)

    def close(self):
        pass


class Planned:
    """A planner that finds visit and detector in the name, and what is published in a set."""

    def __init__(self):
        self.published, self.unreadable = set(), set()
        self.meanwhile = lambda: None

    def plan(self, sources):
        todo, skipped, failed = [], 0, []
        for source in sources:
            visit, detector = map(int, posixpath.basename(source.uri).split(".")[0].split("-"))
            if source.uri in self.unreadable:
                failed.append(Trouble(uri=source.uri, code="io_error", message="timed out"))
            elif (visit, detector) in self.published:
                skipped += 1
            else:
                todo.append(Item(source, ExposureKey(night="20260101", visit=visit, detector=detector), None))
        self.meanwhile()
        return Plan(tuple(todo), (), skipped, failed=tuple(failed))


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def stream(tmp_path, monkeypatch, now):
    def listed(inputs, settings):
        (uri,) = inputs
        if uri.startswith("truth"):
            raise Misconfigured("no_exposures", uri, "holds none.", "name others.")
        if uri.startswith("away"):
            raise Misconfigured("unreadable_input", uri, "cannot be looked at.", "wait.")
        if uri.endswith(".fits"):
            return [Source(uri.removeprefix("file://"))]
        return list_sources(inputs, settings)

    monkeypatch.setattr(module, "list_sources", listed)
    return Intake(Place(), Planned(), Quarantine(tmp_path), Settings(), lambda: now[0])


def arrive(stream, *uris, room=9):
    stream.arrivals.ready += uris
    return stream.take(room)


def test_what_arrives_is_planned_and_the_place_told_when_it_is_finished(stream):
    plan = arrive(stream, "1-0.fits", "1-1.fits")
    assert [item.key.name for item in plan.todo] == ["1-0", "1-1"]
    assert (stream.on_the_way, stream.arrivals.told) == (2, [])
    stream.finished(plan.todo[0])
    assert (stream.on_the_way, stream.arrivals.told) == (1, ["1-0.fits"])


def test_a_place_that_cannot_be_looked_at_is_told_as_long_as_it_is_so(stream, monkeypatch):
    """A stream that ends then has not seen all: what is unread at its end counts as failed."""

    def poll(room):
        raise Retryable("io_error", "s3://there", "cannot be listed.", "check the connection.")

    arrive(stream, "away/1-0.fits")
    with monkeypatch.context() as broken:
        broken.setattr(stream.arrivals, "poll", poll)
        for _ in range(2):
            with pytest.raises(Retryable, match="cannot be listed"):
                stream.take(9)
            assert [(one.uri, one.code) for one in stream.unread] == [
                ("away/1-0.fits", "unreadable_input"), ("s3://there", "io_error")
            ]  # fmt: skip
    stream.take(9)
    assert [one.uri for one in stream.unread] == ["away/1-0.fits"]


def test_what_is_published_is_told_at_once(stream):
    stream.planner.published.add((1, 0))
    assert arrive(stream, "1-0.fits").skipped == 1
    assert stream.arrivals.told == ["1-0.fits"]


def test_a_second_delivery_of_what_is_on_its_way_waits_for_its_end(stream):
    (item,) = arrive(stream, "1-0.fits").todo
    again = arrive(stream, "copy/1-0.fits")
    assert (again.todo, again.seen, stream.on_the_way) == ((), 0, 2)
    assert stream.take(9).seen == 0
    stream.planner.published.add((1, 0))
    stream.finished(item)
    assert stream.arrivals.told == ["1-0.fits"]
    assert stream.take(9).skipped == 1
    assert stream.arrivals.told == ["1-0.fits", "copy/1-0.fits"]
    assert (stream.take(9).seen, stream.on_the_way) == (0, 0)


def test_what_is_finished_while_its_second_delivery_is_planned_is_not_searched_twice(stream):
    (item,) = arrive(stream, "1-0.fits").todo

    def finish():
        stream.planner.published.add((1, 0))
        stream.finished(item)

    stream.planner.meanwhile = finish  # after the ledger was read
    assert arrive(stream, "copy/1-0.fits").todo == ()
    stream.planner.meanwhile = lambda: None
    again = stream.take(9)
    assert (again.todo, again.skipped) == ((), 1)


def test_the_place_is_told_by_its_own_name_and_not_before_the_end(stream):
    plan = arrive(stream, "file:///d/1-0.fits")
    assert plan.todo[0].source.uri == "/d/1-0.fits"
    assert stream.arrivals.told == []
    again = arrive(stream, "file:///d/1-0.fits")
    stream.finished(plan.todo[0])
    assert (again.seen, stream.arrivals.told) == (0, [])  # the second message of that name is still held
    stream.planner.published.add((1, 0))
    stream.take(9)
    assert stream.arrivals.told == ["file:///d/1-0.fits"]


def test_a_visit_waits_since_its_first_exposure_arrived(stream, now):
    (first,) = arrive(stream, "1-0.fits").todo
    now[0] = 7.0
    (second,) = arrive(stream, "1-1.fits").todo
    (other,) = arrive(stream, "2-0.fits").todo
    now[0] = 10.0
    assert [stream.waited(item) for item in (first, second, other)] == [10.0, 10.0, 3.0]
    assert stream.oldest_s() == 10.0
    stream.finished(first)
    stream.finished(second)
    assert stream.oldest_s() == 3.0
    stream.finished(other)
    assert stream.oldest_s() == 0.0


def test_a_visit_that_is_finished_is_forgotten(stream, now):
    first, second = arrive(stream, "1-0.fits", "1-1.fits").todo
    stream.finished(first)
    now[0] = 100.0
    assert stream.waited(second) == 100.0
    stream.finished(second)
    (late,) = arrive(stream, "1-2.fits").todo
    now[0] = 103.0
    assert stream.waited(late) == 3.0


def test_a_file_without_exposures_is_left_out(stream):
    plan = arrive(stream, "truth.npz", "1-0.fits")
    assert [item.key.name for item in plan.todo] == ["1-0"]
    assert stream.arrivals.told == ["truth.npz"]


@pytest.mark.parametrize(
    ("message", "code", "shown"),
    [
        ("gone", "no_such_input", "gone"),
        ("nonsense://x", "no_such_input", "nonsense://x"),
        ("http://[", "no_such_input", "http://["),
        ("github://x", "no_such_input", "github://x"),
        ("", "no_such_input", "an empty message"),
        ("s3://me:secret@bucket/a.npz", "credentials_in_url", "s3://bucket/a.npz"),
        ("https://host/a.npz?X-Amz-Signature=secret", "credentials_in_url", "https://host/a.npz"),
    ],
)
def test_what_names_nothing_is_quarantined_without_its_secrets_and_the_rest_goes_on(
    stream, tmp_path, message, code, shown
):
    plan = arrive(stream, message, "1-0.fits")
    assert [item.key.name for item in plan.todo] == ["1-0"]
    assert [(one.uri, one.code) for one in plan.quarantined] == [(shown, code)]
    assert stream.arrivals.told == [message]
    (record,) = Quarantine(tmp_path).list()
    assert (record.source_uri, record.code) == (shown, code)
    assert "secret" not in f"{record} {plan}"


def test_a_manifest_that_makes_no_sense_is_quarantined(stream, tmp_path):
    manifest = tmp_path / "exposures.csv"
    manifest.write_text("nonsense\n1\n")
    assert [one.code for one in arrive(stream, str(manifest)).quarantined] == ["bad_manifest"]
    assert stream.arrivals.told == [str(manifest)]


def test_what_cannot_be_looked_at_is_tried_again(stream, monkeypatch):
    plan = arrive(stream, "away.npz")
    assert (plan.seen, stream.on_the_way, stream.arrivals.told) == (0, 0, [])
    assert [one.code for one in stream.unread] == ["unreadable_input"]
    monkeypatch.setattr(module, "list_sources", lambda inputs, settings: [Source("1-0.fits")])
    (item,) = stream.take(9).todo
    stream.finished(item)
    assert (stream.unread, stream.arrivals.told) == ((), ["away.npz"])


def test_what_cannot_be_read_is_tried_again(stream):
    stream.planner.unreadable.add("1-0.fits")
    plan = arrive(stream, "1-0.fits", "2-0.fits")
    assert [item.key.name for item in plan.todo] == ["2-0"]
    assert (plan.seen, stream.arrivals.told, [one.code for one in stream.unread]) == (1, [], ["io_error"])
    stream.planner.unreadable.clear()
    assert [item.key.name for item in stream.take(9).todo] == ["1-0"]
    assert stream.unread == ()


def test_what_arrived_is_kept_when_the_ledger_cannot_be_read(stream):
    def fail():
        raise Retryable("io_error", "ledger", "timed out.", "wait.")

    stream.planner.meanwhile = fail
    with pytest.raises(Retryable):
        arrive(stream, "1-0.fits")
    assert ([one.uri for one in stream.unread], stream.arrivals.told) == (["1-0.fits"], [])
    stream.planner.meanwhile = lambda: None
    assert [item.key.name for item in stream.take(9).todo] == ["1-0"]


def test_what_cannot_be_looked_at_for_long_is_a_dead_letter_and_holds_up_nothing(stream, now, tmp_path):
    stream.planner.unreadable.add("1-0.fits")
    patience = stream.settings.watch.give_up_s
    plan = arrive(stream, "away.npz", "1-0.fits", "2-0.fits")
    assert [item.key.name for item in plan.todo] == ["2-0"]
    now[0] = patience - 1
    assert (stream.take(9).quarantined, len(stream.unread)) == ((), 2)
    now[0] = patience
    given_up = stream.take(9).quarantined
    assert sorted((one.uri, one.code) for one in given_up) == [("1-0.fits", "dead_letter"), ("away.npz", "dead_letter")]
    assert (stream.unread, sorted(stream.arrivals.told)) == ((), ["1-0.fits", "away.npz"])
    assert sorted(one.source_uri for one in Quarantine(tmp_path).list()) == ["1-0.fits", "away.npz"]
    assert (stream.take(9).seen, stream.on_the_way) == (0, 1)


def test_what_comes_back_in_time_starts_again(stream, now):
    stream.planner.unreadable.add("1-0.fits")
    patience = stream.settings.watch.give_up_s
    arrive(stream, "1-0.fits")
    stream.planner.unreadable.clear()
    now[0] = patience - 1
    (item,) = stream.take(9).todo
    stream.finished(item)
    stream.planner.unreadable.add("1-0.fits")
    now[0] = patience + 1
    assert arrive(stream, "1-0.fits").quarantined == ()


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/shadow", "/", "butler:/repo.fits", "https://host/x.fits", "memory://x.fits", "/night/exposures.csv",
        "/night/*.txt", "/night/../../etc/x.txt", "s3://bucket/a/../b.fits", "zip://a.fits::s3://bucket/b.fits", "",
        "s3://bucket/a.fits?token=x", "/x\x00.fits", "/x\udcff.fits", "/night/*.fits", "/night/a[0].fits",
        "https://host/a/%2e%2e/b.fits", "s3://bucket/x?f=.fits", "/n\x1b[2J.fits",
    ],
)  # fmt: skip
def test_a_message_may_name_image_files_here_and_in_buckets_and_nothing_else(stream, uri):
    stream.arrivals.announced = True
    (trouble,) = arrive(stream, uri).quarantined
    assert trouble.code == "not_allowed"
    assert "token=x" not in trouble.message + trouble.uri
    assert stream.arrivals.told == [uri]
    assert [item.key.name for item in arrive(stream, "/night/1-0.fits", "s3://bucket/2-0.fits").todo] == ["1-0", "2-0"]


def test_a_message_may_name_what_begins_with_a_place_of_the_settings(tmp_path):
    allow = (str(tmp_path / "night"), "s3://bucket/night/", "https://host/public")
    (tmp_path / "night").mkdir()
    (tmp_path / "night/link").symlink_to("/etc")
    (tmp_path / "night/folder.fits").mkdir()
    with pytest.raises(BadInput, match="not an image file by its name"):
        module.require_allowed(f"{tmp_path}/night/folder.fits", allow)
    for uri in (f"{tmp_path}/night/a.fits", "s3://bucket/night/x/a.fits.fz", "https://host/public/a.npz"):
        module.require_allowed(uri, allow)
    for uri in (
        f"{tmp_path}/night2/a.fits", f"{tmp_path}/night/link/a.fits", f"{tmp_path}/night/../a.fits", "/a.fits",
        "s3://bucket/nightly/a.fits", "s3://bucket/a.fits", "https://host/publicly.fits", "https://other/public/a.fits",
    ):  # fmt: skip
        with pytest.raises(BadInput, match=r"watch\.allow") as caught:
            module.require_allowed(uri, allow)
        assert caught.value.code == "not_allowed"


def test_a_message_that_names_what_no_file_can_be_called_ends_no_stream(tmp_path):
    stream = Intake(Place(announced=True), Planned(), Quarantine(tmp_path), Settings())
    (trouble,) = arrive(stream, f"{tmp_path}/{'1' * 300}.fits").quarantined
    assert trouble.code == "no_such_input"


def test_whether_a_file_is_a_folder_need_not_be_known(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.os, "stat", refuse)
    module.require_allowed("/secret/night/1-0.fits", ())


def test_what_waits_takes_room(stream):
    stream.planner.unreadable |= {"1-0.fits", "2-0.fits"}
    arrive(stream, "1-0.fits", "2-0.fits", "3-0.fits", room=2)
    assert stream.take(2).seen == 0
    assert stream.arrivals.ready == ["3-0.fits"]
    stream.planner.unreadable.clear()
    assert len(stream.take(2).todo) == 2
    assert [item.key.name for item in stream.take(2).todo] == ["3-0"]


def test_the_place_is_asked_for_as_much_as_there_is_room_for_and_not_at_all_without_any(stream):
    stream.planner.unreadable |= {"1-0.fits", "2-0.fits", "3-0.fits"}
    arrive(stream, "1-0.fits", room=3)
    arrive(stream, "2-0.fits", room=2)
    for room in (1, 2):
        stream.take(room)
    assert stream.arrivals.asked == [3, 1]
    arrive(stream, "away.npz", room=3)
    stream.take(3)
    stream.take(4)
    assert stream.arrivals.asked == [3, 1, 1, 1]


def test_no_more_than_there_is_room_for_is_taken(stream):
    assert arrive(stream, "1-0.fits", "2-0.fits", "3-0.fits", room=2).seen == 2
    assert len(stream.arrivals.ready) == 1


def test_alerts_in_a_topic_of_exposures_are_refused_with_the_way_to_read_them():
    with pytest.raises(BadInput, match="watch --content alerts") as caught:
        module.require_allowed(AN_ALERT, ())
    assert caught.value.code == "alert_message"
