"""Leases of output folders in buckets."""

import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from obstore.exceptions import PermissionDeniedError

from flows.storage import lease as module
from flows.storage.atomic import WriteConditions, forbid, holds, write_record
from flows.storage.bucket_path import Versioned, files_below
from flows.storage.holder import myself
from flows.storage.lease import BucketLease, holder_of, lease
from flows.storage.object_store import configure
from schemas.errors import Misconfigured, Retryable
from schemas.settings import StoreSettings
from tests.support.memory_store import bucket_in_memory
from tests.support.wait import until

pytest_plugins = ("tests.support.s3_fixture",)


class Store:
    """Folder of a store with a clock of its own; ``held`` lies in it since noon."""

    def __init__(self, held, now):
        self.name, self.held, self.now, self.there = "out", held, now, set()

    def __truediv__(self, name):
        inner = Store(self.held, self.now)
        inner.name, inner.there = name, self.there
        return inner

    def is_file(self):
        return self.held is not None

    def write(self, content):
        self.there.add(self.name)

    def unlink(self):
        self.there.remove(self.name)

    def read_versioned(self):
        if self.name == "lease.json":
            return Versioned(self.held, "1", NOON)
        return Versioned(b"", "2", self.now)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("elsewhere", [{"host": "another-host"}, {"boot": "another boot, or another container"}])
@pytest.mark.parametrize(("passed", "living"), [(0, True), (119.999999, True), (120, False), (120.000001, False)])
def test_a_lease_in_a_bucket_ends_by_the_clock_of_the_store(elsewhere, passed, living):
    other = myself().model_copy(update=elsewhere)
    out = Store(other.model_dump_json().encode(), NOON + timedelta(seconds=passed))
    assert BucketLease(out, 120.0).holder() == (other if living else None)
    assert out.there == set()  # what the clock was read from is gone


def test_a_holder_on_this_host_is_looked_up_however_long_ago_its_heart_beat():
    me = myself()
    assert BucketLease(Store(me.model_dump_json().encode(), NOON + timedelta(days=9)), 120.0).holder() == me
    dead = me.model_copy(update={"started": 1.0})
    assert BucketLease(Store(dead.model_dump_json().encode(), NOON), 120.0).holder() is None


@pytest.mark.parametrize("content", [None, b"{"])
def test_without_a_lease_there_is_no_holder(content):
    assert BucketLease(Store(content, NOON), 120.0).holder() is None


class Ended:
    """Event that is set after so many waits."""

    def __init__(self, waits):
        self.waits = waits

    def wait(self, seconds):
        assert seconds == 10.0
        self.waits -= 1
        return self.waits < 0


class Silent:
    """Lease in a store that answers at some heartbeats only: True, False (somebody else's) or None (no answer)."""

    out = "s3://b/out"

    def __init__(self, *answers):
        self.answers = iter(answers)

    def beat(self, me):
        if (answer := next(self.answers)) is None:
            raise Retryable("no_answer", "s3://b", "does not answer.", "try again.")
        return answer


def beaten(monkeypatch, caplog, answers, times):
    """Let a heart beat at some times after 0; return the numbers of seconds in what is logged."""
    clock = iter([0.0, *times])
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    forbidden = []
    monkeypatch.setattr(module, "forbid", forbidden.append)
    module._beat(Silent(*answers), myself(), 10.0, 120.0, Ended(len(answers)))
    return [int(one) for line in caplog.messages for one in re.findall(r"(\d+) s\b", line)], forbidden


def test_silence_is_told_once_it_is_so_long_that_others_may_take_the_lease(monkeypatch, caplog):
    assert beaten(monkeypatch, caplog, [None], [120.0]) == ([], [])
    assert beaten(monkeypatch, caplog, [None], [121.0, 121.0]) == ([121], [])


def test_an_answer_ends_the_silence(monkeypatch, caplog):
    assert beaten(monkeypatch, caplog, [True, None, None], [100.0, 220.0, 230.0, 230.0]) == ([130], [])


def test_a_heart_whose_lease_is_gone_stops_and_writes_no_more(monkeypatch, caplog):
    assert beaten(monkeypatch, caplog, [True, False, True], [100.0, 150.0]) == ([50], ["s3://b/out"])


CONTENDER_BUCKET_LEASE = """
import sys
from flows.storage.bucket_path import located
from flows.storage.lease import lease
from schemas.errors import Misconfigured
from flows.storage.atomic import write_conditions
out = located(sys.argv[1])
write_conditions(out)
print("ready", flush=True)
sys.stdin.readline()
try:
    with lease(out, stale_s=60):
        print("held", flush=True)
        sys.stdin.readline()
except Misconfigured as error:
    print(error.code, flush=True)
"""


def contenders(out, count):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER_BUCKET_LEASE, str(out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    return started


def contest(started):
    """Let them go together; give what each says, when all have said it."""
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.stdout.readline().strip() for process in started]
    for process in started:
        process.communicate("\n")
    return sorted(said)


