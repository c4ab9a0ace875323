"""Markdown of the pages in docs/measured, and what figures were measured with."""

import hashlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.support.command_line import command_line

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
DEFAULT = ("detect/streak_net", "reliability/streak_net")
"""Weights of the default detector and its verdict, on which most figures depend."""


SECTION = "<!-- section -->"
"""Line of a command's output after which everything is put on a page; see `benchmarks.house.measured`."""


def options(description, repeats):
    """Read the command line of a section and set the threads."""
    from flows.training.bench.exposure import use_threads  # with torch

    chosen = command_line(
        description, threads=len(os.sched_getaffinity(0)), repeats=(repeats, "rounds; medians are reported"),
        draw=(False, "write the picture in docs/images, too"),
    )  # fmt: skip
    chosen.threads = use_threads(chosen.threads)
    return chosen


def measured_with(weights):
    """Return the date, and the digests of the weights that figures depend on."""
    files = {name: (ROOT / "stages/weights" / f"{name}.safetensors").read_bytes() for name in weights}
    named = [f"{name} sha256:{hashlib.sha256(held).hexdigest()[:12]}" for name, held in files.items()]
    lines = (f"weights: {', '.join(named[place : place + 2])}" for place in range(0, len(named), 2))
    return "\n\n".join([f"Measured {datetime.now(UTC).date()}.", *lines])


def show(text, weights=DEFAULT):
    """Print the Markdown of a section; date and digests of ``weights`` come first, unless these are None."""
    heading = [] if weights is None else [measured_with(weights), ""]
    print(f"\n{SECTION}", *heading, text, sep="\n", flush=True)


def table(headings, rows):
    """Return a Markdown table; the first column is text, the others are figures."""
    lines = ["| " + " | ".join(headings) + " |", "| --- |" + " ---: |" * (len(headings) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def machine(threads):
    """Return in words what the figures were measured on."""
    torch, numba = (version(name).split("+")[0] for name in ("torch", "numba"))
    versions = f"Python {platform.python_version()}, torch {torch}, numba {numba}"
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}; {versions}"


def processor():
    """Return the processor, its family and model, as names leave the generation open, and its vector extensions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    features = [
        name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in facts.get("flags", "").split()
    ]
    name = facts.get("model name", platform.machine())
    generation = f"family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
    return f"{name}, {generation} ({', '.join(features) or 'no vector extensions known'})"
