"""Simulated exposures with known truth."""
