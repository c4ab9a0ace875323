import numpy as np
import pytest
import torch

from flows.training.cell_scan import bright_places, hard_places, spots, spots_on
from flows.training.field import open_field
from kernels.dense_search import DenseSearch
from kernels.plane import Places, Plane
from kernels.psf import moffat_mixture
from kernels.trail_model import trail_image
from tests.flows.model_support import bright_net
from tests.flows.training.field_support import field_of

PSF = moffat_mixture(2.2, 3.0)


@pytest.fixture(scope="module")
def search():
    return DenseSearch(bright_net(), torch.device("cpu"), None)


def test_cells_that_touch_are_one_spot_centred_on_the_brightest():
    logits = np.full((30, 40), -5.0, np.float32)
    logits[4, 6], logits[5, 7] = 2.0, 2.0
    logits[20, 10:15] = [-1.5, 3.0, 9.0, 3.0, -1.5]
    logits[0, 39] = -1.9
    found = spots(logits, -2.0)
    order = np.argsort(found.y)
    np.testing.assert_allclose(found.y[order], [1.5, 4.5 * 4 + 1.5, 20 * 4 + 1.5])
    np.testing.assert_allclose(found.x[order], [39 * 4 + 1.5, 6.5 * 4 + 1.5, 12 * 4 + 1.5])
    np.testing.assert_allclose(found.peak[order], [-1.9, 2.0, 9.0])


def test_nothing_above_the_floor():
    found = spots(np.full((5, 6), -9.0, np.float32), -2.0)
    assert len(found.x) == len(found.y) == len(found.peak) == 0


def test_spots_of_a_search_lie_on_what_shines(search):
    places = [(40.0, 52.0), (150.3, 90.8), (30.0, 120.0)]
    pixels = sum(80 * trail_image((140, 200), x, y, 0.0, 0.0, PSF) for x, y in places)
    found = spots_on(search, field_of(pixels), 0.0)
    assert len(found.x) == 3
    for x, y in places:
        assert np.hypot(found.x - x, found.y - y).min() < 4
    field = field_of(pixels)
    plane = Plane(field.pixels, field.usable, 0.0, 1.0, np.array(field.info.noise_correlation), 2.2)
    logits, _ = search.search(plane, Places(0, 0, 35, 50, 4))
    assert found.peak.max() == pytest.approx(logits.max())


def test_hard_places_hold_nothing_real_and_all_else(search):
    places = [(40.0, 52.0), (150.3, 90.8), (30.0, 120.0), (90.0, 30.0)]
    pixels = sum(80 * trail_image((140, 200), x, y, 0.0, 0.0, PSF) for x, y in places)
    rows = [
        ("streak", 150.0, 91.0, 0.0, 0.0, 20.0, 1.0),  # found
        ("point", 31.0, 119.0, 0.0, 0.0, 20.0, 1.0),  # real, if not asked for
        ("streak", 91.0, 31.0, 0.0, 0.0, -20.0, 1.0),  # a hole: what shines there is false
    ]
    found = hard_places(search, field_of(pixels, rows), 0.0)
    assert found.shape == (2, 3)
    order = np.argsort(found[:, 0])
    np.testing.assert_allclose(found[order, :2], [[40, 52], [90, 30]], atol=3)
    assert ((found[:, 2] > 0) & (found[:, 2] < 1.1)).all()


def test_hard_places_of_an_exposure_are_clear_of_its_sources(search, examples):
    field = open_field(examples[0])
    found = hard_places(search, field, -2.0)
    assert len(found) > 5
    for n in np.flatnonzero(~field.dark):
        along = np.linspace(-0.5, 0.5, 401) * field.targets.length[n]
        theta = np.radians(field.targets.angle[n])
        xs, ys = field.targets.x[n] + along * np.cos(theta), field.targets.y[n] + along * np.sin(theta)
        assert np.hypot(found[:, :1] - xs, found[:, 1:2] - ys).min() > 9.99


def test_bright_places_are_the_peaks_of_the_smoothed_image():
    places = np.array([(40, 52), (150, 90), (30, 120), (100, 20)])
    pixels = np.random.default_rng(0).normal(0, 1, (140, 200))
    pixels += sum(60 * trail_image((140, 200), x, y, 0.0, 0.0, PSF) for x, y in places)
    usable = np.ones(pixels.shape, bool)
    usable[10:30, 90:110] = False
    found = bright_places(field_of(pixels, usable=usable), 4.5)
    assert len(found) <= 5
    for x, y in places[:3]:
        assert np.abs(found[:, :2] - [x, y]).max(1).min() <= 1
    assert np.hypot(*(found[:, :2] - places[3]).T).min() > 8
    assert (found[:, 2] == 1).all()
