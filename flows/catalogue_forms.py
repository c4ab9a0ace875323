"""Declared forms of the tables that are published."""

from schemas.dataset import TableOf
from schemas.forced_source import FORCED_SOURCE
from stages import PIPELINE


def declared_tables() -> dict[str, TableOf]:
    """Return the declared form of each table that is published, by its name."""
    published = (*(stage.gives for stage in PIPELINE), FORCED_SOURCE)
    return {dataset.name: dataset for dataset in published if isinstance(dataset, TableOf)}
