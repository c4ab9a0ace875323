"""Types and data schemas: datasets, tiles, exposures, stages, settings, errors, model cards."""
