"""Sections of the pages in docs/measured that the benchmarks write, between their markers."""

import argparse
import hashlib
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numba
import torch

from flows.training.bench.exposure import use_threads

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "measured" / "performance.md"
IMAGES = ROOT / "docs" / "images"
DEFAULT = ("detect/streak_net", "reliability/streak_net")
"""Weights of the default detector and its verdict, on which most figures depend."""


@dataclass(frozen=True)
class Options:
    """Options that every section has."""

    threads: int
    repeats: int
    write: bool


def options(description, repeats):
    """Read the command line of a section and set the threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds; medians are reported")
    parser.add_argument("--no-write", action="store_true", help="print only, leave docs/ as they are")
    chosen = parser.parse_args()
    return Options(use_threads(chosen.threads), chosen.repeats, not chosen.no_write)


def measured_with(weights):
    """Return the date, and the digests of the weights that figures depend on."""
    files = {name: (ROOT / "stages/weights" / f"{name}.safetensors").read_bytes() for name in weights}
    named = [f"{name} sha256:{hashlib.sha256(held).hexdigest()[:12]}" for name, held in files.items()]
    lines = (f"weights: {', '.join(named[place : place + 2])}" for place in range(0, len(named), 2))
    return "\n\n".join([f"Measured {datetime.now(UTC).date()}.", *lines])


def publish(name, text, write, path=PAGE, weights=DEFAULT, by="make bench"):
    """Print the Markdown of a section and, if wanted, put it between its markers in a page, which name the command.

    Date and digests of ``weights`` come first; without any the text stands alone.

    Raises
    ------
    ValueError
        The page has no such markers.
    """
    text = f"{measured_with(weights)}\n\n{text}" if weights else text
    print(f"\n## {name}\n\n{text}\n", flush=True)
    if not write:
        return
    start, end = f"<!-- {name}: written by {by} -->", f"<!-- {name}: end -->"
    page = path.read_text()
    if page.count(start) != 1 or page.count(end) != 1:
        raise ValueError(f"{path} needs the markers {start!r} and {end!r} once each.")
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{start}\n{text}\n{end}{after}")


def table(headings, rows):
    """Return a Markdown table; the first column is text, the others are figures."""
    lines = ["| " + " | ".join(headings) + " |", "| --- |" + " ---: |" * (len(headings) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def machine(threads):
    """Return in words what the figures were measured on."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, numba {numba.__version__}"
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
