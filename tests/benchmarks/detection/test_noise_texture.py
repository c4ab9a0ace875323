import numpy as np
import pytest

from benchmarks.detection.noise_texture import SIGMA, image, shares
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_model import trail_image
from schemas.settings import DetectSettings


@pytest.mark.parametrize("weight", [-0.1, 0.0, 0.15])
def test_noise_has_the_texture_told_and_sources_their_signal_to_noise(weight):
    drawn, empty = image(weight, 2.4, 20.0, seed=3), image(weight, 2.4, 1e-9, seed=3)
    told = np.array(drawn.info.noise_correlation)
    noise = empty.pixels / SIGMA
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert (noise[:, 1:] * noise[:, :-1]).mean() == pytest.approx(told[2, 3], abs=0.01)
    template = trail_image((61, 61), 30.0, 30.0, 0.0, 0.0, moffat_mixture(2.4, 3.0))
    light = (drawn.pixels - empty.pixels).sum() / len(drawn.places)
    assert template_snr(light, template, SIGMA, told) == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize("weight", [-0.1, -0.06, 0.0, 0.08])
def test_the_default_detector_finds_sources_whatever_the_texture_of_the_noise(weight):
    candidates, published = shares(image(weight, 3.0, 20.0, side=504), DetectSettings().model)
    assert candidates >= 0.95
    assert published >= 0.9
