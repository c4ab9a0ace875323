"""What things are: datasets, tiles, exposures, stages, settings, errors, model cards."""
