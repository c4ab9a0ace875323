"""Full disk."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.faults.fault import Fault
from benchmarks.faults.scene import NotAvailable, Scene

BLOCK = b"\0" * 2**16


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of ``size`` bytes.

    Raises
    ------
    NotAvailable
        That is not allowed here.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        raise NotAvailable(f"no small disk can be mounted (are we root?): {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> int:
    """Write until the disk is full; return the number of bytes.

    Raises
    ------
    OSError
        For another reason.
    """
    written = 0
    with path.open("ab", buffering=0) as file:
        while True:
            try:
                written += file.write(BLOCK)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    return written
                raise


def full(scene: Scene, part: str = "exposures") -> None:
    """Fill the disk of the output folder, and free it when the command has ended."""
    scene.part = part
    undisturbed = scene.lab.folder / "undisturbed"
    needed = sum(path.stat().st_size + 2**13 for path in undisturbed.rglob("*"))
    with small_disk(scene.folder / "disk", 3 * needed) as disk:
        scene.out = disk / "out"
        command, ballast = scene.start(), disk / "ballast"
        scene.middle(command)
        scene.strike(lambda: fill(ballast))
        scene.require(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize < needed / 10, "the disk is full")
        again = list(command.args)
        scene.ended(command)
        scene.require("No space left on device" in scene.said(0), "the command reports it")
        ballast.unlink()
        scene.finish(scene.again(again))
        scene.measure()


FAULTS = (
    Fault("disk full", "the disk of OUT is filled, freed when the command has ended; the same again", full, (1, 0)),
    Fault("disk full, patches", "the same among the patches", partial(full, part="patches"), (1, 0)),
)
