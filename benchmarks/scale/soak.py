"""Soak test: memory and open files of `nightstride watch` over many small exposures.

    python -m benchmarks.scale.soak --exposures 500

delivers copies of one simulated exposure, each as a visit of its own, never more than some at a time, and looks every
second at the processes. Exit code 1 if an exposure is missing, or memory or open files grow.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from astropy.io import fits
from scipy.stats import theilslopes

from benchmarks.support.command_line import command_line
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.storage.ledger import Ledger

AHEAD = 32
"""Number of exposures delivered before they are done."""

SETTLED = 0.6
"""Fraction of the exposures after which libraries are loaded, compiled and have filled their caches."""

FLAT_KIB = 32.0
"""Maximum growth of all processes together per exposure, KiB: 1.4 GiB a night of 45,000."""

FLAT_FILES = 0.01
"""Maximum growth of open files per exposure: opening one for each without closing it gives 1."""


@dataclass(frozen=True)
class Sample:
    """Exposures done, resident memory of all processes together, KiB, and open files of the command."""

    done: int
    kib: float
    files: int


@dataclass(frozen=True)
class Growth:
    """Per exposure: slope by Theil and Sen, and its 95 % interval."""

    slope: float
    low: float
    high: float


def deliver(original: Path, folder: Path, number: int) -> None:
    """Write a copy of an exposure as another visit, half a minute after the one before; renamed when it is whole."""
    hidden = folder / f".{number:06}.fits.fz"
    with fits.open(original, disable_image_compression=True) as hdus:
        for hdu in hdus:
            for name, step in {"OBSMJD": number * 30 / 86400, "OBSJD": number * 30 / 86400, "EXPID": number}.items():
                if name in hdu.header:
                    hdu.header[name] += step
            for name in ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM"):
                hdu.header.remove(name, ignore_missing=True)
        hdus.writeto(hidden)
    hidden.rename(folder / hidden.name[1:])


def soak(original: Path, folder: Path, exposures: int, environment: dict[str, str] | None = None) -> list[Sample]:
    """Send exposures through a stream; return a sample for each second.

    Raises
    ------
    RuntimeError
        The stream did not end with all of them done.
    """
    arriving, out = folder / "arriving", folder / "out"
    arriving.mkdir(parents=True)
    options = ["--still", "0", "--poll", "0.2", "--quiet", "100000", "--idle-exit", "5", "--json"]
    code = "from flows.cli.app import app; app()"
    with (folder / "stderr.txt").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "watch", str(arriving), "--out", str(out), *options],
            stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment,
        )  # fmt: skip
        samples, delivered = [], 0
        while process.poll() is None:
            done = Ledger(out).count()
            while delivered < min(exposures, done + AHEAD):
                deliver(original, arriving, delivered)
                delivered += 1
            if sample := _sample(process.pid, done):
                samples.append(sample)
            time.sleep(1.0)
        stdout = process.communicate()[0]
    counts = json.loads(stdout.splitlines()[-1])["exposures"] if stdout else {}
    if counts.get("done") != exposures:
        raise RuntimeError(f"{counts} of {exposures}: {(folder / 'stderr.txt').read_text()[-2000:]}")
    return samples


def _sample(pid: int, done: int) -> Sample | None:
    try:
        command = psutil.Process(pid)
        processes = [command, *command.children(recursive=True)]
        # Shared pages of forked workers count once: what is unique to a process is what it can lose.
        kib = sum(process.memory_full_info().uss for process in processes) / 1024
        return Sample(done, kib, command.num_fds())
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        return None


def growth(samples: list[Sample], exposures: int) -> tuple[Growth, ...]:
    """Return the growth of memory, KiB, and of open files, per exposure, once the libraries have settled."""
    late = [one for one in samples if SETTLED * exposures <= one.done < exposures]
    done = [one.done for one in late]
    memory, files = (theilslopes([getattr(one, name) for one in late], done) for name in ("kib", "files"))
    return tuple(Growth(*(float(one[place]) for place in (0, 2, 3))) for one in (memory, files))


def is_flat(memory: Growth, files: Growth) -> bool:
    """Return whether neither grows: the upper ends of the intervals are within what passes for flat."""
    return bool(memory.high <= FLAT_KIB and files.high <= FLAT_FILES)


def main() -> None:
    """Run the soak test and report the result."""
    exposures = command_line(__doc__, exposures=500).exposures
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = SimulatedNight(find_preset("ztf", 3, (200, 210)), 11, 1, 1, folder / "raw", science=False)
        original = simulate_night(small).exposures[0]
        start = time.monotonic()
        samples = soak(original, folder, exposures)
        seconds = time.monotonic() - start
    memory, files = growth(samples, exposures)
    result = {
        "exposures": exposures,
        "seconds": round(seconds, 1),
        "peak_mib": round(max(s.kib for s in samples) / 1024),
    }
    result |= {"kib_per_exposure": asdict(memory), "files_per_exposure": asdict(files), "flat": is_flat(memory, files)}
    print(json.dumps(result))
    sys.exit(0 if is_flat(memory, files) else 1)


if __name__ == "__main__":
    main()
