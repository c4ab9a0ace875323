"""Comparison of results with the truth."""
