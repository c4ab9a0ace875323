import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import numba
import torch

from flows.software import CODE, LIBRARIES, code_digest, software

ROOT = Path(__file__).parents[2]


def test_says_what_runs_here():
    found = software()
    assert list(found) == ["python", *LIBRARIES, CODE]
    assert found["python"] == ".".join(map(str, sys.version_info[:2]))
    assert found["numba"] == numba.__version__
    assert found["torch"] == torch.__version__.split("+")[0]  # a build for GPUs is the same version
    assert "not installed" not in found.values()
    assert version("zarr") == found["zarr"]


def test_digest_sees_every_change_and_nothing_else(tmp_path):
    for name in ("schemas", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    first = code_digest(tmp_path)
    assert (len(first), code_digest(tmp_path)) == (16, first)
    (tmp_path / "schemas" / "__pycache__").mkdir()
    (tmp_path / "schemas" / "__pycache__" / "tiles.pyc").write_bytes(b"compiled")
    assert code_digest(tmp_path) == first
    weights = next((tmp_path / "stages").rglob("*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert code_digest(tmp_path) != first
    weights.write_bytes(content)
    assert code_digest(tmp_path) == first
    (tmp_path / "schemas" / "tiles.py").rename(tmp_path / "schemas" / "tile.py")
    assert code_digest(tmp_path) != first
