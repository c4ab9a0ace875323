import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kernels
from flows.cli import doctor
from flows.cli.app import app

ROOT = Path(__file__).parents[3]


def test_kernels_is_ours():
    origin = Path(kernels.__file__).resolve()
    assert origin == ROOT / "kernels" / "__init__.py", (
        f"'kernels' is {origin}: uninstall the package of that name (pip uninstall kernels)"
    )


def test_this_environment_passes():
    failed = [finding for finding in doctor.examine(Path()) if finding.verdict == "fail"]
    assert not failed


def test_another_package_of_the_same_name_is_named(tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from flows.cli.doctor import check_imports\n"
        f"from pathlib import Path\n"
        f"print(*[f for f in check_imports(Path({str(ROOT)!r})) if f.verdict == 'fail'], sep='|')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "pip uninstall kernels" in run.stdout
    assert str(tmp_path) in run.stdout
    assert run.stdout.count("Finding(") == 1


@pytest.mark.parametrize(
    ("available", "cores", "verdict", "remedy"),
    [(24.0, 2, "pass", ""), (4.0, 8, "warn", "--workers 1"), (1.0, 2, "fail", "at least 3 GiB")],
)
def test_memory(available, cores, verdict, remedy):
    finding = doctor.check_memory(available, cores)
    assert finding.verdict == verdict
    assert remedy in finding.remedy


def test_threads():
    findings = {f.name: f for f in doctor.check_threads({"OMP_NUM_THREADS": "64", "MKL_NUM_THREADS": "1"}, 2)}
    assert findings["OMP_NUM_THREADS"].verdict == "warn"
    assert "between 1 and 2" in findings["OMP_NUM_THREADS"].remedy
    assert findings["MKL_NUM_THREADS"].verdict == findings["NUMBA_NUM_THREADS"].verdict == "pass"


def test_folder_that_cannot_be_written():
    finding = doctor.check_writable("output folder", Path("/proc/nowhere"))
    assert finding.verdict == "fail"
    assert "choose a folder" in finding.remedy


def test_folder_that_is_not_there_yet(tmp_path):
    assert doctor.check_writable("output folder", tmp_path / "a" / "b").verdict == "pass"


def test_every_finding_that_does_not_pass_has_a_remedy():
    findings = [*doctor.examine(Path()), doctor.check_cores(1), doctor.check_memory(0.1, 1)]
    assert all(bool(finding.remedy) == (finding.verdict != "pass") for finding in findings)


def test_json():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    findings = json.loads(result.stdout.splitlines()[-1])["findings"]
    assert {"python", "memory", "gpu", "import kernels", "output folder"} <= {f["name"] for f in findings}
    assert result.exit_code == int(any(f["verdict"] == "fail" for f in findings)) == 0


def test_a_failure_is_exit_code_1_with_its_remedy():
    result = CliRunner().invoke(app, ["doctor", "--out", "/proc/nowhere"])
    assert result.exit_code == 1
    assert "To fix, choose a folder that you may write to." in result.stdout
