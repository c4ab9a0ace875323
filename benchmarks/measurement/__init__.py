"""Bias and errors of positions, lengths and fluxes."""
