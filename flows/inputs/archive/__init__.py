"""Exposures from public archives, downloaded."""
