import errno
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import psutil
import pytest

from benchmarks.faults import disk
from benchmarks.faults.lab import SMALL, Lab
from benchmarks.faults.processes import workers
from benchmarks.faults.published import Published
from benchmarks.faults.scene import NotHappened, Scene


@pytest.fixture
def scene(tmp_path):
    made = Scene(Lab(tmp_path, SMALL, tmp_path, Published({}, Counter(), Counter()), 1.0), tmp_path, Random(1))
    yield made
    made.close()


def python(code):
    return [sys.executable, "-c", code]


def test_a_command_is_started_again_until_it_ends_well(scene, tmp_path):
    count = tmp_path / "count"
    count.touch()
    code = f"import pathlib; p = pathlib.Path({str(count)!r}); n = len(p.read_text()); p.write_text('x' * (n + 1));"
    command = scene.again(python(f"{code} raise SystemExit(2 - n)"))
    scene.finish(command)
    assert scene.exits == [2, 1, 0]


def test_it_is_not_started_for_ever(scene):
    scene.finish(scene.again(python("raise SystemExit(3)")))
    assert scene.exits == [3] * 4


def test_a_command_that_ends_before_the_moment_comes_is_no_fault(scene):
    with pytest.raises(NotHappened, match="the command ended with 5 before: a word"):
        scene.middle(scene.again(python("import sys; sys.stderr.write('a word'); raise SystemExit(5)")))


def test_what_is_not_so_is_no_evidence(scene):
    scene.require(True, "seen")
    with pytest.raises(NotHappened, match="not so: unseen"):
        scene.require(0, "unseen")
    assert scene.evidence == ["seen"]


def test_a_fault_after_the_work_is_none(tmp_path):
    lab = Lab(tmp_path, replace(SMALL, visits=0), tmp_path, Published({}, Counter(), Counter()), 1.0)
    with pytest.raises(NotHappened, match="all exposures were done before"):
        Scene(lab, tmp_path, Random(1)).strike(lambda: pytest.fail("it was done"))


def test_a_command_without_workers_has_none_to_kill(scene):
    with pytest.raises(NotHappened, match="no workers"):
        workers(scene.again(python("import time; time.sleep(600)")))


def test_what_still_runs_is_ended(tmp_path, scene):
    command = scene.again(python("import time; time.sleep(600)"))
    scene.close()
    assert not psutil.pid_exists(command.pid)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
def test_a_small_disk_is_filled_to_the_last_byte(tmp_path):
    with disk.small_disk(tmp_path / "disk", 2**20) as folder:
        assert 2**20 - 2**17 < disk.fill(folder / "ballast") <= 2**20
        with pytest.raises(OSError, match="No space") as caught, Path(folder / "more").open("wb", buffering=0) as file:
            file.write(b"1")
        assert caught.value.errno == errno.ENOSPC
    assert subprocess.run(["mountpoint", "-q", tmp_path / "disk"], check=False).returncode != 0
