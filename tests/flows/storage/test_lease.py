import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from flows.storage import lease as module
from flows.storage.atomic import write_record
from flows.storage.holder import Holder, is_here, myself, runs, start_of
from flows.storage.lease import dead_holder_of, holder_of, lease, locked, patient_lease, require_free
from schemas.errors import Misconfigured
from tests.support.wait import until

pytest_plugins = ("tests.support.s3_fixture",)


CONTENDER = """
import sys
from pathlib import Path
from flows.storage.lease import lease
from schemas.errors import Misconfigured
print("ready", flush=True)
sys.stdin.readline()
try:
    with lease(Path(sys.argv[1]), stale_s=60):
        print("held", flush=True)
        sys.stdin.readline()
except Misconfigured as error:
    print(error.code, error, flush=True)
"""


def contender(out):
    process = subprocess.Popen(
        [sys.executable, "-c", CONTENDER, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def end(process):
    process.stdin.close()
    process.stdout.close()
    process.wait()


def plant(out, **changes):
    """Leave the lease of another process behind."""
    with lease(out) as me:
        holder = me.model_copy(update=changes)
    (out / "lease.json").write_text(holder.model_dump_json())
    return holder


def age(out, seconds):
    now = (out / "lease.json").stat().st_mtime
    os.utime(out / "lease.json", (now - seconds, now - seconds))


def test_second_run_is_told_who_holds_it_and_since_when(tmp_path):
    with lease(tmp_path) as me:
        assert holder_of(tmp_path) == me
        with pytest.raises(Misconfigured) as caught, lease(tmp_path):
            pass
        assert caught.value.code == "locked"
        assert f"process {os.getpid()} on {me.host}, since {me.since}" in str(caught.value)
        assert holder_of(tmp_path) == me  # the attempt changed nothing
    assert holder_of(tmp_path) is None
    with lease(tmp_path):
        pass


def test_is_given_back_when_the_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), lease(tmp_path / "new/out"):
        _ = 1 / 0
    assert holder_of(tmp_path / "new/out") is None


def test_of_several_runs_one_gets_it(tmp_path):
    others = [contender(tmp_path) for _ in range(5)]
    for process in others:
        go(process)
    said = [process.stdout.readline().split()[0] for process in others]
    for process in others:
        end(process)
    assert sorted(said) == ["held"] + ["locked"] * 4


def test_of_several_takers_of_a_dead_lease_one_gets_it(tmp_path):
    dead = contender(tmp_path)
    go(dead)
    assert dead.stdout.readline() == "held\n"
    others = [contender(tmp_path) for _ in range(5)]
    dead.send_signal(signal.SIGKILL)
    end(dead)
    assert (tmp_path / "lease.json").exists()
    for process in others:
        go(process)
    said = [process.stdout.readline() for process in others]
    for process in others:
        end(process)
    winner = next(process.pid for process, line in zip(others, said, strict=True) if line == "held\n")
    assert [line.split()[0] for line in said].count("locked") == 4
    assert all(f"process {winner} on" in line for line in said if line.startswith("locked"))


def test_number_of_a_dead_process_used_again(tmp_path):
    started = psutil.Process(os.getppid()).create_time()
    plant(tmp_path, pid=os.getppid(), started=started)
    with pytest.raises(Misconfigured, match="another run holds it"), lease(tmp_path):
        pass
    plant_again = plant(tmp_path / "other", pid=os.getppid(), started=started - 100)
    assert holder_of(tmp_path / "other") is None
    with lease(tmp_path / "other") as me:
        assert me != plant_again


def test_who_has_not_given_it_back_is_known(tmp_path):
    assert dead_holder_of(tmp_path) is None
    with lease(tmp_path):
        assert dead_holder_of(tmp_path) is None
    assert dead_holder_of(tmp_path) is None
    dead = plant(tmp_path, started=1.0)
    assert (holder_of(tmp_path), dead_holder_of(tmp_path)) == (None, dead)
    with lease(tmp_path):
        assert dead_holder_of(tmp_path) is None
    assert dead_holder_of(tmp_path) is None


def test_zombie_holds_nothing(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(child.pid).create_time()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet buried
    plant(tmp_path, pid=child.pid, started=started)
    assert holder_of(tmp_path) is None
    child.wait()


@pytest.mark.parametrize("elsewhere", [{"host": "another-host"}, {"boot": "another boot, or another container"}])
def test_holder_elsewhere_lives_by_its_heartbeat(tmp_path, elsewhere):
    plant(tmp_path, **elsewhere)
    with pytest.raises(Misconfigured, match="another run holds it"), lease(tmp_path, stale_s=60):
        pass
    age(tmp_path, 61)
    with lease(tmp_path, stale_s=60) as me:
        assert holder_of(tmp_path) == me


@pytest.mark.parametrize(("passed", "living"), [(0.0, True), (119.75, True), (120.0, False), (120.25, False)])
def test_a_lease_ends_when_so_long_has_passed_without_a_heartbeat(tmp_path, monkeypatch, passed, living):
    other = plant(tmp_path, host="another-host")
    os.utime(tmp_path / "lease.json", (1000, 1000))

    @contextmanager
    def at_that_time(out):
        yield 1000 + passed

    monkeypatch.setattr(module, "_guard", at_that_time)
    assert holder_of(tmp_path) == (other if living else None)


def test_heart_beats(tmp_path):
    with lease(tmp_path, heartbeat_s=0.01):
        age(tmp_path, 1000)
        old = (tmp_path / "lease.json").stat().st_mtime
        until(lambda: (tmp_path / "lease.json").stat().st_mtime != old)


def test_damaged_lease_holds_nothing(tmp_path):
    (tmp_path / "lease.json").write_text("{")
    with lease(tmp_path) as me:
        assert holder_of(tmp_path) == me


def test_clears_what_a_killed_run_left(tmp_path):
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging/half.parquet.staging").touch()
    (tmp_path / "tiles/20260101/.1-2.zarr.abc.staging").mkdir(parents=True)
    with lease(tmp_path):
        assert list((tmp_path / "staging").iterdir()) == []
        assert list((tmp_path / "tiles/20260101").iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot be made there"), lease(Path(tmp_path / "file/out")):
        pass


def test_an_output_path_that_is_a_file_is_named(tmp_path):
    (tmp_path / "out").write_text("notes")
    with (
        pytest.raises(Misconfigured, match=r"out is a file\..* choose another --out"),
        lease(tmp_path / "out"),
    ):
        pass
    assert (tmp_path / "out").read_text() == "notes"


def test_what_a_killed_worker_left_is_swept_away_at_the_end(tmp_path):
    with lease(tmp_path):
        (tmp_path / "tiles/20260101/.1-2.zarr.abc.staging").mkdir(parents=True)
        (tmp_path / "tiles/20260101/1-3.zarr").mkdir()
    assert [path.name for path in tmp_path.glob("tiles/*/*")] == ["1-3.zarr"]


def test_who_has_lost_the_folder_sweeps_nothing(tmp_path):
    with lease(tmp_path) as me:
        (tmp_path / "lease.json").write_text(me.model_copy(update={"pid": me.pid + 1}).model_dump_json())
        (tmp_path / "tiles/20260101/.1-2.zarr.abc.staging").mkdir(parents=True)
    assert len(list(tmp_path.glob("tiles/*/.*"))) == 1


def test_this_process_runs():
    me = myself()
    assert me.pid == os.getpid()
    assert runs(me)


def test_a_number_used_again_is_another_process():
    assert not runs(myself().model_copy(update={"started": myself().started - 100}))


@pytest.mark.parametrize(("seconds", "same"), [(-2.0, False), (-1.75, True), (0.0, True), (1.75, True), (2.0, False)])
def test_a_process_is_the_same_if_it_started_less_than_two_seconds_apart(seconds, same):
    """Boot and start are told in whole seconds and hundredths; earlier checkouts counted from 1970."""
    for started in (start_of(psutil.Process()), psutil.Process().create_time()):
        assert runs(myself().model_copy(update={"started": started + seconds})) is same


@pytest.mark.parametrize("hours", [-5, 0, 5])
def test_a_process_is_the_same_when_the_clock_was_set(hours, monkeypatch):
    me, booted = myself(), psutil._psplatform.boot_time
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted() + 3600 * hours)
    assert runs(me)


def test_a_holder_of_an_earlier_checkout_is_known_and_sees_another_boot_than_its_own(tmp_path):
    me, process = myself(), psutil.Process()
    before = me.model_copy(
        update={"boot": me.boot.removesuffix(" started since boot"), "started": process.create_time()}
    )
    assert before.boot != me.boot
    assert is_here(before)
    assert is_here(me)
    (tmp_path / "lease.json").write_text(before.model_dump_json())
    assert holder_of(tmp_path) == before
    assert not is_here(me.model_copy(update={"boot": "another"}))
    assert not is_here(me.model_copy(update={"host": "another"}))


def test_a_process_that_has_ended_does_not_run():
    code = "from flows.storage.holder import myself; print(myself().model_dump_json())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not runs(type(myself()).model_validate_json(done.stdout))


def test_says_who(tmp_path):
    error = locked(tmp_path, myself())
    assert error.code == "locked"
    assert str(tmp_path) in str(error)


def test_a_free_folder_is_taken_at_once(tmp_path):
    said = []
    with patient_lease(tmp_path, 0.0, said.append) as holder:
        assert holder_of(tmp_path) == holder
    assert holder_of(tmp_path) is None
    assert said == []


def test_without_patience_the_holder_is_named(tmp_path):
    with lease(tmp_path) as holder, pytest.raises(Misconfigured, match=f"process {holder.pid}"):
        patient_lease(tmp_path, 0.0, pytest.fail).__enter__()


def test_patience_ends(tmp_path):
    said = []
    with lease(tmp_path), pytest.raises(Misconfigured, match="another run holds it"):
        patient_lease(tmp_path, 0.05, said.append, poll_s=0.01).__enter__()
    assert len(said) == 1


@pytest.mark.parametrize(("wait_s", "looks"), [(0.0, 1), (2.5, 4), (3.0, 4), (3.5, 5)])
def test_patience_ends_at_its_time_and_no_earlier(tmp_path, monkeypatch, wait_s, looks):
    """It looks at once, then each second; at the first look at or after the end it gives up."""
    now, said, looked, holder = [100.0], [], [], myself()

    def held(out):
        looked.append(now[0])
        raise locked(out, holder)

    monkeypatch.setattr(module, "lease", held)
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "sleep", lambda seconds: now.append(now.pop() + seconds))
    with pytest.raises(Misconfigured, match="another run holds it"):
        patient_lease(tmp_path, wait_s, said.append).__enter__()
    assert looked == [100.0 + second for second in range(looks)]
    assert len(said) == min(looks - 1, 1)


def test_it_waits_for_as_long_as_it_takes_and_says_for_whom_again_and_again(tmp_path, monkeypatch):
    """Twenty hours behind one backfill, then behind another; the first attempts of before ended after an hour."""
    now, said = [0.0], []
    first = myself().model_copy(update={"pid": 11, "since": "then"})

    @contextmanager
    def held(out):
        if now[0] < 72000:
            raise locked(out, first)
        if now[0] < 72100:
            raise locked(out, first.model_copy(update={"pid": 22}))
        yield "ours"

    monkeypatch.setattr(module, "lease", held)
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "sleep", lambda seconds: now.append(now.pop() + seconds))
    for wait_s in (None, float("inf")):
        now[:], said[:] = [0.0], []
        with patient_lease(tmp_path, wait_s, lambda text: said.append((now[0], text)), poll_s=10) as mine:
            assert mine == "ours"
        assert [time for time, text in said if "process 11 " in text] == [600.0 * n for n in range(120)]
        assert [time for time, text in said if "process 22 " in text] == [72000.0]


