"""Subtraction of a template: blocks, kernels that match two PSFs, and what they leave at stars."""
