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