def test_who_holds_a_folder_is_named_at_once_and_nothing_is_made(tmp_path):
    require_free(tmp_path / "out")
    assert not list(tmp_path.iterdir())
    with lease(tmp_path / "out") as holder, pytest.raises(Misconfigured, match=f"process {holder.pid} on"):
        require_free(tmp_path / "out")
    require_free(tmp_path / "out")


def test_it_gets_in_when_the_holder_lets_go(tmp_path):
    waiting, said = threading.Event(), []
    released = []

    def say(text):
        said.append(text)
        waiting.set()

    def wait():
        with patient_lease(tmp_path, None, say, poll_s=0.01):
            released.append(True)

    with lease(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(60)
        assert released == []
    thread.join(60)
    assert released == [True]
    assert "another run holds it" in said[0]


def test_other_failures_are_not_waited_for(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured) as caught:
        patient_lease(tmp_path / "file", None, pytest.fail).__enter__()
    assert caught.value.code == "not_writable"


def test_who_comes_to_life_after_a_takeover_writes_nothing_more(tmp_path):
    record = tmp_path / "ledger/20260101/1-2.json"
    with lease(tmp_path, heartbeat_s=1000):
        write_record(record, b"before", tmp_path)
        other = tmp_path / "lease.new"
        other.write_text((tmp_path / "lease.json").read_text())
        other.replace(tmp_path / "lease.json")  # as a taker does it: by a new file
        with pytest.raises(Misconfigured) as caught:
            write_record(record, b"after", tmp_path)
        assert caught.value.code == "taken_over"
        assert record.read_bytes() == b"before"
        write_record(tmp_path.parent / "other/record.json", b"another folder", tmp_path.parent / "other")
    with lease(tmp_path):
        write_record(record, b"the next run", tmp_path)
    assert record.read_bytes() == b"the next run"


def test_a_heart_that_finds_another_lease_says_so_and_stops(tmp_path, caplog):
    with lease(tmp_path, heartbeat_s=0.01) as me:
        (tmp_path / "lease.json").unlink()
        until(lambda: "taken over" in caplog.text)
        other = me.model_copy(update={"host": "another-host"})
        (tmp_path / "lease.json").write_text(other.model_dump_json())
        age(tmp_path, 1000)
        old = (tmp_path / "lease.json").stat().st_mtime
        with pytest.raises(Misconfigured, match="taken"):
            write_record(tmp_path / "ledger/x.json", b"mine", tmp_path)
    assert (tmp_path / "lease.json").stat().st_mtime == old
    with pytest.raises(Misconfigured, match="taken"):  # also what comes late, in another thread
        write_record(tmp_path / "ledger/x.json", b"late", tmp_path)
    assert Holder.model_validate_json((tmp_path / "lease.json").read_text()) == other


def test_a_lock_that_is_not_let_go_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_WAIT_S", 0.05)
    (tmp_path / "lease.lock").touch()
    with (tmp_path / "lease.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Misconfigured, match=rf"process {os.getpid()} .* has locked it"), lease(tmp_path):
            pass
    with lease(tmp_path):
        pass
