"""Downloading exposures from public archives."""
