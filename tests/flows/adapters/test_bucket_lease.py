import subprocess
import sys
import time

import pytest

from benchmarks.faults.fault_proxy import FaultProxy, Faults
from flows.adapters.bucket_lease import BucketLease
from flows.adapters.bucket_path import files_below, located
from flows.adapters.bucket_records import write_record
from flows.adapters.holder import myself
from flows.adapters.lease import holder_of, lease
from flows.adapters.object_store import configure
from schemas.errors import Misconfigured
from schemas.settings import StoreSettings

pytest_plugins = ("tests.flows.s3_fixture",)

CONTENDER = """
import sys
from flows.adapters.bucket_path import located
from flows.adapters.lease import lease
from schemas.errors import Misconfigured
from flows.adapters.conditional import conditions_of
out = located(sys.argv[1])
conditions_of(out)
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
            [sys.executable, "-c", CONTENDER, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


def write_on_and_on(path, out, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        write_record(path, f"{time.monotonic()}".encode(), out)
        time.sleep(0.05)


def plant(out, **changes):
    """Leave the lease of another process behind."""
    holder = myself().model_copy(update=changes)
    (out / "lease.json").write(holder.model_dump_json().encode())
    return holder


def test_of_several_runs_one_gets_it(bucket):
    started = contenders(bucket, 4)
    assert contest(started) == ["held", "locked", "locked", "locked"]
    assert files_below(bucket) == []


def test_of_several_takers_of_a_dead_lease_one_gets_it(bucket):
    plant(bucket, started=1.0)
    assert contest(contenders(bucket, 4)) == ["held", "locked", "locked", "locked"]


def test_a_holder_on_another_host_lives_as_long_as_its_heart_beats(bucket):
    other = plant(bucket, host="elsewhere")
    assert holder_of(bucket) == other
    with pytest.raises(Misconfigured, match="on elsewhere"), lease(bucket):
        pass
    time.sleep(2.1)  # the store's clock counts in seconds
    with lease(bucket, stale_s=1.0) as me:
        assert holder_of(bucket) == me


def test_the_heart_beats(bucket):
    with lease(bucket, heartbeat_s=0.2):
        first = (bucket / "lease.json").read_versioned().written
        end = time.monotonic() + 60
        while (bucket / "lease.json").read_versioned().written == first:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_a_lease_that_was_taken_over_is_left_alone(bucket):
    held = BucketLease(bucket, 60.0)
    me = held.take()
    other = plant(bucket, host="elsewhere")
    assert not held.beat(me)
    held.give_back(me)
    assert holder_of(bucket) == other


def test_who_has_lost_the_lease_writes_no_records(bucket):
    with lease(bucket, heartbeat_s=0.1):
        write_record(bucket / "ledger/a.json", b"mine", bucket)
        plant(bucket, host="elsewhere")
        with pytest.raises(Misconfigured, match="another run has taken the folder over"):
            write_on_and_on(bucket / "ledger/a.json", bucket)
    (bucket / "lease.json").unlink()
    with lease(bucket):
        write_record(bucket / "ledger/a.json", b"again", bucket)
    assert (bucket / "ledger/a.json").read_bytes() == b"again"


def test_a_damaged_lease_is_nobodys(bucket):
    (bucket / "lease.json").write(b"{")
    with lease(bucket) as me:
        assert holder_of(bucket) == me


def test_a_store_without_conditions_is_warned_about_and_keeps_late_comers_out(moto, monkeypatch, caplog):
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    out = located(f"s3://{moto.new_bucket()}/out")
    with FaultProxy("127.0.0.1", moto.port, Faults(unconditional=True)) as proxy:
        configure(StoreSettings(endpoint=proxy.endpoint, patience_s=20))
        with lease(out):
            assert "ignores conditions" in caplog.text
            with pytest.raises(Misconfigured, match="another run"), lease(out):
                pass
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert contest(contenders(out, 2)) == ["held", "locked"]
    configure(StoreSettings())
