"""Which software computes: what the bits of a result depend on, as versions that can be compared."""

import sys
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.version import Version

CODE = "nightstride code"
"""Name under which the digest of our own files goes."""

LIBRARIES = (
    "numpy", "scipy", "numba", "llvmlite", "torch", "astropy", "astropy-healpix", "photutils", "sep", "zarr", "zarrs",
    "numcodecs", "pyarrow", "safetensors", "pydantic", "dask", "distributed",
)  # fmt: skip
"""What computes, reads or writes, and what carries tasks between processes."""

_FOLDERS = ("schemas", "kernels", "stages", "flows")
_KINDS = frozenset({".py", ".json", ".safetensors"})


@cache
def software() -> dict[str, str]:
    """Give the versions of this process: of Python, of `LIBRARIES`, and the digest of our own code and weights.

    Of Python the first two numbers count. What a build says of itself behind a plus sign does not: torch has the same
    version with and without CUDA.
    """
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in LIBRARIES:
        try:
            found[name] = Version(version(name)).public
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, CODE: code_digest(Path(__file__).resolve().parents[1])}


def code_digest(root: Path) -> str:
    """Give the first 16 hexadecimal digits of the SHA-256 over names and bytes of our files below ``root``."""
    total = sha256()
    files = (path for folder in _FOLDERS for path in (root / folder).rglob("*") if path.suffix in _KINDS)
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        content = path.read_bytes()
        total.update(f"{len(name)} {name} {len(content)} ".encode() + content)
    return total.hexdigest()[:16]
