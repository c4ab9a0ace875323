import os
import subprocess
import sys

from flows.adapters.holder import locked, myself, runs


def test_this_process_runs():
    me = myself()
    assert me.pid == os.getpid()
    assert runs(me)


def test_a_number_used_again_is_another_process():
    assert not runs(myself().model_copy(update={"started": myself().started - 100}))


def test_a_process_that_has_ended_does_not_run():
    code = "from flows.adapters.holder import myself; print(myself().model_dump_json())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not runs(type(myself()).model_validate_json(done.stdout))


def test_says_who(tmp_path):
    error = locked(tmp_path, myself())
    assert error.code == "locked"
    assert str(tmp_path) in str(error)
