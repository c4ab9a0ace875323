import numpy as np
import pytest

from kernels.line_bank import line_bank
from kernels.line_peaks import line_peaks
from kernels.line_refine import refine_lines
from kernels.line_search import best_lines, point_map
from kernels.psf import GaussianMixture
from kernels.trail_model import trail_image

WHITE = np.array([[1.0]])
BANK = line_bank(2.3, WHITE)
PSF = GaussianMixture(np.array([1.0]), np.array([np.sqrt((2.3 / np.sqrt(8 * np.log(2))) ** 2 + 1 / 12)]))


def refined(image):
    snr = point_map(image.astype(np.float32), np.ones(image.shape, bool), 0.0, 1.0, BANK)
    peaks = line_peaks(*best_lines(snr, BANK, 6.0), snr, BANK.scale, 4.5)
    return peaks, refine_lines(snr, peaks, BANK, 6.0)


@pytest.mark.parametrize("length", [20.0, 37.0, 55.0])
@pytest.mark.parametrize("angle", [3.0, 41.0, 86.0, 128.0])
def test_line_is_nearer_to_the_trail_than_the_bank_has_it(length, angle):
    peaks, lines = refined(8 * length * trail_image((180, 180), 91.3, 88.6, length, angle, PSF))
    best = int(peaks.snr.argmax())
    dx, dy, size, turn, snr = lines[best]
    assert np.hypot(peaks.x[best] + dx - 91.3, peaks.y[best] + dy - 88.6) < 1.5
    assert abs((turn - angle + 90) % 180 - 90) < 1.5
    assert abs(size - length) < 4
    assert snr >= peaks.snr[best] * 0.95


def test_no_candidates_no_lines():
    _, lines = refined(np.zeros((100, 100)))
    assert lines.shape == (0, 5)
