"""Numerical kernels: numbers in, numbers out; no I/O, no state."""
