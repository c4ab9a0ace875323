import numpy as np
import torch

from flows.training.star_galaxy_inputs import CONFIGURATIONS, chosen_bands, hide_bands, standardised, views_of
from tests.flows.training.star_galaxy_support import cutouts, sample


def test_configurations_are_those_of_the_source():
    assert list(CONFIGURATIONS.values()) == [tuple(range(8)), (0, 1, 2, 3), (0, 4), (1, 5), (2, 6), (3, 7)]


def test_every_plane_is_z_scored():
    given = cutouts(1).cutouts.copy()
    given[0, 1] = np.nan
    given[1, 2] = 4.0
    made = standardised(given).float()
    assert (made[0, 1] == 0).all()
    assert (made[1, 2] == 0).all()
    rest = made[5:]
    torch.testing.assert_close(rest.mean((2, 3)), torch.zeros(45, 8), atol=2e-3, rtol=0)
    torch.testing.assert_close(rest.std((2, 3), correction=0), torch.ones(45, 8), atol=5e-3, rtol=0)


def test_views_are_joined_in_order():
    data = cutouts(1)
    whole, part = views_of(data, 4, 26), views_of(data.take(np.array([7])), 4, 26)
    torch.testing.assert_close(whole[1][7:8], part[1])
    assert whole[0].dtype == torch.float16


def test_hides_bands_but_never_all():
    inputs = sample(cutouts(4)).inputs
    *_, usable, has_psf = hide_bands(inputs, torch.Generator().manual_seed(1))
    assert usable.any(1).all()
    assert 0.3 < usable.all(1).float().mean() < 0.6
    assert 0.5 < usable.float().mean() < 0.85
    assert not (has_psf & ~usable).any()
    assert 0.1 < (~has_psf.any(1)).float().mean() < 0.45


def test_chooses_planes():
    inputs = sample(cutouts(1)).inputs
    *_, usable, has_psf = chosen_bands(inputs, CONFIGURATIONS["(2,6)"])
    assert usable.all(0).tolist() == has_psf.all(0).tolist() == [False, False, True, False]
    *_, usable, has_psf = chosen_bands(inputs, CONFIGURATIONS["0-3"])
    assert usable.all()
    assert not has_psf.any()
