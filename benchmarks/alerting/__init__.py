"""Alerts: speed, checks, kills, and how long after a visit they are out."""
