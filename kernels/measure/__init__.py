"""Measurement of candidates, and their reliability."""
