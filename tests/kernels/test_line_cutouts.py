import numpy as np
import pytest

from kernels.candidate_judges import lines_of
from kernels.candidate_search import find_candidates
from kernels.line_cutouts import CHANNELS, LONG, WIDE, line_cutouts
from kernels.plane import Plane
from kernels.psf import moffat_mixture
from kernels.trail_model import trail_image


@pytest.mark.parametrize("angle", [0.0, 37.0, 90.0, 151.0])
def test_a_trail_lies_along_the_rows(angle):
    image = (300 * trail_image((180, 180), 90.0, 90.0, 40.0, angle, moffat_mixture(2.3, 3.0))).astype(np.float32)
    usable = np.ones(image.shape, bool)
    plane = Plane(image, usable, 0.0, 1.0, np.array([[1.0]]), 2.3)
    snr, peaks = find_candidates(plane, 4.5)
    lines = lines_of(plane, snr, peaks)
    best = int(peaks.snr.argmax())
    cutout = line_cutouts(plane, snr, peaks, lines)[best]
    assert cutout.shape == (CHANNELS, WIDE, LONG)
    light = np.maximum(cutout[0], 0)
    across = light.sum(1) @ np.arange(WIDE) / light.sum()
    assert across == pytest.approx((WIDE - 1) / 2, abs=0.7)
    assert light[8:16].sum() > 0.75 * light.sum()
    assert (cutout[2] == 0).all()


def test_beyond_the_plane_nothing_counts():
    image = (100 * trail_image((60, 60), 3.0, 30.0, 0.0, 0.0, moffat_mixture(2.3, 3.0))).astype(np.float32)
    plane = Plane(image, np.ones(image.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    snr, peaks = find_candidates(plane, 4.5)
    cutouts = line_cutouts(plane, snr, peaks, lines_of(plane, snr, peaks))
    assert cutouts[0, 2].max() == pytest.approx(1)
    assert 0.2 < cutouts[0, 2].mean() < 0.6
