"""Running ``nightstride`` on a small night, and looking at what it publishes."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits

from flows.storage.bucket_path import located
from schemas.settings import Settings
from tests.support.cli import Finished, nightstride

VISITS, DETECTORS = 2, 2
TWO_WORKERS = {"NIGHTSTRIDE_EXECUTION__WORKERS": "2"}


@dataclass(frozen=True)
class Command:
    """Runs ``nightstride run``, or another command, as users do, in a process of its own.

    One worker does what does not need two: each takes seconds to get ready.
    """

    models: Path | None
    environment: dict[str, str]
    verb: str = "run"
    arguments: tuple[str, ...] = ()

    def start(self, *arguments, **environment):
        """Start it in a process group of its own, as a shell does; variables that are None are left out."""
        variables = {**os.environ, **self._variables(environment)}
        return subprocess.Popen(
            [Path(sys.executable).with_name("nightstride"), *self._line(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env={name: value for name, value in variables.items() if value is not None},
        )

    def __call__(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=1800)
        return Finished(process.returncode, stdout, stderr)

    def here(self, *arguments, **environment):
        """Run it in this process, which is quicker: where it does not matter which process it is."""
        return nightstride(*self._line(arguments), **self._variables(environment))

    def _line(self, arguments):
        return [self.verb, *map(str, (*arguments, *self.arguments)), "--json"]

    def _variables(self, environment):
        given = {
            "NIGHTSTRIDE_TILES__TILE": "112", "NIGHTSTRIDE_TILES__CHUNK": "28", "NIGHTSTRIDE_EXECUTION__WORKERS": "1",
            "NIGHTSTRIDE_INJECT__SHARE": "1", "NIGHTSTRIDE_INJECT__STREAKS": "64",
        }  # fmt: skip
        if self.models is not None:
            given |= {f"NIGHTSTRIDE_{stage}__MODEL": str(self.models) for stage in ("DETECT", "MEASURE")}
        return {**given, **self.environment, **environment}


def settings_of(models):
    """The settings with which the support of the tests runs the command by two workers."""
    return Settings(
        detect={"model": str(models)}, measure={"model": str(models)}, tiles={"tile": 112, "chunk": 28},
        inject={"share": 1, "streaks": 64}, execution={"workers": 2},
    )  # fmt: skip


def later(raw, folder, days):
    """Copy a night to another folder as one that was taken some days later, with visit numbers of its own."""
    shutil.copytree(raw, folder)
    for path in folder.rglob("*.fits*"):
        with fits.open(path, mode="update", disable_image_compression=True) as hdus:
            for hdu in hdus:
                for name, step in {"OBSMJD": days, "OBSJD": days, "EXPID": 1000 * days}.items():
                    if name in hdu.header:
                        hdu.header[name] += step
                for name in ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM"):
                    hdu.header.remove(name, ignore_missing=True)
    return folder


def fingerprint(content):
    """Return size and digest of bytes: two that differ make a message that can be read."""
    return f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()[:16]}"


def catalogues(out):
    """Return the published files of a run, in a bucket or not: name -> fingerprint of the bytes."""
    root = located(str(out)) / "catalogs"
    names = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: fingerprint(path.read_bytes()) for name, path in names.items() if "/." not in name}


def without_objects(published):
    """Leave out the catalogues that depend on the nights before, and that buckets do not have."""
    return {
        name: content for name, content in published.items() if not name.startswith(("dia_object", "static_object"))
    }


def of_exposures(out):
    """Names of the files of single exposures among them."""
    return [name for name in catalogues(out) if re.search(r"/\d+-\d+\.parquet$", name)]
