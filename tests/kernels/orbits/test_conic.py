"""Orbits near a parabola against a numerical integration and the integrals of motion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from kernels.orbits.conic import near_parabola


def integrated(nearest, eccentricity, time):
    """Place and velocity by Dormand and Prince, from perihelion."""

    def change(_, state):
        return np.concatenate([state[2:], -state[:2] / np.hypot(*state[:2]) ** 3])

    start = [nearest, 0, 0, np.sqrt((1 + eccentricity) / nearest)]
    done = solve_ivp(change, (0, time), start, method="DOP853", rtol=1e-13, atol=1e-15)
    return done.y[:2, -1], done.y[2:, -1]


def at(nearest, eccentricity, time):
    place, speed = near_parabola(*(np.atleast_1d(np.asarray(one, float)) for one in (nearest, eccentricity, time)))
    return place[:, 0], speed[:, 0]


@pytest.mark.parametrize("time", [-40.0, -1e-3, 0.0, 2.0, 60.0])
@pytest.mark.parametrize(
    ("nearest", "eccentricity"),
    [(1.0, 0.0), (0.5, 0.5), (0.3, 0.985), (0.01, 0.9999), (1.0, 1 - 1e-9), (1.0, 1.0), (1.0, 1 + 1e-9), (2.0, 3.36),
     (1.36, 6.14)],
)  # fmt: skip
def test_places_are_those_of_an_integration(nearest, eccentricity, time):
    place, speed = at(nearest, eccentricity, time)
    expected = integrated(nearest, eccentricity, time)
    np.testing.assert_allclose(place, expected[0], atol=2e-9)
    np.testing.assert_allclose(speed, expected[1], atol=2e-9)


@settings(max_examples=300, deadline=None)
@given(st.floats(0.005, 30), st.floats(0.9, 20), st.floats(-600, 600))
def test_energy_momentum_and_the_shape_are_kept(nearest, eccentricity, time):
    place, speed = at(nearest, eccentricity, time)
    distance, squared = np.hypot(*place), speed @ speed
    energy = (eccentricity - 1) / (2 * nearest)
    assert squared / 2 - 1 / distance == pytest.approx(energy, rel=1e-9, abs=1e-9 * max(squared, 1 / distance))
    momentum = np.sqrt(nearest * (1 + eccentricity))
    scale = np.hypot(*place) * np.hypot(*speed)
    assert place[0] * speed[1] - place[1] * speed[0] == pytest.approx(momentum, rel=1e-9, abs=1e-11 * scale)
    assert distance + eccentricity * place[0] == pytest.approx(nearest * (1 + eccentricity), abs=1e-9 * (1 + distance))


@settings(max_examples=100, deadline=None)
@given(st.floats(0.005, 30), st.floats(0.9, 20), st.floats(0, 600))
def test_before_perihelion_it_mirrors_what_comes_after(nearest, eccentricity, time):
    (x, y), (u, v) = at(nearest, eccentricity, time)
    np.testing.assert_allclose(at(nearest, eccentricity, -time), ((x, -y), (-u, v)), rtol=1e-12, atol=1e-12)


def test_an_ellipse_comes_back_after_its_period():
    nearest, eccentricity = 0.57, 0.968
    period = 2 * np.pi * (nearest / (1 - eccentricity)) ** 1.5
    np.testing.assert_allclose(at(nearest, eccentricity, 3 * period + 1.5), at(nearest, eccentricity, 1.5), atol=1e-9)


def test_a_parabola_is_that_of_barker():
    """With q = 1 the true anomaly is 90 deg where x = 0 and y = 2, 4 / 3 sqrt(2) after perihelion."""
    place, _ = at(1.0, 1.0, 4 * np.sqrt(2) / 3)
    np.testing.assert_allclose(place, [0, 2], atol=1e-12)
