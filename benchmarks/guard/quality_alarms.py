"""Rate of quality alarms on equal nights, and on nights in which something is wrong.

``python -m benchmarks.guard.quality_alarms FOLDER [--visits 8] [--trials 200]`` simulates exposures of 1008
x 1008 px like ZTF's, and searches them. Nights are then drawn from these, so many exposures each, with replacement, and
with the synthetic streaks put into them. What is wrong is put into drawn exposures: a zero point, a width of the PSF,
the number of candidates refused as cosmic rays. That tests the gates, not the search: it is not run on worse pixels.
"""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa

from benchmarks.support.command_line import command_line
from benchmarks.support.page import show, table
from flows.results.evaluation.recovery import recoveries
from flows.results.quality import measure as measuring
from flows.results.quality.judge import judge
from flows.results.quality.measure import look_at_exposures
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import ZTF
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.injection import INJECTION
from schemas.quality import QualityRecord, QualitySettings

ORDINARY = replace(ZTF, shape=(1008, 1008), bands=("r",), streaks=6)


def searched(work, visits):
    """Simulate and search exposures; return each with its synthetic streaks."""
    raw, out = work / "raw", work / "out"
    if not (raw / "truth.parquet").exists():
        simulate_night(SimulatedNight(ORDINARY, 900, visits, 3, raw), 1, lambda done: None)
    code = "from flows.cli.app import app; app()"
    subprocess.run([sys.executable, "-c", code, "run", str(raw), "--out", str(out), "--workers", "1"], check=False)
    store, looked = (
        CatalogStore(out),
        look_at_exposures(out, [one for one in Ledger(out).records() if one.status == "done"]),
    )
    return [(one, store.read(INJECTION, one.record.key)) for one in looked]


def dimmed(exposure, by):
    """Return an exposure with a zero point that is wrong by ``by`` mag; fluxes follow."""
    one, injected = exposure
    info = one.info.model_copy(update={"zero_point": one.info.zero_point - by})
    flux = pa.array(injected["flux"].to_numpy() * 10 ** (0.4 * by), pa.float32())
    place = injected.schema.get_field_index("flux")
    return replace(one, info=info), injected.set_column(place, injected.schema.field("flux"), flux)


def blurred(exposure, times):
    """Return an exposure with a PSF ``times`` times as wide."""
    one, injected = exposure
    psf = one.info.psf.model_copy(update={"fwhm_px": times * one.info.psf.fwhm_px})
    return replace(one, info=one.info.model_copy(update={"psf": psf})), injected


def hit(exposure, times):
    """Return an exposure with ``times`` times the candidates refused as cosmic rays."""
    one, injected = exposure
    rays = one.record.causes["cosmic_ray"]
    more = rays.model_copy(update={"refused": times * rays.refused})
    record = one.record.model_copy(update={"causes": {**one.record.causes, "cosmic_ray": more}})
    return replace(one, record=record), injected


def night(rng, pool, size):
    """Measure a night of exposures drawn with replacement."""
    drawn = [pool[place] for place in rng.integers(0, len(pool), size)]
    injected = pa.concat_tables([table for _, table in drawn])
    return measuring.measure_quality([one for one, _ in drawn], recoveries("20260101", injected))


def judged(rng, pool, earlier, size, trials, settings):
    """Judge nights of a pool, each by other nights of the reference; return how many a gate warns of, how many of these
    fail, how many have a feature that drifts, and what it was."""
    gated = drifted = failed = 0
    what = Counter()
    for _ in range(trials):
        chosen = [earlier[place] for place in np.sort(rng.choice(len(earlier), settings.history_nights, False))]
        (band,) = judge(night(rng, pool, size), chosen, settings)
        gates = [one.metric for one in band.gates if one.verdict in ("warn", "fail")]
        drifts = [f"drift of {one.feature}" for one in band.drifts if one.verdict == "warn"]
        gated, drifted, failed = gated + bool(gates), drifted + bool(drifts), failed + (band.verdict == "fail")
        what.update([*gates, *drifts])
    return gated, failed, drifted, ", ".join(f"{name} {count}" for name, count in what.most_common()) or "-"


def main():
    """Print how many nights raise an alarm, by what is wrong."""
    given = command_line(
        __doc__, "work", visits=(8, "Of three exposures each."), size=(24, "Exposures of a night."), trials=200
    )
    # Nights share exposures: what is computed of one is computed once.
    measuring.depth, measuring.compass = cache(measuring.depth), cache(measuring.compass)
    settings, rng = QualitySettings(), np.random.default_rng(7)
    ordinary = searched(given.work, given.visits)
    earlier = [
        QualityRecord(
            night=f"2025{1 + day // 28:02d}{1 + day % 28:02d}", digest="", rules="", software="", judged=(),
            measured=night(rng, ordinary, given.size),
        )
        for day in range(settings.history_nights + 15)
    ]  # fmt: skip
    pools = {
        "as ever": ordinary,
        "zero point wrong by 0.1 mag": [dimmed(one, 0.1) for one in ordinary],
        "seeing + 30 %": [blurred(one, 1.3) for one in ordinary],
        "cosmic rays x 3": [hit(one, 3) for one in ordinary],
    }
    rows = [(kind, *judged(rng, pool, earlier, given.size, given.trials, settings)) for kind, pool in pools.items()]
    headings = (f"{given.trials} nights", "a gate warns", "a gate fails", "a feature drifts", "of what")
    show(f"Nights of {given.size} exposures out of {len(ordinary)}:\n\n{table(headings, rows)}")


if __name__ == "__main__":
    main()
