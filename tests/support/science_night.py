"""A small patch of sky on several science images, drawn by GalSim."""

from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
from astropy.wcs import WCS

from schemas.exposure import PsfModel
from tests.support.cards import as_text, gnomonic
from tests.support.exposure import exposure_info
from tests.support.science import BETA, FWHM, SIGMA, drawn

SHAPE = (160, 180)
ZERO_POINT = 26.0


def header(rotation=0.0, shift=(0.0, 0.0)):
    """Cards of a WCS of 1 arcsec per pixel, north up and east left but for a rotation."""
    return as_text(gnomonic([150.0, 20.0], [90.5 + shift[0], 80.5 + shift[1]], rotation=rotation))


def exposure(visit, band, rotation=0.0, shift=(0.0, 0.0), **changed):
    return exposure_info(**{
        "visit": visit, "band": band, "shape": SHAPE, "psf": PsfModel(fwhm_px=FWHM, beta=BETA), "noise": SIGMA,
        "gain": 1e6, "zero_point": ZERO_POINT, "wcs_header": header(rotation, shift), "planes": ("science",),
    } | changed)  # fmt: skip


@dataclass
class FakeNight:
    """A `NightPixels` of images in memory; ``read_of`` tells what was read."""

    planes: dict
    infos: list
    read_of: list = field(default_factory=list)
    source: object = None

    def exposures(self):
        return self.infos

    def read(self, info, plane):
        self.read_of.append((info.visit, plane))
        return self.planes[info.visit][plane]

    def identity(self, info):
        return None

    def room(self, info):
        return nullcontext(np.zeros)

    def rows(self, info, dataset):
        return dataset.empty() if self.source is None else self.source


def science(info, places, seed):
    """Draw sources (ra, dec, flux in pixel units, half-light radius) on an exposure with a sky of 300."""
    wcs = WCS(info.wcs_header and cards_of(info.wcs_header))
    ra, dec, flux, radius = np.array(places).T
    x, y = wcs.all_world2pix(ra, dec, 0)
    sources = [(i, j, f, r, 1.0, 0.0) for i, j, f, r in zip(x, y, flux, radius, strict=True)]
    return drawn(sources, SHAPE, seed=seed) + np.float32(300)


def cards_of(text):
    from astropy.io.fits import Header

    return Header.fromstring(text, sep="\n")


def sky_grid(step=30.0, margin=30.0):
    """(ra, dec) of a grid of places around the middle of the images."""
    wcs = WCS(cards_of(header()))
    x, y = np.meshgrid(np.arange(margin, SHAPE[1] - margin, step), np.arange(margin, SHAPE[0] - margin, step))
    return wcs.all_pix2world(x.ravel(), y.ravel(), 0)
