"""Positions and times on the sky."""
