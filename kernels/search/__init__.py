"""Search of an image, which scores windows, cells, boxes or lines."""