def write_on_and_on(path, out, version, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        version = write_record(path, f"{time.monotonic()}".encode(), out, version)
        time.sleep(0.05)


def plant_bucket_lease(out, **changes):
    """Leave the lease of another process behind."""
    holder = myself().model_copy(update=changes)
    (out / "lease.json").write(holder.model_dump_json().encode())
    return holder


def test_bucket_lease_of_several_runs_one_gets_it(bucket):
    started = contenders(bucket, 4)
    assert contest(started) == ["held", "locked", "locked", "locked"]
    assert files_below(bucket) == []


def test_bucket_lease_of_several_takers_of_a_dead_lease_one_gets_it(bucket):
    plant_bucket_lease(bucket, started=1.0)
    assert contest(contenders(bucket, 4)) == ["held", "locked", "locked", "locked"]


def test_a_holder_on_another_host_lives_as_long_as_its_heart_beats(bucket):
    other = plant_bucket_lease(bucket, host="elsewhere")
    assert holder_of(bucket) == other
    with pytest.raises(Misconfigured, match="on elsewhere"), lease(bucket):
        pass
    time.sleep(2.1)  # the store's clock counts in seconds
    with lease(bucket, stale_s=1.0) as me:
        assert holder_of(bucket) == me


def test_the_heart_beats(bucket):
    with lease(bucket, heartbeat_s=0.2):
        first = (bucket / "lease.json").read_versioned().written
        until(lambda: (bucket / "lease.json").read_versioned().written != first, every=0.2)


def test_a_lease_that_was_taken_over_is_left_alone(bucket):
    held = BucketLease(bucket, 60.0)
    me = held.take()
    other = plant_bucket_lease(bucket, host="elsewhere")
    assert not held.beat(me)
    held.give_back(me)
    assert holder_of(bucket) == other


def test_who_has_lost_the_lease_writes_no_records(bucket):
    with lease(bucket, heartbeat_s=0.1):
        version = write_record(bucket / "ledger/a.json", b"mine", bucket)
        plant_bucket_lease(bucket, host="elsewhere")
        with pytest.raises(Misconfigured, match="another run has taken the folder over"):
            write_on_and_on(bucket / "ledger/a.json", bucket, version)
    (bucket / "lease.json").unlink()
    with lease(bucket):
        write_record(bucket / "ledger/a.json", b"again", bucket, (bucket / "ledger/a.json").version())
    assert (bucket / "ledger/a.json").read_bytes() == b"again"


def test_a_damaged_lease_is_nobodys(bucket):
    (bucket / "lease.json").write(b"{")
    with lease(bucket) as me:
        assert holder_of(bucket) == me


def test_a_store_without_conditions_is_warned_about_and_keeps_late_comers_out(unconditional, caplog):
    with lease(unconditional):
        assert "ignores conditions" in caplog.text
        with pytest.raises(Misconfigured, match="another run"), lease(unconditional):
            pass
    assert contest(contenders(unconditional, 2)) == ["held", "locked"]


def test_in_memory_a_lease_is_taken_renewed_lost_and_given_back(monkeypatch):
    out, _ = bucket_in_memory(monkeypatch)
    conditions = WriteConditions(enforced=True)
    monkeypatch.setattr(module, "write_conditions", lambda out: conditions)
    held = BucketLease(out, 60.0)
    me = held.take()
    assert held.beat(me)
    assert held.beat(me)
    with pytest.raises(Misconfigured, match="another run") as caught:
        BucketLease(out, 60.0).take()
    assert caught.value.code == "locked"
    other = plant_bucket_lease(out, host="elsewhere")
    assert not held.beat(me)
    held.give_back(me)
    assert module._last(out) == other
    (out / "lease.json").unlink()
    me = held.take()
    held.give_back(me)
    assert not (out / "lease.json").is_file()
    configure(StoreSettings())


def test_in_memory_who_has_lost_a_lease_or_finds_a_damaged_one_takes_it_and_writes(monkeypatch):
    out, _ = bucket_in_memory(monkeypatch)
    with lease(out):
        forbid(out)
        with pytest.raises(Misconfigured, match="another run has taken the folder over"):
            write_record(out / "ledger/a.json", b"lost", out)
    (out / "lease.json").write(b"{")
    with lease(out) as me:
        assert module._last(out) == me
        write_record(out / "ledger/a.json", b"again", out)
    assert (out / "ledger/a.json").read_bytes() == b"again"
    assert not holds(out)
    configure(StoreSettings())


@pytest.mark.parametrize("comer", [None, "elsewhere"])
def test_without_conditions_the_one_who_wrote_last_has_the_lease(monkeypatch, caplog, comer):
    out, _ = bucket_in_memory(monkeypatch)
    monkeypatch.setattr(module, "write_conditions", lambda out: WriteConditions())
    monkeypatch.setattr(module, "sleep", lambda _: comer and plant_bucket_lease(out, host=comer))
    if comer is None:
        me = BucketLease(out, 60.0).take()
        assert module._last(out) == me
    else:
        with pytest.raises(Misconfigured, match="on elsewhere"):
            BucketLease(out, 60.0).take()
    assert "ignores conditions" in caplog.text
    configure(StoreSettings())


def test_who_may_only_read_sees_who_holds_it_and_does_not_get_it(monkeypatch):
    out, store = bucket_in_memory(monkeypatch)
    other = plant_bucket_lease(out, host="elsewhere")

    def may_not_write(number):
        if store.names[-1][0] == "put":
            raise PermissionDeniedError("403 Forbidden")

    store.before = may_not_write
    assert holder_of(out) == other
    monkeypatch.setattr(module, "STALE_S", -60.0)
    assert holder_of(out) is None
    with pytest.raises(Misconfigured) as caught, lease(out, stale_s=-60.0):
        pass
    assert caught.value.code == "access_denied"


def test_who_is_outrun_looks_again(monkeypatch):
    out, _ = bucket_in_memory(monkeypatch)

    class Outrun:
        enforced = True

        def write(self, path, content, version):
            plant_bucket_lease(out, host="elsewhere")
            raise FileExistsError

    monkeypatch.setattr(module, "write_conditions", lambda out: Outrun())
    with pytest.raises(Misconfigured, match="on elsewhere"):
        BucketLease(out, 60.0).take()
    configure(StoreSettings())
