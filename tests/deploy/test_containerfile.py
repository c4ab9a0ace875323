import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.house.hashes import HASHES, PINS, WITHOUT, hashed, pinned
from benchmarks.house.licences import needed
from flows.nights.cluster.local import environment
from flows.storage.digest import code_digest

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "kernels", "stages", "flows", "nightstride")
FILES = [ROOT / "deploy" / name for name in ("Containerfile", "Containerfile.gpu")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestContainerfile:
    def test_is_clean(self, path):
        hadolint = Path(sys.executable).with_name("hadolint")
        run = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout

    def test_ends_without_root_and_with_a_check(self, path):
        text = path.read_text()
        assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
        assert "\nHEALTHCHECK " in text
        assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
        assert re.findall(r"^ARG PYTHON_IMAGE=(\S+)", text, re.MULTILINE) == ["python:3.11.14-slim-bookworm"]

    def test_workers_are_set_like_ours(self, path):
        text = path.read_text().replace("\\\n", " ")
        given = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE)]
        assert environment() in given

    def test_pins_are_those_of_the_constraints(self, path):
        pins = (ROOT / "deploy/constraints.txt").read_text().splitlines()
        assert set(re.findall(r"\S+==\S+", path.read_text())) <= set(pins)
        assert "--constraint deploy/constraints.txt ." in path.read_text()

    def test_files_are_compared_with_their_hashes_before_anything_else_is_installed(self, path):
        text = path.read_text()
        assert "\nARG HASHES=deploy/constraints.hashes.txt\n" in text
        checked = text.index('install --no-deps --require-hashes --requirement "${HASHES}"')
        assert checked < text.index("install --constraint")

    def test_what_is_copied_is_there_and_not_ignored(self, path):
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", path.read_text(), re.MULTILINE):
            for name in line.split():
                assert (ROOT / name).exists()
                assert f"!{name}" in ignored


def test_all_that_nightstride_needs_has_a_hash_but_torch():
    """By the metadata of what is installed here; pip itself says what is wrong with a line."""
    lines = [line for line in HASHES.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    pins, given = (pinned(path.read_text().splitlines()) for path in (PINS, HASHES))
    assert given.items() <= pins.items()
    assert (needed("nightstride") & pins.keys()) - given.keys() == {WITHOUT}
    assert given.keys() <= needed("nightstride")


def test_a_package_without_a_hash_or_of_another_version_is_refused():
    def report(name="Foo_bar", version="1.0", **info):
        return {"install": [{"metadata": {"name": name, "version": version}, "download_info": info}]}

    hashes = {"archive_info": {"hashes": {"sha256": "a" * 64}}}
    assert hashed(report(**hashes), {"foo-bar": "1.0"}) == [f"foo-bar==1.0 --hash=sha256:{'a' * 64}"]
    assert hashed(report("torch", **hashes), {"torch": "1.0"}) == hashed(report(**hashes), {}) == []
    for pins, info in (({"foo-bar": "1.1"}, hashes), ({"foo-bar": "1.0"}, {"dir_info": {}})):
        with pytest.raises(ValueError, match=r"foo-bar 1\.0: its pin is"):
            hashed(report(**info), pins)


def test_what_is_installed_is_what_runs_here(tmp_path):
    """The files of an image, installed as it installs them: nothing that runs or is read is left behind."""
    build, installed = tmp_path / "build", tmp_path / "installed"
    build.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, build)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, build / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run = subprocess.run(
        [*pip, "--no-compile", "--target", installed, build], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert code_digest(installed) == code_digest(ROOT)
    assert _below(installed) == _below(ROOT)


def _below(root):
    files = (path for name in FOLDERS for path in (root / name).rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix() for path in files if "__pycache__" not in path.parts}
