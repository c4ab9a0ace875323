"""Licences of what nightstride needs to run, from the metadata of the packages:

    python -m benchmarks.house.licences [--extras kafka,slurm]

prints a table. Exit code 1: a package may be had under the GPL alone, whose terms would hold for the whole. The LGPL is
no such licence: it is that of a library which is used as it is.
"""

import importlib.metadata
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, cast

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.support.command_line import command_line

_GPL = re.compile(r"(?<!L)(?<!Lesser )(GPL|General Public License)", re.IGNORECASE)
_OTHERS = re.compile(r"LGPL|Lesser|BSD|MIT|Apache|Artistic|MPL|Mozilla|Python Software|PSF|ISC|zlib", re.IGNORECASE)


@dataclass(frozen=True)
class Licensed:
    """Package, its version, and what its metadata say of its licences."""

    name: str
    version: str
    said: tuple[str, ...]

    @property
    def is_gpl_alone(self) -> bool:
        """Return whether the GPL is among its licences, and no other that it may be had under."""
        text = " | ".join(self.said)
        return _GPL.search(text) is not None and _OTHERS.search(text) is None


def needed(package: str, extras: Collection[str] = ()) -> set[str]:
    """Return the names of all installed packages that a package needs, itself left out."""
    seen: dict[str, set[str]] = {}
    left = [(package, frozenset(extras))]
    while left:
        name, wanted = left.pop()
        key = canonicalize_name(name)
        if key in seen and wanted <= seen[key]:
            continue
        seen.setdefault(key, set()).update(wanted)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another platform
            del seen[key]
            continue
        left.extend(
            (one.name, frozenset(one.extras))
            for one in map(Requirement, requirements)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *wanted))
        )
    return seen.keys() - {canonicalize_name(package)}


def licences(names: Collection[str]) -> Iterator[Licensed]:
    """Yield what packages say of their licences, by name: expression, first line of the text, classifiers."""
    for name in sorted(names):
        metadata = cast(Any, importlib.metadata.metadata(name))
        classifiers = [one for one in metadata.get_all("Classifier") or () if one.startswith("License ::")]
        text = (metadata.get("License") or "").strip().partition("\n")[0][:80]
        expression = metadata.get("License-Expression") or ""
        said = dict.fromkeys([expression, text, *(one.rpartition("::")[2].strip() for one in classifiers)])
        yield Licensed(name, metadata["Version"], tuple(one for one in said if one))


def main() -> int:
    """Print the table, and return the exit code."""
    chosen = command_line(__doc__, extras=("", "of nightstride, with commas between"))
    found = list(licences(needed("nightstride", [one for one in chosen.extras.split(",") if one])))
    print("| package | version | licence |\n| --- | --- | --- |")
    for one in found:
        print(f"| {one.name} | {one.version} | {'; '.join(one.said) or 'not stated'} |")
    refused = [one.name for one in found if one.is_gpl_alone]
    if refused:
        print(f"\nunder the GPL alone: {', '.join(refused)}")
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
