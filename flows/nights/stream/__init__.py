"""Exposures that keep coming: streams, and archives of nights searched behind everything else."""
