"""Scanning page: candidates on an own server, verdicts on them, and labels made of these."""
