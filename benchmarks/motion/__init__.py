"""Tracklets, known objects, and the association of detections."""
