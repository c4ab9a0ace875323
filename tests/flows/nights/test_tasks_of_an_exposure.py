"""How the tasks of an exposure are handed to a cluster, with one that only notes what it is given."""

import asyncio
from types import SimpleNamespace

import pytest

from flows.nights import exposure_run as module
from flows.nights.cluster import worker_check
from flows.nights.cluster.worker_check import admitted
from flows.nights.exposure_run import ExposureRun
from flows.runtime.log import observed
from flows.storage.fence import fenced_task
from schemas.cluster_settings import ClusterSettings
from schemas.errors import BadInput, Retryable
from schemas.settings import ExecutionSettings, Settings

LATER = Retryable("code", "where", "is down.", "wait.")


class FakeClient:
    """A client whose tasks end as told, one after the other."""

    def __init__(self, *ends):
        self.ends, self.calls, self.released = list(ends), [], 0

    def submit(self, *call, key, priority, resources):
        self.calls.append((call, key.rpartition("-")[0], priority, resources))
        end = self.ends.pop(0)

        async def ended():
            if isinstance(end, Exception):
                raise end
            return end

        return Future(self, ended())


class Future:
    def __init__(self, client, ended):
        self.client, self.ended = client, ended

    def __await__(self):
        return self.ended.__await__()

    def release(self):
        self.client.released += 1


@pytest.fixture
def waits(monkeypatch):
    made = []

    async def sleep(seconds):
        made.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    return made


def submitted(client, *arguments, settings=None, terms=None, fence=None, **given):
    settings = settings or Settings(execution=ExecutionSettings(retries=3))
    run = ExposureRun(client, None, settings, None, None, 1, terms, fence)
    return asyncio.run(run._submit("search", 1, print, *arguments, **given))


def test_what_may_succeed_later_is_tried_again_ever_more_patiently(waits):
    client = FakeClient(LATER, LATER, LATER, "done")
    assert submitted(client) == "done"
    assert waits == [0.5, 1.0, 2.0]
    assert (len(client.calls), client.released) == (4, 4)
    with pytest.raises(Retryable):
        submitted(FakeClient(LATER, LATER, LATER, LATER, "too late"))
    with pytest.raises(Retryable):
        submitted(FakeClient(LATER, "too late"), retries=0)
    with pytest.raises(BadInput):
        submitted(FakeClient(BadInput("a", "b", "c.", "d."), "too late"))


@pytest.mark.parametrize(("inference", "resources"), [(True, {"GPU": 1}), (False, {"CPU": 1})])
def test_networks_run_on_workers_that_have_what_they_need(waits, inference, resources):
    cluster = {"kind": "address", "address": "tcp://h:1"}
    both = Settings(cluster=ClusterSettings(**cluster, inference_resource="GPU", other_resource="CPU"))
    client = FakeClient("done", "done")
    submitted(client, settings=both, inference=inference)
    submitted(client, inference=inference)
    assert [resource for *_, resource in client.calls] == [resources, None]
    assert client.calls[0][1:3] == ("search", 1)


def test_a_task_is_observed_fenced_and_admitted_only_where_that_is_asked(waits, monkeypatch):
    client, terms, fence = FakeClient("done", "done", "done"), object(), object()
    submitted(client, 7)
    submitted(client, 7, terms=terms)
    monkeypatch.setattr(worker_check, "origin", lambda: "here")
    submitted(client, 7, terms=terms, fence=fence)
    plain, asked, seen = (call for call, *_ in client.calls)
    assert plain == (print, 7)
    assert asked == (admitted, terms, print, 7)
    assert seen == (admitted, terms, fenced_task, fence, observed, "here", "search", print, 7)


@pytest.mark.parametrize(
    ("tasks", "resources", "deadline", "shares"),
    [
        (1, {}, None, False), (2, {}, None, True), (1, {}, 60.0, True), (1, {"inference_resource": "GPU"}, None, True),
        (1, {"inference_resource": "X", "other_resource": "X"}, None, False),
    ],
)  # fmt: skip
def test_an_exposure_is_shared_where_that_helps(tasks, resources, deadline, shares):
    cluster = ClusterSettings(kind="address", address="tcp://h:1", **resources)
    settings = Settings(cluster=cluster, execution=ExecutionSettings(visit_deadline_s=deadline))
    assert ExposureRun(None, None, settings, None, None, tasks)._shares is shares


@pytest.mark.parametrize(
    ("resource", "kept", "steps"),
    [
        (None, (), ["finish"]), ("GPU", (), ["finish", "inject"]), ("GPU", module.SYNTHETIC, ["finish"]),
        (None, module.SYNTHETIC, ["finish"]),
    ],
)  # fmt: skip
def test_copies_are_searched_where_networks_run(waits, resource, kept, steps):
    settings = Settings(cluster=ClusterSettings(kind="address", address="tcp://h:1", inference_resource=resource))
    published = SimpleNamespace(datasets={})
    client = FakeClient(published, published)
    run = ExposureRun(client, None, settings, None, None)
    left = SimpleNamespace(kept=dict.fromkeys(kept), beside=({"negated"},))
    assert run._beside(None, left) == []  # one task does all but what networks do
    found = asyncio.run(run._finished(None, [], SimpleNamespace(lineage=None), left, []))
    assert [name for _, name, *_ in client.calls] == steps
    assert len(found) == len(steps)
    assert {priority for _, _, priority, _ in client.calls} == {2}
    assert client.calls[0][0][-1] == (module.SYNTHETIC if len(steps) == 2 else ())


@pytest.mark.parametrize(("tasks", "resource", "parts", "begun"), [
    (2, None, ({"negated"},), 1), (2, None, ({"source"}, {"injected", "negated"}), 2), (1, None, ({"negated"},), 0),
    (2, None, (), 0), (2, "GPU", ({"negated"},), 0),
])  # fmt: skip
def test_what_needs_nothing_of_the_search_is_a_task_beside_it(waits, tasks, resource, parts, begun):
    settings = Settings(cluster=ClusterSettings(kind="address", address="tcp://h:1", inference_resource=resource))
    measured, *whole = (object() for _ in range(1 + begun))
    client = FakeClient(*whole, measured, SimpleNamespace(datasets={}))
    run = ExposureRun(client, None, settings, None, None, tasks)
    left = SimpleNamespace(kept={}, beside=parts)

    async def finished():
        beside = run._beside("tiles", left)
        assert len(beside) == begun
        await asyncio.gather(*beside)
        made = await run._measured("tiles", ["hits"], left, beside)
        assert made == ([measured, *whole] if begun else [])
        if made:
            await run._finished("tiles", ["hits"], SimpleNamespace(lineage="l"), left, made)

    asyncio.run(finished())
    assert [name for _, name, *_ in client.calls] == [*["beside"] * begun, *["measurement", "finish"][: 2 * begun]]
    if begun:
        *before, middle, last = (call for call, *_ in client.calls)
        assert [call[1:] for call in before] == [("tiles", settings, {}, None, part) for part in parts]
        assert middle[1:] == ("tiles", ["hits"], settings, {}, None)
        assert last[1:] == ("tiles", [measured, *whole], "l", None, settings, {}, ())


def test_what_finishes_an_exposure_goes_before_what_begins_one():
    assert module._BESIDE < module._STORE < module._SEARCH < module._FINISH
