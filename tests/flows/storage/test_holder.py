import os
import subprocess
import sys

import psutil
import pytest
from pydantic import ValidationError

from flows.storage import holder
from flows.storage.fence import Fence
from flows.storage.holder import Holder, is_here, myself, own_fence, parsed_holder, runs, start_of
from schemas.errors import Misconfigured


def written(out, one):
    content = one if isinstance(one, bytes) else one.model_dump_json().encode()
    (out / "lease.json").write_bytes(content)
    return content


def test_a_holder_is_read_as_it_was_written_and_does_not_change():
    me = myself()
    assert parsed_holder(me.model_dump_json().encode()) == me
    assert me.since.endswith("+00:00")
    with pytest.raises(ValidationError, match="frozen"):
        me.pid = 1
    for content in (b"", b"{", b"{}", me.model_dump_json().replace("pid", "pids").encode()):
        assert parsed_holder(content) is None


def test_a_fence_is_the_lease_of_this_process(tmp_path):
    assert own_fence(tmp_path) is None
    content = written(tmp_path, myself())
    assert own_fence(tmp_path) == Fence(tmp_path / "lease.json", content)


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"boot": "before"}, {"pid": 1}, None])
def test_a_lease_of_another_process_or_of_nobody_is_no_fence(tmp_path, other):
    written(tmp_path, b"{}" if other is None else myself().model_copy(update=other))
    with pytest.raises(Misconfigured) as caught:
        own_fence(tmp_path)
    assert (caught.value.code, caught.value.where) == ("taken_over", str(tmp_path / "lease.json"))


@pytest.mark.parametrize(
    ("other", "here"),
    [({}, True), ({"pid": 1}, True), ({"host": "elsewhere"}, False), ({"boot": "before"}, False)],
)
def test_where_a_holder_is(other, here):
    assert is_here(myself().model_copy(update=other)) is here
    bare = myself().boot.removesuffix(" started since boot")
    assert is_here(myself().model_copy(update={"boot": bare})) is True  # as earlier checkouts wrote it


def test_a_holder_runs_until_its_process_has_ended_and_is_told_from_a_later_one():
    me = myself()
    assert runs(me)
    assert runs(me.model_copy(update={"started": psutil.Process().create_time()}))  # as earlier checkouts wrote it
    assert not runs(me.model_copy(update={"started": me.started + 2.5}))
    assert not runs(me.model_copy(update={"started": me.started - 2.5}))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    its = Holder(host=me.host, boot=me.boot, pid=process.pid, started=start_of(psutil.Process(process.pid)), since="")
    assert runs(its)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not runs(its)  # a zombie
    process.wait()
    assert not runs(its)


@pytest.mark.parametrize(("started", "alive"), [(98.0, False), (98.001, True), (101.999, True), (102.0, False)])
def test_a_start_is_told_to_2_seconds(monkeypatch, started, alive):
    monkeypatch.setattr(holder, "start_of", lambda _: 100.0)
    assert runs(myself().model_copy(update={"started": started})) is alive
