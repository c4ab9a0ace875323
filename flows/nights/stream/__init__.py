"""Streams of exposures, and archives of nights searched behind everything else."""
