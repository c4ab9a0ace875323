"""Faults that are really done to a night, and what is left of it: ``python -m benchmarks.faults``."""
