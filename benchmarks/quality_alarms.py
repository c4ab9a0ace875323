"""How often do equal nights raise an alarm, and how often nights in which something is wrong?

``python -m benchmarks.quality_alarms --work FOLDER [--visits 8] [--trials 200]`` simulates exposures of 1008 x 1008 px
like ZTF's: as they are, with a seeing 30 % worse, and with three times the cosmic rays; and searches them. Nights are
then drawn from these, so many exposures each, with replacement, with the synthetic streaks put into them; the 30 nights
of the reference from the ordinary ones. A wrong zero point is put into drawn exposures. What is there is kept.
"""

import argparse
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.ledger import Ledger
from flows.evaluation.recovery import recoveries
from flows.quality import measure as measuring
from flows.quality.exposures import look
from flows.quality.judge import judge
from flows.simulation.night import Night, simulate_night
from flows.simulation.presets import ZTF
from schemas.injection import INJECTION
from schemas.quality import QualityRecord
from schemas.quality_settings import QualitySettings

ORDINARY = replace(ZTF, shape=(1008, 1008), bands=("r",), streaks=6)
KINDS = {
    "ordinary": ORDINARY,
    "seeing": replace(ORDINARY, fwhm=(1.3 * ZTF.fwhm[0], 1.3 * ZTF.fwhm[1])),
    "cosmic_rays": replace(ORDINARY, cosmic_rays=(3 * ZTF.cosmic_rays[0], 3 * ZTF.cosmic_rays[1])),
}


def searched(work, kind, visits):
    """Simulate and search exposures of a kind; give each with its synthetic streaks."""
    raw, out = work / kind / "raw", work / kind / "out"
    if not (raw / "truth.parquet").exists():
        simulate_night(Night(KINDS[kind], 900 + list(KINDS).index(kind), visits, 3, raw), 1, lambda done: None)
    code = "from flows.cli import app; app()"
    subprocess.run([sys.executable, "-c", code, "run", str(raw), "--out", str(out), "--workers", "1"], check=False)
    store, looked = CatalogStore(out), look(out, [one for one in Ledger(out).records() if one.status == "done"])
    return [(one, store.read(INJECTION, one.record.key)) for one in looked]


def dimmed(exposure, by):
    """Give an exposure with a zero point that is wrong by so many mag; fluxes follow."""
    one, injected = exposure
    info = one.info.model_copy(update={"zero_point": one.info.zero_point - by})
    flux = pa.array(injected["flux"].to_numpy() * 10 ** (0.4 * by), pa.float32())
    place = injected.schema.get_field_index("flux")
    return replace(one, info=info), injected.set_column(place, injected.schema.field("flux"), flux)


def night(rng, pool, size):
    """Measure a night of exposures drawn with replacement."""
    drawn = [pool[place] for place in rng.integers(0, len(pool), size)]
    injected = pa.concat_tables([table for _, table in drawn])
    return measuring.measure([one for one, _ in drawn], recoveries("20260101", injected))


def judged(rng, pool, earlier, size, trials, settings):
    """Judge nights of a pool, each by other nights of the reference, and say how many raised an alarm, and which."""
    gated = drifted = failed = 0
    what = Counter()
    for _ in range(trials):
        chosen = [earlier[place] for place in np.sort(rng.choice(len(earlier), settings.history_nights, False))]
        (band,) = judge(night(rng, pool, size), chosen, settings)
        gates = [one.metric for one in band.gates if one.verdict in ("warn", "fail")]
        drifts = [f"drift of {one.feature}" for one in band.drifts if one.verdict == "warn"]
        gated, drifted, failed = gated + bool(gates), drifted + bool(drifts), failed + (band.verdict == "fail")
        what.update([*gates, *drifts])
    shares = ", ".join(f"{name} {count}" for name, count in what.most_common())
    return f"of {trials} nights gates warn of {gated}, {failed} of them fail; features drift in {drifted}: {shares}"


def main():
    """Print how many nights raise an alarm, by what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--visits", type=int, default=8, help="Of three ordinary exposures.")
    parser.add_argument("--altered", type=int, default=8, help="Visits in which something is wrong.")
    parser.add_argument("--size", type=int, default=24, help="Exposures of a night.")
    parser.add_argument("--trials", type=int, default=200)
    given = parser.parse_args()
    # Nights share exposures: what is computed of one is computed once.
    measuring.depth, measuring.compass = cache(measuring.depth), cache(measuring.compass)
    settings, rng = QualitySettings(), np.random.default_rng(7)
    ordinary = searched(given.work, "ordinary", given.visits)
    earlier = [
        QualityRecord(
            night=f"2025{1 + day // 28:02d}{1 + day % 28:02d}", digest="", rules="", software="", judged=(),
            measured=night(rng, ordinary, given.size),
        )
        for day in range(settings.history_nights + 15)
    ]  # fmt: skip
    pools = {
        "ordinary": lambda: ordinary,
        "zero point wrong by 0.1 mag": lambda: [dimmed(one, 0.1) for one in ordinary],
        "zero point wrong by 0.3 mag": lambda: [dimmed(one, 0.3) for one in ordinary],
        "seeing + 30 %": lambda: searched(given.work, "seeing", given.altered),
        "cosmic rays x 3": lambda: searched(given.work, "cosmic_rays", given.altered),
    }
    for kind, make in pools.items():
        pool = make()
        told = judged(rng, pool, earlier, given.size, given.trials, settings)
        print(f"{kind} ({len(pool)} exposures): {told}", flush=True)


if __name__ == "__main__":
    main()
