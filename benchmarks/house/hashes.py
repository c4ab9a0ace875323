"""SHA-256 of the files that an image installs, as `pip install --require-hashes` compares them:

    python -m benchmarks.house.hashes

asks pip which files of the pinned packages (`deploy/constraints.txt`) this Python would install on this machine, and
writes `deploy/constraints.hashes.txt`. The hashes are those that the index states: run it where pip asks PyPI.
torch, which images take from an index of its own, and what only torch needs are left out.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DEPLOY = Path(__file__).parents[2] / "deploy"
PINS, HASHES = DEPLOY / "constraints.txt", DEPLOY / "constraints.hashes.txt"
WITHOUT = "torch"

HEAD = """\
# SHA-256 of the wheels for Python {python} on {machine} of what nightstride needs to run, without torch and what only
# torch needs. Written by `python -m benchmarks.house.hashes`; used by the images (deploy/Containerfile).
"""


def pinned(lines: Iterable[str]) -> dict[str, str]:
    """Return the version of each package, by its canonical name, of a file of pins."""
    found = (Requirement(line.split(" --hash")[0]) for line in lines if line.strip() and not line.startswith("#"))
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in found}


def hashed(report: Mapping[str, Any], pins: Mapping[str, str]) -> list[str]:
    """Return the lines of the packages of a report of pip's that are pinned, sorted.

    Raises
    ------
    ValueError
        One has another version than its pin, or no hash.
    """
    lines = []
    for one in report["install"]:
        name, version = canonicalize_name(one["metadata"]["name"]), one["metadata"]["version"]
        if name == WITHOUT or name not in pins:
            continue
        sha256 = one["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if version != pins[name] or not sha256:
            raise ValueError(f"{name} {version}: its pin is {pins[name]}, its SHA-256 {sha256}")
        lines.append(f"{name}=={version} --hash=sha256:{sha256}")
    return sorted(lines)


def main() -> None:
    """Ask pip, and write the file."""
    ask = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary", ":all:"]
    told = subprocess.run(
        [*ask, "--quiet", "--report", "-", "--constraint", PINS, DEPLOY.parent], stdout=subprocess.PIPE, check=True
    )
    report = json.loads(told.stdout)
    where = report["environment"]
    head = HEAD.format(python=where["python_version"], machine=f"{where['sys_platform']} {where['platform_machine']}")
    lines = hashed(report, pinned(PINS.read_text().splitlines()))
    HASHES.write_text(head + "".join(f"{line}\n" for line in lines))
    print(f"{len(lines)} packages")


if __name__ == "__main__":
    main()
