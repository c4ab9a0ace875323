"""Pixel planes of an exposure or of a tile of it."""

from schemas.dataset import ArrayOf

DIFFERENCE = ArrayOf("difference", "float32", ("y", "x"), "pixel_unit")
MASK = ArrayOf("mask", "uint16", ("y", "x"), "")
VARIANCE = ArrayOf("variance", "float32", ("y", "x"), "pixel_unit**2")
SCIENCE = ArrayOf("science", "float32", ("y", "x"), "pixel_unit")
TEMPLATE = ArrayOf("template", "float32", ("y", "x"), "pixel_unit")
