"""Exposures from files, archives and announcements."""
