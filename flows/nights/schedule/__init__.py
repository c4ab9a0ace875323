"""Nights scheduled by a Prefect server."""
