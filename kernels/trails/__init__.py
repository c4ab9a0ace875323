"""Trails: their geometry, models, fits and templates, and the grouping of hits into candidates."""
