"""Quasars of SDSS that the stage `spectral_class` would find on images, with and without u.

`python -m benchmarks.catalogues.night_quasars skyserver_dr14.csv`: the table that the model `colours` was made of, of
which it never saw a fifth of the plates. The image is taken to say "point source" or "galaxy", rightly, with
probability 0.99, and each row to lie at 60 deg of galactic latitude.
"""

import sys
from pathlib import Path

import numpy as np

from flows.pipeline.models import load_model
from flows.training.spectral_sample import archive_sample, held_out_rows, with_stars
from kernels.objects.class_model import superclass_verdict
from kernels.objects.sky_prior import in_r, sky_shares
from schemas.archive_columns import BANDS
from schemas.classes import SUPERCLASSES

SURE, PLACE = 0.99, (150.0, 35.0)
STARS, SEED, HELD = 4000, 1, 0.2  # of the model's training


def unseen(model, path):
    """Return the rows of the table that the model was neither fitted nor calibrated on."""
    table = archive_sample(path, "superclass", model.features)
    return table.take(held_out_rows(with_stars(table, STARS, SEED), HELD, SEED)[: len(table.code)])


def main(path):
    """Print the share of each class that is named rightly."""
    model = load_model("superclass", "colours")
    rows = unseen(model, path)
    count = model.card.training["rows_per_class"]
    training = np.array([count[name] for name in SUPERCLASSES]) / sum(count.values())
    point = np.where(rows.code == SUPERCLASSES.index("galaxy"), 1 - SURE, SURE)
    ra, dec = (np.full(len(point), axis) for axis in PLACE)
    sky = sky_shares(ra, dec, in_r({"r": rows.columns["r"]}))
    for bands in (BANDS, BANDS[1:]):
        colours = model({band: rows.columns[band] for band in bands})
        has_u = np.full(len(point), "u" in bands)
        verdict = superclass_verdict(colours, training, sky, has_u, point, np.zeros(len(point)))
        said = np.where(verdict.outlier <= 1, verdict.probability.argmax(1), -1)
        for code, name in enumerate(SUPERCLASSES):
            among = said[rows.code == code]
            right, unknown = (among == code).mean(), (among < 0).sum()
            print(f"{''.join(bands)}, {name}: {right:.3f} of {len(among)}, {unknown} unknown")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
