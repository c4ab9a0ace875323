"""Gate against a slower search: ``python -m benchmarks.speed.gate [--record]``.

The plain way and the fused search take turns in one process of one thread, on a small image; what is compared is the
ratio of their processor times, with the ratio recorded in gate.json for this kind of processor. So neither other work
on the machine nor the number of its cores matters; the kind of processor does, and on one that none was recorded on
nothing fails. Exit code 1: a ratio fell by more than a quarter.
"""

import json
import sys
from pathlib import Path
from time import process_time

import numpy as np
from scipy.special import logit

from benchmarks.support.command_line import command_line
from benchmarks.support.page import processor
from flows.training.bench.exposure import shipped_net, use_threads
from flows.training.bench.search import search_variants
from flows.training.bench.ways import Pixels, interleaved
from kernels.search.linear_chain import has_bfloat16

RECORD = Path(__file__).with_name("gate.json")
LOSS = 0.25
"""Fraction of the recorded ratio that may be lost."""

ROUNDS = 9
SIDE = 600
PRECISIONS = {"float32": "fused_f32", "bfloat16": "fused_bf16"}


def scene():
    """Return noise and some sources: what the search takes for a hit costs time too."""
    rng = np.random.default_rng(7)
    image = rng.normal(0, 5, (1, SIDE, SIDE)).astype(np.float32)
    for y, x in rng.integers(10, SIDE - 10, (20, 2)):
        image[0, y : y + 3, x : x + 9] += 60
    usable = rng.random((SIDE, SIDE)) > 0.001
    usable[200:260, 300:420] = False
    return Pixels(image, usable, 0.0)


def ratios():
    """Return the processor time of the plain way over that of the fused search, by precision."""
    use_threads(1)
    net, card = shipped_net()
    variants = search_variants(scene(), net, float(logit(card.threshold)))
    del variants["unfold"]
    for variant in variants.values():
        variant()  # compiles
    timed = interleaved(variants, ROUNDS, clock=process_time)
    return {precision: timed.ratio("plain", name) for precision, name in PRECISIONS.items()}


def lost(found, recorded):
    """Return the precisions that have become too slow."""
    # Where the processor has no bfloat16 of its own, its ratio is meaningless.
    known = recorded if has_bfloat16() else {key: value for key, value in recorded.items() if key != "bfloat16"}
    return [precision for precision, ratio in known.items() if found[precision] < (1 - LOSS) * ratio]


def main():
    """Compare with the record, or write it."""
    chosen = command_line(__doc__, record=(False, "write gate.json again"))
    found, here = ratios(), processor()
    records = json.loads(RECORD.read_text())
    if chosen.record:
        records[here] = {key: round(value, 1) for key, value in found.items()}
        RECORD.write_text(json.dumps(records, indent=2) + "\n")
        print(f"recorded in {RECORD}: {here}: {records[here]}")
        return 0
    if here not in records:
        print(
            f"{found} on {here}: never recorded there, nothing is judged. "
            "`python -m benchmarks.speed.gate --record` does."
        )
        return 0
    recorded = records[here]
    slow = lost(found, recorded)
    if slow:
        # Once more: a ratio that is really lost is lost twice.
        found = ratios()
        slow = lost(found, recorded)
    for precision, ratio in found.items():
        print(f"{precision}: the plain way takes {ratio:.1f} times as long, recorded {recorded[precision]:.1f}.")
    if slow:
        print(
            f"The search in {' and '.join(slow)} lost more than {LOSS:.0%} of its speed. To fix, profile "
            "`nightstride bench search --threads 1` before and after the change; if the loss is meant, "
            "`python -m benchmarks.speed.gate --record` and say why in the commit.",
            file=sys.stderr,
        )
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
