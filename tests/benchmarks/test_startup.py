import subprocess
import sys

import pytest

from benchmarks.startup import PARTS, Took, best, measure, part, timed

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


def test_the_interpreter_is_the_least_part():
    assert 0 < part(PARTS["interpreter"]).cpu_s < part(PARTS["import of the command"]).cpu_s


@pytest.mark.slow
def test_runs_reruns_and_their_parts_are_measured(tmp_path, monkeypatch, prefect_api):
    for name, value in prefect_api.items():  # other tests may be using the user's own database
        monkeypatch.setenv(name, value)
    found = measure(tmp_path, 1, (400, 400), uncounted=0)
    assert found["run_with_science"]["cpu_s"] > found["run"]["cpu_s"]  # more is done
    assert found["run"]["wall_s"] > found["rerun"]["wall_s"] > found["parts"]["interpreter"]["wall_s"]
    assert "find_sources" not in found["run_parts_s"]
    assert found["run_parts_s"]["startup"] < found["run"]["wall_s"]
    assert found["parts"].keys() == PARTS.keys()


@pytest.mark.parametrize("heavy", ["torch", "scipy.signal", "astropy", "prefect", "distributed", "zarr"])
def test_the_plan_needs_no_heavy_library(heavy):
    code = f"import sys\n{PARTS['import of the plan']}\nassert {heavy!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
