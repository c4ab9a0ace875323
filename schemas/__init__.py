"""Types and forms: datasets, tiles, exposures, stages, settings, errors, model cards."""
