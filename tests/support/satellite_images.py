"""Satellites and aeroplanes drawn with numpy alone, and the hits that a search gives on them."""

import math

import numpy as np
import pyarrow as pa

from schemas.dia_source import HIT
from tests.support.cards import as_text, gnomonic
from tests.support.exposure import exposure_info

SIGMA, FWHM = 10.0, 2.3
WINDOW, STRIDE = 26, 7


def exposure(shape):
    """Return metadata of an exposure of 30 s with 1 arcsec per px: an asteroid's trail is at most 250 px long."""
    text = as_text(gnomonic([150.0, 10.0], [1.0, 1.0]))
    return exposure_info(shape, fwhm_px=FWHM, zero_point=26.0, noise=SIGMA, gain=5.0, wcs_header=text)


class Sky:
    """Image to draw on, with the places that are lit."""

    def __init__(self, shape=(700, 700), seed=1):
        self.image = np.random.default_rng(seed).normal(0, SIGMA, shape).astype(np.float32)
        self.mask = np.zeros(shape, np.uint16)
        self._lit = []

    def line(self, x, y, length, angle, peak, rhythm=None):
        """Draw a line of a brightness (peak, sigma) that ``rhythm``, 0 to 1, changes along it."""
        ny, nx = self.image.shape
        theta = math.radians(angle)
        along = np.arange(-length / 2, length / 2, 0.25)
        share = np.ones(len(along)) if rhythm is None else rhythm(along)
        px, py = x + along * math.cos(theta), y + along * math.sin(theta)
        inside = (px > -9) & (py > -9) & (px < nx + 9) & (py < ny + 9) & (share > 0.02)
        alpha = FWHM / (2 * math.sqrt(2 ** (1 / 3) - 1))
        reach = 40 if peak > 100 else 20
        # A Moffat profile of slope 3, summed over points every quarter of a pixel.
        ridge = 0.25 / alpha * 0.8488 / math.sqrt(math.pi) * 2 / math.sqrt(math.pi)
        for qx, qy, part in zip(px[inside], py[inside], share[inside], strict=True):
            x0, x1 = max(0, int(qx) - reach), min(nx, int(qx) + reach + 1)
            y0, y1 = max(0, int(qy) - reach), min(ny, int(qy) + reach + 1)
            if x0 < x1 and y0 < y1:
                r2 = np.square(np.arange(x0, x1) - qx)[None, :] + np.square(np.arange(y0, y1) - qy)[:, None]
                self.image[y0:y1, x0:x1] += np.float32(peak * SIGMA * part * ridge) / (1 + r2 / alpha**2) ** 3
        self._lit.append(np.stack([px, py])[:, inside & (share > 0.3)][:, ::8])
        return self

    def hits(self):
        """Return the windows whose middle sees something lit."""
        ny, nx = self.image.shape
        near = np.zeros((1 + (ny - WINDOW) // STRIDE, 1 + (nx - WINDOW) // STRIDE), bool)
        for px, py in np.concatenate(self._lit, axis=1).T:
            r0, r1 = math.ceil((py - 21.5) / STRIDE), math.floor((py - 3.5) / STRIDE)
            c0, c1 = math.ceil((px - 21.5) / STRIDE), math.floor((px - 3.5) / STRIDE)
            near[max(r0, 0) : max(r1 + 1, 0), max(c0, 0) : max(c1 + 1, 0)] = True
        row, column = np.nonzero(near)
        columns = {"row": np.int32(row), "column": np.int32(column), "logit": np.full(len(row), 3, np.float32)}
        return pa.table(columns, schema=HIT.schema)


def blinking(period, duty, floor=0.0):
    """Return dashes along a trail, soft ends: ``duty`` of each ``period`` (px) at full brightness, else ``floor``."""

    def rhythm(along):
        inside = (duty / 2 - np.abs((along / period + 0.31) % 1 - 0.5)) * period
        return floor + (1 - floor) / (1 + np.exp(-np.clip(4 * inside, -50, 50)))

    return rhythm
