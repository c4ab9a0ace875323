"""Fits of Deep SVDD and of its rivals; whole trainings: test_anomaly.py."""

import numpy as np
import pytest
import torch

from flows.training.svdd_fit import (
    SvddPlan,
    _flat,
    check_plan,
    fit_rivals,
    fit_sphere,
    picture_moments,
    reconstruction_error,
)
from kernels.pictures.svdd import SvddEncoder
from schemas.errors import Misconfigured

SIDE = 20
LIGHT = {(4, 15): 40.0, (5, 15): 90.0, (5, 16): 60.0, (7, 18): 30.0, (14, 4): 20.0, (9, 10): 10.0}
"""Row and column -> what stands out there."""

COLOURS = np.array([0.5, 1.0, 1.5])


def picture():
    """An uneven sky about 10, which is the median, and light in three planes whose mean is that of `LIGHT`."""
    sky = 10 + np.resize([-1.0, 1.0, 0.0], (SIDE, SIDE))
    for place, light in LIGHT.items():
        sky[place] = 10 + 3 * 1.4826 + light
    return torch.from_numpy((COLOURS[:, None, None] * sky)[None])


def test_moments_are_those_of_the_light_that_stands_out():
    found = picture_moments(picture())[0]
    (y, x), light = np.array(list(LIGHT)).T, np.array(list(LIGHT.values()))
    places = (np.stack([x, y]) - 9.5) / SIDE
    centre, spread = np.average(places, axis=1, weights=light), np.cov(places, aweights=light, ddof=0)
    large, small = np.linalg.eigvalsh(spread)[::-1]
    image = np.zeros((SIDE, SIDE))
    image[y, x] = light
    turned = np.rot90(image, 2)
    radius = np.hypot(*places)
    expected = [
        len(light) / SIDE**2, *abs(centre), np.sqrt(large + small), (large - small) / (large + small),
        abs(image - turned).sum() / light.sum(),
        *(light[radius < limit].sum() / light.sum() for limit in (0.05, 0.1, 0.2, 0.3)), *COLOURS,
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_flat_picture_has_moments_of_nothing():
    found = picture_moments(torch.full((2, 3, SIDE, SIDE), 7, dtype=torch.uint8))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, [0, 1, 2, 5, 6, 7, 8, 9]], 0)
    np.testing.assert_allclose(found[:, 10:], 1)


def test_what_principal_components_leave_is_that_of_a_singular_value_decomposition():
    rng = np.random.default_rng(3)
    normal, other = (torch.from_numpy(rng.integers(0, 256, (n, 3, 32, 32)).astype(np.uint8)) for n in (10, 4))
    scores = fit_rivals(normal, 1)
    assert list(scores) == ["isolation forest on moments", "rest of 5 principal components"]
    mean = _flat(normal).mean(0)
    axes = np.linalg.svd(_flat(normal) - mean, full_matrices=False)[2][:5]
    away = _flat(other) - mean
    left = (away**2).mean(1) - ((away @ axes.T) ** 2).sum(1) / away.shape[1]
    np.testing.assert_allclose(scores["rest of 5 principal components"](other), left, rtol=1e-4)
    assert (scores["isolation forest on moments"](other) > 0).all()


def test_an_autoencoder_that_gives_back_what_it_is_given_makes_no_error():
    pictures = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (70, 3, 8, 8)).astype(np.uint8))
    same, half = torch.nn.Identity(), torch.nn.AvgPool2d(1, divisor_override=2)
    assert reconstruction_error(same, same, pictures).tolist() == [0.0] * 70
    shrunk, whole = (reconstruction_error(same, one, pictures.float()) for one in (half, torch.nn.Threshold(2.0, 0.0)))
    np.testing.assert_allclose(shrunk, whole / 4, rtol=1e-5)  # of the half of all, and of all
    assert (whole > 0).all()


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({"nu": 0.0}, False), ({"nu": 1.0}, False), ({"nu": 0.999}, True), ({"side": 64}, True), ({"side": 65}, False),
        ({"side": 0}, False), ({"batch": 1, "epochs": 1, "pretrain_epochs": 1}, True), ({"batch": 0}, False),
        ({"epochs": 0}, False), ({"pretrain_epochs": 0}, False),
        ({"rate": 0.0}, False), ({"rate": np.nan}, False), ({"pretrain_rate": np.inf}, False), ({"decay": 0.0}, True),
        ({"decay": -1e-9}, False), ({"decay": np.nan}, False),
    ],
)  # fmt: skip
def test_numbers_of_a_plan_have_their_range(change, good):
    if good:
        check_plan(SvddPlan(**change))
    else:
        with pytest.raises(Misconfigured, match="nu" if "nu" in change else "is|are"):
            check_plan(SvddPlan(**change))


def test_a_fit_whose_loss_is_no_number_ends_with_an_error():
    pictures = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (8, 3, 64, 64)).astype(np.uint8))
    with pytest.raises(Misconfigured, match="no longer a number"):
        fit_sphere(SvddEncoder(64), pictures, SvddPlan(side=64, rate=1e30, epochs=3), 1, lambda line: None)
