"""Cutouts of the objects of a night."""

from schemas.dataset import ArrayOf

SIDE = 26
"""Of a cutout, px."""

CENTRE = 13
"""Row and column of the pixel that holds the object, 0-based."""

CUTOUTS = ArrayOf("cutouts", "float32", ("object", "plane", "y", "x"), "nJy")
"""Row n is that of the n-th row of `object`. Planes: science image of each band of ``cut_cutouts.bands``, nJy, less its
background; then the PSF of each band, of unit sum. NaN: outside the image, a pixel without value, a band that is
missing (both its planes)."""
