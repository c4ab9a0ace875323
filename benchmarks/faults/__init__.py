"""Faults done to a real run of a night, and their effects: ``python -m benchmarks.faults``."""
