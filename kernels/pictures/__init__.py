"""Colour pictures of galaxies and scenes: networks, training changes, verdicts."""
