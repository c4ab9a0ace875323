"""What 200 labels of false streaks do for another night:

    python -m benchmarks.detection.vetting_labels [--work FOLDER]

A verdict for the candidates of the default search is trained on exposures that are drawn as difference images. On a
simulated night that is subtracted by ZOGY, which it has not seen, the 200 false candidates that it believes most are
called bogus, as somebody would who looks through the list from the top. It is trained once more with these labels
as `nightstride train detect --reliability-only --labels` does. Both are then compared on another such night: false
streaks per image where both find as many of the streaks of S/N 7 and more, with a 95 % interval by resampling the
exposures.
"""

import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.support.command_line import command_line
from benchmarks.support.page import machine, measured_with, table
from flows.runtime.parallel import map_in_processes
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from flows.training.candidates import (
    described_candidates,
    label_candidates,
    publishable,
    unless_flooded,
    without_science,
)
from flows.training.example_sets import make_examples
from flows.training.examples import Wanted
from flows.training.labels import labelled_candidates, read_labels, repeated
from flows.training.reliability import LABEL_SHARE, ReliabilityPlan, learn_reliability
from flows.training.reliability_fit import ReliabilityFit
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.settings import NOISE_ALONE
from schemas.vetting import LABEL, Verdict

SHAPE, LABELS, SEED = (1000, 1000), 200, 5
DRAWN = Wanted("ztf", 20, 12, SHAPE)
NIGHT = Wanted("ztf", 24, 8, SHAPE, subtract="zogy", lengths=(0.3, 60.0))
DETECTOR, LEAST_SNR = "streak_net", 7.0
PLAN = ReliabilityPlan(ReliabilityFit(networks=2, epochs=8))


def main():
    chosen = command_line(__doc__, work=(Path, "folder for the exposures; used again if they are there"), workers=1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="nightstride-labels-") as scratch:
        work, workers = chosen.work or Path(scratch), chosen.workers
        train = make_examples(work / "train", DRAWN, SEED, workers)
        vetted = make_examples(work / "vetted", NIGHT, SEED + 10, workers)
        other = make_examples(work / "other", replace(NIGHT, count=16), SEED + 11, workers)
        learn = [one for pair in searched(train, workers, wrong_psf=True) for one in pair]
        learn = [without_science(one, PLAN.hidden, SEED + n) for n, one in enumerate(learn)]
        base = learn_reliability(DETECTOR, learn, PLAN, {}, SEED, print)
        labels = label(vetted, base, Path(scratch) / "labels.parquet", Path(scratch) / "out")
        said = labelled_candidates(labels, DETECTOR, workers, print)
        more = repeated(said, sum(int(one.known.sum()) for one in learn), LABEL_SHARE)
        taught = learn_reliability(DETECTOR, learn + more, PLAN, {}, SEED, print)
        found = [publishable(one, NOISE_ALONE) for (one,) in searched(other, workers, wrong_psf=False)]
        print(measured_with([f"detect/{DETECTOR}"]), machine(1), compare(found, base, taught), sep="\n\n")


def searched(examples, workers, wrong_psf):
    """Candidates of each exposure; those with too many, which a night would quarantine, are left out."""
    search = partial(unless_flooded, detector=DETECTOR, wrong_psf=wrong_psf)
    return [one for one in map_in_processes(search, examples, workers) if one]


def odds(verdict, one):
    """How sure a verdict is of candidates; calibration would not change their order."""
    return verdict.log_odds(one.features, one.stamps.astype(np.float32))


def label(examples, verdict, path, out):
    """Call the most believed false candidates bogus; return the labels, of an output folder with the exposures."""
    rows = []
    for example in examples:
        info = TileStore.open(example.store).info
        key = ExposureKey(night=info.night, visit=info.visit, detector=info.detector)
        tile_path(out, key).parent.mkdir(parents=True, exist_ok=True)
        tile_path(out, key).symlink_to(example.store.resolve())
        Ledger(out).put(ExposureRecord(
            **key.model_dump(), source_uri="simulated", source_sha256="0" * 64, digest="0" * 64, software="0",
            finished_at="2026-01-01T00:00:00+00:00",
        ))  # fmt: skip
        places, one = described(example)
        score = odds(verdict, one)
        rows.extend((float(score[n]), key, *places[n]) for n in np.flatnonzero(one.label == 0).tolist())
    rows.sort(key=lambda row: -row[0])
    when = datetime(2026, 1, 1, tzinfo=UTC)
    said = [
        {"diaSourceId": n, "visit": key.visit, "detector": key.detector, "x": x, "y": y, "label": str(Verdict.BOGUS),
         "user": "simulated", "time": when}
        for n, (_, key, x, y) in enumerate(rows[:LABELS])
    ]  # fmt: skip
    print(f"{len(said)} labels; log odds {rows[0][0]:.1f} to {rows[len(said) - 1][0]:.1f}")
    pq.write_table(pa.Table.from_pylist(said, schema=LABEL.schema), path)
    return read_labels(path, [out])


def described(example):
    """Places of the candidates of an exposure, px, and the candidates."""
    found = described_candidates(example, DETECTOR)
    keep = found.table["snr"].to_numpy() >= NOISE_ALONE
    places = np.stack([found.table[name].to_numpy() for name in ("x", "y")], axis=1)[keep]
    return places.tolist(), publishable(label_candidates(found, example.truth), NOISE_ALONE)


def compare(found, base, taught):
    """Markdown table of both verdicts on a night: false streaks per image at equal completeness."""
    scores = {name: [odds(one, part) for part in found] for name, one in (("base", base), ("with", taught))}
    present = sum(int((one.targets.counted & (one.snr >= LEAST_SNR)).sum()) for one in found)
    rows = []
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        counts = {name: false_at(found, values, share) for name, values in scores.items()}
        if any(one is None for one in counts.values()):
            continue
        before, after = counts["base"], counts["with"]
        rng = np.random.default_rng(1)
        drawn = rng.integers(0, len(found), (4000, len(found)))
        low, high = np.percentile((after[drawn] - before[drawn]).mean(1), [2.5, 97.5])
        rows.append((f"{share:.0%}", f"{before.mean():.2f}", f"{after.mean():.2f}", f"{low:+.2f} to {high:+.2f}"))
    heads = ("completeness, S/N ≥ 7", "without labels", f"with {LABELS} labels", "difference, 95 %")
    return f"{len(found)} exposures, {present} streaks of S/N ≥ 7.\n\n{table(heads, rows)}"


def false_at(found, scores, share):
    """False streaks on each exposure where a share of the bright streaks is found; None where it never is."""
    real, asked = [], 0
    for one, score in zip(found, scores, strict=True):
        bright = one.targets.counted & (one.snr >= LEAST_SNR)
        asked += int(bright.sum())
        on = (one.label == 1) & (one.target >= 0)
        real.extend(score[on][bright[one.target[on]]].tolist())
    wanted = round(share * asked)
    if wanted > len(real) or not wanted:
        return None
    level = sorted(real, reverse=True)[wanted - 1]
    return np.array(
        [float(((one.label == 0) & (score >= level)).sum()) for one, score in zip(found, scores, strict=True)]
    )


if __name__ == "__main__":
    main()
