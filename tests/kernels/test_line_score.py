import numpy as np
import pytest
from scipy.signal import correlate2d

from kernels.candidate_search import find_candidates
from kernels.line_score import NOISE_ALONE, line_score
from kernels.matched_filter import filtered_noise, template_snr
from kernels.oracle import oracle_threshold
from kernels.plane import Plane
from kernels.psf import GaussianMixture
from kernels.trail_model import trail_image

NEAR = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])
PSF = GaussianMixture(np.array([1.0]), np.array([np.sqrt((2.3 / np.sqrt(8 * np.log(2))) ** 2 + 1 / 12)]))


def plane_of(image):
    return Plane(image.astype(np.float32), np.ones(image.shape, bool), 0.0, 1.0, NEAR, 2.3)


@pytest.mark.parametrize(("length", "angle"), [(0, 0), (10, 30), (25, 110), (45, 68), (58, 140)])
def test_score_is_that_of_direct_correlation_with_the_templates_image(length, angle):
    template = trail_image((160, 160), 80.0, 80.0, length, angle, PSF)
    image = 60 / template_snr(1.0, template, 1.0, NEAR) * template
    image += np.random.default_rng(1).normal(0, 0.3, image.shape)
    plane = plane_of(image)
    snr, peaks = find_candidates(plane, 4.5)
    score = line_score(plane, snr, peaks)
    small = trail_image((101, 101), 50.0, 50.0, length, angle, PSF)
    direct = correlate2d(image, small, mode="same") / filtered_noise(small, 1.0, NEAR)
    reached = np.sqrt(2 * score.max() + NOISE_ALONE**2)
    assert 0.8 < reached / direct[74:87, 74:87].max() < 1.02


def test_score_is_even_at_the_highest_peak_of_noise_alone():
    assert pytest.approx(oracle_threshold(1.0, 3080 * 3072), abs=0.01) == NOISE_ALONE


def test_brighter_is_better():
    template = trail_image((160, 160), 80.0, 80.0, 12.0, 30.0, PSF)
    best = []
    for snr in (8, 20, 100):
        plane = plane_of(snr / template_snr(1.0, template, 1.0, NEAR) * template)
        best.append(line_score(plane, *find_candidates(plane, 4.5)).max())
    assert best[0] < best[1] < best[2]
