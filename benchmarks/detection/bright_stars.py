"""Detections around bright stars against the truth: ``python -m benchmarks.detection.bright_stars OUT TRUTH``.

Prints, for a simulated night that was searched, how many detections lie around bright stars, how many would if they
were spread evenly (`flows.results.quality.measure.around_bright`), and how many of its false detections are there.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.support.command_line import command_line
from flows.results.quality.measure import around_bright, look_at_exposures, unclassed
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.training.examples import truth_targets
from kernels.statistics.matching import match_detections
from schemas.objects import SOURCE


class Counts(NamedTuple):
    """Detections in rings, as many as the density elsewhere gives, and false ones there and anywhere."""

    inside: int
    expected: float
    false_inside: int
    false: int


def counted(rows, sources, info, truth):
    """Return the `Counts` of an exposure; None without rings."""
    x, y, score = (rows[name].to_numpy().astype(np.float64) for name in ("x", "y", "reliability"))
    false = rows.filter(pa.array(match_detections(x, y, score, truth_targets(truth)).false))
    rings = around_bright(rows, sources, info)
    if rings is None:
        return None
    there = around_bright(false, sources, info)
    return Counts(rings.inside, rings.ratio * rings.outside, there.inside, len(false))


def main():
    """Print the counts of a night."""
    given = command_line(__doc__, ("out", "Output folder of a run."), ("truth", "Its truth table."))
    ledger, truth, found = Ledger(given.out), pq.read_table(given.truth), []
    for night in ledger.nights():
        for one in look_at_exposures(given.out, [one for one in ledger.records(night) if one.status == "done"]):
            mine = (pc.field("visit") == one.info.visit) & (pc.field("detector") == one.info.detector)
            sources = CatalogStore(given.out).read(SOURCE, one.record.key)
            found.append(counted(unclassed(one.sources), sources, one.info, truth.filter(mine)))
    inside, expected, false_inside, false = map(sum, zip(*filter(None, found), strict=True))
    print(
        f"{len(found)} exposures: {inside} detections around bright stars, {expected:.1f} expected; "
        f"of {false} false ones {false_inside} are there."
    )


if __name__ == "__main__":
    main()
