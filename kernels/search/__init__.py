"""Search of an image: windows, cells, boxes or lines, each with a score."""
