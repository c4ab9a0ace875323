"""Alerts and reports that leave the output folder."""
