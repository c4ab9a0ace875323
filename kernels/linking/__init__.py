"""Motion among detections: what stays where it is, and tracklets of what moves."""
