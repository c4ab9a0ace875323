"""Nights from plan to page: runs, exposures, whole nights, records and progress."""
