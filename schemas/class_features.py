"""What the classifiers of catalogue rows see of a row."""

from itertools import combinations

from schemas.archive_columns import BANDS

COLOURS = tuple(f"{blue}-{red}" for blue, red in combinations(BANDS, 2))
"""All ten: those of the bands that are there remain when a band is missing."""

FEATURE_SETS = {
    "n5": BANDS,
    "n8": (*BANDS, "petroRad_r", "redshift", "g-r"),
    "photometry": (*COLOURS, "r"),
    "photometry-redshift": (*COLOURS, "r", "redshift"),
    "colours": COLOURS,
}
"""Name -> features. ``n5`` and ``n8`` have as many as those of the classification study that this stage is measured
against; ``photometry`` needs no spectrum; ``colours`` know nothing of how bright a survey chose its targets."""


def columns_of(features: tuple[str, ...]) -> tuple[str, ...]:
    """Give the columns of a table that features are made of, in the order of their first use."""
    return tuple(dict.fromkeys(column for feature in features for column in feature.split("-")))
