import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

import kernels
from flows.cli import doctor
from flows.cli.app import app
from tests.support.cli import nightstride

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


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 10, 9), "fail"), ((3, 11, 0), "pass"), ((3, 13, 7), "pass"), ((3, 14, 0), "fail"), ((4, 0, 0), "fail")],
)
def test_python_must_be_one_that_is_supported(monkeypatch, version, verdict):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    finding = doctor.check_python()
    assert (finding.verdict, finding.found) == (verdict, ".".join(map(str, version)))


@pytest.mark.parametrize(("installed", "verdict"), [("0.150.9", "pass"), ("0.151", "fail"), ("0.151.0", "fail")])
def test_a_version_that_fails_silently_is_refused(monkeypatch, installed, verdict):
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: installed if name == "fastapi" else "1.0")
    found = {finding.name: finding for finding in doctor.check_versions()}
    assert (found["fastapi"].verdict, found["sqlalchemy"].verdict) == (verdict, "pass")
    assert ("pip install 'fastapi<0.151'" in found["fastapi"].remedy) is (verdict == "fail")


@pytest.mark.parametrize(
    ("available", "cores", "verdict", "workers"),
    [(4.5, 2, "pass", None), (4.49, 2, "warn", 1), (3.0, 2, "warn", 1), (2.99, 2, "fail", None), (12.0, 8, "warn", 7)],
)
def test_memory_is_one_and_a_half_gib_for_each_worker_and_for_the_rest(available, cores, verdict, workers):
    finding = doctor.check_memory(available, cores)
    assert finding.verdict == verdict
    assert finding.found == f"{available:.1f} GiB available, {1.5 * (cores + 1):.1f} GiB needed for {cores} workers"
    if workers:
        assert finding.remedy == f"run with --workers {workers}."


def test_two_cores_are_enough():
    assert [doctor.check_cores(cores).verdict for cores in (1, 2, 3)] == ["warn", "pass", "pass"]


@pytest.mark.parametrize(
    ("value", "verdict"), [("0", "warn"), ("1", "pass"), ("4", "pass"), ("5", "warn"), ("-1", "warn")]
)
def test_threads_are_between_one_and_the_cores(value, verdict):
    (first, *_) = doctor.check_threads({"OMP_NUM_THREADS": value}, 4)
    assert first.verdict == verdict


@pytest.mark.parametrize(("gib", "verdict"), [(5.0, "pass"), (4.99, "warn")])
def test_five_gib_of_disk_are_enough(monkeypatch, tmp_path, gib, verdict):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=gib * 2**30))
    assert doctor.check_disk(tmp_path / "not" / "there").verdict == verdict


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_is_named_and_none_is_needed(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"device {number}")
    finding = doctor.check_gpu()
    assert finding.verdict == "pass"
    assert finding.found == ("device 0" if there else "none: the search runs on the processor")


def test_certificates_of_the_settings_file_that_is_named_are_looked_at(tmp_path):
    path = tmp_path / "night.toml"
    path.write_text('[observe]\nmetrics = "127.0.0.1:9"\nmetrics_cert = "none.pem"\nmetrics_key = "none.key"\n')
    done = nightstride("doctor", tmp_path, "--config", path, "--json")
    (found,) = [one for one in done.summary["findings"] if one["name"] == "observe.metrics_cert"]
    assert (done.code, found["verdict"]) == (1, "fail")
    assert "observe.metrics_cert" not in nightstride("doctor", tmp_path).stdout


def test_a_machine_of_unknown_cores_has_one(monkeypatch):
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: None)
    found = {finding.name: finding.found for finding in doctor.examine(Path())}
    assert found["cores"] == "1"
    assert found["memory"].endswith("3.0 GiB needed for 1 workers")


@pytest.mark.parametrize(
    ("files", "left", "verdict", "says"),
    [
        (0, 0, "pass", "counts none"), (10**6, 100_000, "pass", "100,000 more fit"),
        (10**6, 99_999, "warn", "99,999 more fit"), (1, 0, "warn", "0 more fit"),
    ],
)  # fmt: skip
def test_a_file_system_may_run_out_of_names(tmp_path, monkeypatch, files, left, verdict, says):
    monkeypatch.setattr(doctor.os, "statvfs", lambda place: SimpleNamespace(f_files=files, f_favail=left))
    found = doctor.check_files(tmp_path / "not" / "there")
    assert (found.verdict, says in found.found) == (verdict, True)
