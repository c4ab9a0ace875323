"""Measurement of candidates, and how far each is to be trusted."""
