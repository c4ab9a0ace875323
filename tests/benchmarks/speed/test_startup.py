import subprocess
import sys

import pytest

from benchmarks.speed.startup import PARTS, Took, best, measure, timed

pytest_plugins = ("tests.support.night_fixture",)


def test_processor_time_of_processes_that_outlive_their_parent_counts():
    busy = "import time\nwhile time.process_time() < 0.4: pass"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}]); print('gone')"
    took, said = timed([sys.executable, "-c", orphan])
    assert said == "gone\n"
    assert took.cpu_s >= 0.4


def test_a_command_that_fails_is_no_time():
    with pytest.raises(subprocess.CalledProcessError):
        timed([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_best_of_each_counts():
    assert best([Took(3.0, 1.0), Took(2.0, 5.0)]) == Took(2.0, 1.0)


SOME = {name: PARTS[name] for name in ("interpreter", "import of the command", "import of the plan")}


@pytest.fixture(scope="module")
def found(tmp_path_factory, prefect_api):
    """Times of one small image, by one worker."""
    given = {**prefect_api, "NIGHTSTRIDE_EXECUTION__WORKERS": "1"}  # others may be using the user's own database
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        return measure(tmp_path_factory.mktemp("startup"), 1, (200, 210), uncounted=0, parts=SOME)


@pytest.mark.slow
def test_the_interpreter_is_the_least_part(found):
    least, *others = (found["parts"][name]["cpu_s"] for name in SOME)
    assert 0 < least < min(others)


@pytest.mark.slow
def test_runs_reruns_and_their_parts_are_measured(found):
    assert "find_sources" in found["run_with_science_parts_s"]
    assert found["run"]["wall_s"] > found["rerun"]["wall_s"] > found["parts"]["interpreter"]["wall_s"]
    assert "find_sources" not in found["run_parts_s"]
    assert found["run_parts_s"]["startup"] < found["run"]["wall_s"]
    assert found["parts"].keys() == SOME.keys()


@pytest.fixture(scope="module")
def modules_of_the_plan():
    code = f"import sys\n{PARTS['import of the plan']}\nprint(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    "heavy", ["torch", "scipy.linalg", "scipy.signal", "numba", "pandas", "astropy", "prefect", "distributed", "zarr"]
)
def test_the_plan_needs_no_heavy_library(modules_of_the_plan, heavy):
    assert "flows.nights.run" in modules_of_the_plan
    assert heavy not in modules_of_the_plan
