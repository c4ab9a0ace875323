import asyncio
from types import SimpleNamespace

import pytest

from flows import stream, stream_run
from schemas.errors import Misconfigured, Retryable


def failing(error):
    async def flow(night):
        async with asyncio.TaskGroup():
            raise error

    return flow


def test_what_no_exposure_could_survive_is_told_as_it_is(monkeypatch):
    monkeypatch.setattr(stream, "stream", failing(Misconfigured("memory", "here", "too little.", "add some.")))
    with pytest.raises(Misconfigured, match="too little"):
        stream_run._search(SimpleNamespace())


def test_a_failing_orchestrator_is_something_to_try_again(monkeypatch):
    monkeypatch.setattr(stream, "stream", failing(ConnectionError("the server went away")))
    with pytest.raises(Retryable, match=r"the server went away.*To fix, start it again"):
        stream_run._search(SimpleNamespace())


def test_what_fails_at_the_end_is_said_and_hides_nothing():
    said, asked = [], []

    def close():
        raise RuntimeError("gone")

    def record(state):
        asked.append(state)
        raise Retryable("full", "disk", "is full.", "make room.")

    arrivals = SimpleNamespace(close=close)
    stream_run._let_go(
        SimpleNamespace(
            feed=SimpleNamespace(arrivals=arrivals), record=record, progress=SimpleNamespace(say=said.append)
        )
    )
    assert asked == ["ended"]
    assert ["gone" in said[0], "disk is full" in said[1].replace(":", "")] == [True, True]


@pytest.mark.parametrize("error", [Retryable("full", "disk", "is full.", "make room."), OSError("disk full")])
def test_how_it_goes_is_written_down_again_after_a_failure(monkeypatch, error):
    monkeypatch.setattr(stream, "TICK_S", 0.0)
    states = []

    def record(state):
        states.append(state)
        if len(states) == 1:
            raise error
        if len(states) == 3:
            raise EOFError

    night = SimpleNamespace(record=record, drain=SimpleNamespace(asked=False))
    with pytest.raises(EOFError):
        asyncio.run(stream._tick(night))
    assert states == ["running"] * 3
