"""Broken files, and alarms about nights in which something is wrong."""
