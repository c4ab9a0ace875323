from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from flows.simulation.exposure import draw_layers, simulate_exposure
from flows.simulation.gallery import features, gallery, gallery_cutout
from flows.simulation.presets import find_preset


def test_cutout_reaches_beyond_the_image() -> None:
    image = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    assert gallery_cutout(image, 50.2, 40.0)[32, 32] == image[40, 50]
    corner = gallery_cutout(image, 0.0, 0.0)
    assert corner.shape == (64, 64)
    assert np.isnan(corner[:32]).all()
    assert corner[32, 32] == 0


def test_features_are_on_the_image_and_of_many_kinds() -> None:
    exposure = simulate_exposure(find_preset("ztf", shape=(1400, 1400)), 7, 0, 0)
    found = list(features(exposure, draw_layers(exposure.conditions, exposure.stars)))
    names = {name for name, _, _ in found}
    assert {"long trail", "variable", "star", "saturated star", "cosmic ray"} <= names
    ny, nx = exposure.difference.shape
    assert all(-100 < x < nx + 100 and -100 < y < ny + 100 for _, x, y in found)


@pytest.mark.slow
def test_picture_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "images" / "quadrant.png"
    gallery("ztf", 7, path)
    pixels = imread(path)
    assert pixels.shape[0] > 400
    assert pixels.std() > 0.05
    assert path.stat().st_size < 400_000
