"""Forced photometry of a list of targets on the exposures of an output folder."""
