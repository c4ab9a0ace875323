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
from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.ledger import Ledger
from flows.evaluation.recovery import recoveries
from flows.quality.exposures import look
from flows.quality.judge import judge
from flows.quality.measure import measure
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
    return measure([one for one, _ in drawn], recoveries("20260101", injected))


def main():
    """Print the share of nights with an alarm, by what is wrong, and by gate or feature."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--visits", type=int, default=8)
    parser.add_argument("--size", type=int, default=24, help="Exposures of a night.")
    parser.add_argument("--trials", type=int, default=200)
    given = parser.parse_args()
    settings, rng = QualitySettings(), np.random.default_rng(7)
    pools = {kind: searched(given.work, kind, given.visits) for kind in KINDS}
    pools |= {f"zero point {by} mag": [dimmed(one, by) for one in pools["ordinary"]] for by in (0.1, 0.3)}
    earlier = [
        QualityRecord(
            night=f"2025{1 + day // 28:02d}{1 + day % 28:02d}", digest="", rules="", software="", judged=(),
            measured=night(rng, pools["ordinary"], given.size),
        )
        for day in range(60)
    ]  # fmt: skip
    for kind, pool in pools.items():
        alarms, drifted, failed, what = 0, 0, 0, Counter()
        for _ in range(given.trials):
            chosen = [earlier[place] for place in np.sort(rng.choice(len(earlier), settings.history_nights, False))]
            (band,) = judge(night(rng, pool, given.size), chosen, settings)
            gates = [one.metric for one in band.gates if one.verdict in ("warn", "fail")]
            drifts = [f"drift of {one.feature}" for one in band.drifts if one.verdict == "warn"]
            alarms, drifted = alarms + bool(gates), drifted + bool(drifts)
            failed += band.verdict == "fail"
            what.update([*gates, *drifts])
        shares = ", ".join(f"{name} {count / given.trials:.2f}" for name, count in what.most_common())
        print(
            f"{kind} ({len(pool)} exposures): gates {alarms / given.trials:.3f} (fail {failed / given.trials:.3f}), "
            f"drift {drifted / given.trials:.3f}; {shares}",
            flush=True,
        )


if __name__ == "__main__":
    main()
