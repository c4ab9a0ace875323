import asyncio
import runpy
import time

import pytest
from distributed.batched import BatchedSend
from tornado.ioloop import IOLoop, PeriodicCallback

import flows.nights.cluster.cluster  # noqa: F401 - sets the clock
from flows.nights.cluster import steady_clock
from flows.nights.cluster.steady_clock import steady_time

DAY_S = 86400.0


@pytest.fixture
def clock(monkeypatch):
    """The wall clock, which can be set."""
    real, moved = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + moved[0])
    return moved


class Connection:
    def __init__(self):
        self.written = []

    def closed(self):
        return False

    async def write(self, messages, **_):
        self.written += messages
        return 1


@pytest.mark.parametrize("jump", [-DAY_S, DAY_S])
def test_messages_are_sent_though_the_clock_is_set_between_them(clock, jump):
    async def talk():
        line, connection = BatchedSend(interval="50ms"), Connection()
        line.start(connection)
        line.send("first")
        async with asyncio.timeout(20):
            while not connection.written:
                await asyncio.sleep(0)
            line.send("second")
            clock[0] = jump
            while len(connection.written) < 2:
                await asyncio.sleep(0.01)
        line.please_stop = True
        return connection.written

    assert asyncio.run(talk()) == ["first", "second"]


def test_what_is_repeated_goes_on_when_the_clock_is_set_back(clock):
    async def beats():
        seen = []
        heart = PeriodicCallback(lambda: seen.append(clock[0]), 10)
        heart.start()
        async with asyncio.timeout(20):
            while len(seen) < 3:
                await asyncio.sleep(0.01)
            clock[0] = -DAY_S
            while seen.count(-DAY_S) < 3:
                await asyncio.sleep(0.01)
        heart.stop()

    asyncio.run(beats())


def test_it_goes_on_from_the_time_at_which_it_was_set(monkeypatch):
    wall, since_start = [1.7e9], [500.0]
    monkeypatch.setattr(time, "time", lambda: wall[0])
    monkeypatch.setattr(time, "monotonic", lambda: since_start[0])
    set_now = runpy.run_path(steady_clock.__file__)["steady_time"]
    assert set_now() == 1.7e9
    wall[0] += DAY_S
    since_start[0] += 2.5
    assert set_now() == 1.7e9 + 2.5


def test_it_is_the_clock_of_event_loops(clock):
    async def of_loop():
        return IOLoop.current().time()

    before = steady_time()
    clock[0] = DAY_S
    assert before <= asyncio.run(of_loop()) <= steady_time()
