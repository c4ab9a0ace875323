"""Classes of rows dimmed and reddened by more dust than the models have seen.

`python -m benchmarks.catalogues.spectral_dust skyserver_dr14.csv`: rows of the table that the model `photometry` never
saw, and simulated stars of all types, without redshift and without an image.
"""

import sys
from pathlib import Path

import numpy as np

from flows.pipeline.models import load_model
from flows.simulation.star_colours import EXTINCTION, star_table
from flows.training.spectral_sample import archive_sample, held_out_rows
from schemas.archive_columns import BANDS

HELD, SEED = 0.2, 1  # of the model's training
STARS, STARS_SEED = 8000, 5
BASE, MORE = 0.9, (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)


def judged(model, columns, code, dust):
    """Return cells: share that is not unknown, right of these, mean probability, right where it is high."""
    dimmed = {band: columns[band] + extinction * dust for band, extinction in zip(BANDS, EXTINCTION, strict=True)}
    probability, outlier = model({band: magnitude.astype(np.float32) for band, magnitude in dimmed.items()})
    known = np.isfinite(probability[:, 0]) & (np.nan_to_num(outlier, nan=9) <= 1)
    best, right = probability.max(1), probability.argmax(1) == code
    sure = known & (best >= BASE)
    parts = (known.mean(), right[known].mean(), best[known].mean())
    return " | ".join([*(f"{part:.3f}" for part in parts), f"{right[sure].mean():.3f} of {sure.sum()}"])


def main(path):
    """Print a table for the superclass and one for the stellar class."""
    model = load_model("superclass", "photometry")
    table = archive_sample(path, "superclass", model.features)
    rows = table.take(held_out_rows(table, HELD, SEED))
    stars, types = star_table(STARS, STARS_SEED)
    cases = (("superclass", model, rows.columns, rows.code),)
    cases += (("stellar class", load_model("star_subclass", "ugriz"), stars, types),)
    print("| | E(B-V) added | known | right | mean probability | right where it is 0.9 and more |\n|" + " --- |" * 6)
    for name, one, columns, code in cases:
        for dust in MORE:
            print(f"| {name} | {dust} | {judged(one, columns, code, dust)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
