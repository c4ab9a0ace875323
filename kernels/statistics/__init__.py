"""Shares, scores, matches and drifts."""
