"""Completeness and false streaks, beside other detectors and tools, and the vetoes."""
