from dataclasses import dataclass, field

import pytest

from flows import feed as module
from flows.adapters.ledger import Ledger
from flows.adapters.sources import Source
from flows.feed import Feed
from flows.plan import Item, Plan
from flows.withdrawal import SourceIndex
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.settings import Settings


@dataclass
class Place:
    """Files that arrive: those that the test puts there."""

    ready: list = field(default_factory=list)
    told: list = field(default_factory=list)
    waiting: int = 0

    def poll(self, room):
        taken, self.ready = self.ready[:room], self.ready[room:]
        return taken

    def finished(self, uri):
        self.told.append(uri)

    def close(self):
        pass


class Planned:
    """A planner that finds visit and detector in the name, and what is published in a set."""

    def __init__(self):
        self.published = set()

    def plan(self, sources):
        todo, skipped = [], 0
        for source in sources:
            visit, detector = map(int, source.uri.split(".")[0].split("-"))
            if (visit, detector) in self.published:
                skipped += 1
            else:
                todo.append(Item(source, ExposureKey(night="20260101", visit=visit, detector=detector), None))
        return Plan(tuple(todo), (), skipped)


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def stream(tmp_path, monkeypatch, now):
    def listed(inputs, settings):
        if inputs[0].endswith("gone"):
            raise Misconfigured("no_such_input", inputs[0], "is not there.", "look.")
        if inputs[0].startswith("truth"):
            raise Misconfigured("no_exposures", inputs[0], "holds none.", "name others.")
        return [Source(uri) for uri in inputs]

    monkeypatch.setattr(module, "list_sources", listed)
    return Feed(Place(), Planned(), SourceIndex(Ledger(tmp_path)), Settings(), lambda: now[0])


def arrive(stream, *uris, room=9):
    stream.arrivals.ready += uris
    return stream.take(room)


def test_what_arrives_is_planned_and_the_place_told_when_it_is_finished(stream):
    plan = arrive(stream, "1-0.fits", "1-1.fits")
    assert [item.key.name for item in plan.todo] == ["1-0", "1-1"]
    assert (stream.on_the_way, stream.arrivals.told) == (2, [])
    stream.finished(plan.todo[0])
    assert (stream.on_the_way, stream.arrivals.told) == (1, ["1-0.fits"])


def test_what_is_published_is_told_at_once(stream):
    stream.planner.published.add((1, 0))
    assert arrive(stream, "1-0.fits").skipped == 1
    assert stream.arrivals.told == ["1-0.fits"]


def test_a_second_delivery_of_what_is_on_its_way_waits_for_its_end(stream):
    (item,) = arrive(stream, "1-0.fits").todo
    again = arrive(stream, "1-0.copy")
    assert (again.todo, again.seen, stream.on_the_way) == ((), 0, 1)
    assert stream.take(9).seen == 0
    stream.planner.published.add((1, 0))
    stream.finished(item)
    assert stream.take(9).skipped == 1
    assert stream.take(9).seen == 0


def test_a_visit_waits_since_its_first_exposure_arrived(stream, now):
    (first,) = arrive(stream, "1-0.fits").todo
    now[0] = 7.0
    (second,) = arrive(stream, "1-1.fits").todo
    (other,) = arrive(stream, "2-0.fits").todo
    now[0] = 10.0
    assert [stream.waited(item) for item in (first, second, other)] == [10.0, 10.0, 3.0]


def test_a_file_that_is_not_there_is_planned_and_one_without_exposures_left_out(stream):
    plan = arrive(stream, "7-0.gone", "truth.npz", "1-0.fits")
    assert [item.key.name for item in plan.todo] == ["7-0", "1-0"]
    assert stream.arrivals.told == ["truth.npz"]


def test_no_more_than_there_is_room_for_is_taken(stream):
    assert arrive(stream, "1-0.fits", "2-0.fits", "3-0.fits", room=2).seen == 2
    assert len(stream.arrivals.ready) == 1
