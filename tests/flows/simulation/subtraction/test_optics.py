from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.psf import moffat
from flows.simulation.subtraction.epochs import draw_epochs
from flows.simulation.subtraction.optics import FieldOptics

CONDITIONS = conditions_of(find_preset("ztf", shape=(400, 500), subtract="zogy"), 3, 0, 0)
PLAIN = FieldOptics(replace(CONDITIONS.psf, beta=3.5))
COMATIC = replace(PLAIN, coma=(0.2, 0.1, 0.15, -0.25), coma_share=0.2)


def test_without_coma_and_aureole_it_is_the_moffat_profile() -> None:
    x, y = 420.0, 90.0
    offset = np.arange(-15, 16.0)
    place = np.asarray(x), np.asarray(y)
    g1, g2 = PLAIN.field.shear_at(*place)
    wanted = moffat(offset[None, :] - 0.3, offset[:, None] + 0.2, PLAIN.field.fwhm_at(*place), 3.5, g1, g2)
    np.testing.assert_allclose(PLAIN.stamp(x, y, 15, 0.3, -0.2), wanted, rtol=2e-4, atol=1e-7)


def test_coma_leaves_flux_and_centre_of_light_where_they_are() -> None:
    stamp = COMATIC.stamp(20.0, 380.0, 40).astype(float)
    offset = np.arange(-40, 41.0)
    assert stamp.sum() == pytest.approx(PLAIN.stamp(20.0, 380.0, 40).sum(dtype=float), abs=0.003)
    assert (stamp.sum(0) @ offset, stamp.sum(1) @ offset) == pytest.approx((0, 0), abs=0.02)
    assert np.abs(stamp - stamp[::-1, ::-1]).max() > 0.005  # it is lopsided all the same


def test_an_aureole_comes_on_top() -> None:
    stamp = replace(PLAIN, aureole=0.02).stamp(250.0, 200.0, 300)
    assert stamp.sum(dtype=float) == pytest.approx(1.02, abs=0.005)


def test_a_trail_has_unit_flux_and_its_length() -> None:
    stamp = COMATIC.trail(250.3, 200.8, 40.0, 30.0, 25.0)
    assert stamp.pixels.sum() == pytest.approx(1, abs=0.01)
    rows, columns = np.mgrid[: stamp.pixels.shape[0], : stamp.pixels.shape[1]]
    weights = stamp.pixels / stamp.pixels.sum()
    x, y = (weights * (columns + stamp.x0)).sum(), (weights * (rows + stamp.y0)).sum()
    assert (x, y) == pytest.approx((250.3, 200.8), abs=0.02)
    along = (columns + stamp.x0 - x) * np.cos(np.pi / 6) + (rows + stamp.y0 - y) * np.sin(np.pi / 6)
    across = (rows + stamp.y0 - y) * np.cos(np.pi / 6) - (columns + stamp.x0 - x) * np.sin(np.pi / 6)
    spread = (weights * along**2).sum() - (weights * across**2).sum()  # of the line alone, if the PSF is round
    assert np.sqrt(12 * spread) == pytest.approx(40, rel=0.03)


def test_a_point_reaches_as_far_as_it_shows() -> None:
    optics = replace(PLAIN, aureole=0.01)
    near, far = optics.reach(np.array([1e3, 1e6]), 1.0)
    assert 5 <= near < far
    edge = optics.stamp(249.5, 199.5, int(far) + 1)[int(far) + 1, -1]
    assert 1e6 * edge < 1.05


def test_errors_of_a_pair_are_within_their_limits() -> None:
    epochs = draw_epochs(CONDITIONS)
    x, y = np.meshgrid(np.arange(0, 500, 7.0), np.arange(0, 400, 7.0))
    for waves in (epochs.offset_x, epochs.offset_y):
        assert 0 < np.abs(waves.at(x, y)).max() <= 0.25
        assert np.abs(np.diff(waves.at(x, y), axis=1)).max() < 0.05  # smooth
    science, template = epochs.sigmas(CONDITIONS)
    assert np.hypot(science, template) == pytest.approx(CONDITIONS.noise.sigma)
    assert 3 <= epochs.depth <= 30
    other = draw_epochs(conditions_of(CONDITIONS.preset, 3, 1, 0))
    assert other.template == epochs.template  # the field has one template
    assert other.science != epochs.science


@pytest.mark.parametrize(("length", "angle"), [(0.0, 0.0), (40.0, 30.0), (31.0, 90.0)])
def test_a_trail_has_its_middle_in_the_middle_of_its_stamp(length: float, angle: float) -> None:
    stamp = PLAIN.trail(250.0, 200.0, length, angle, 25.0)
    reach = [
        int(np.ceil(length / 2 * abs(part))) + 25 for part in (np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle)))
    ]
    assert np.all(np.abs(np.array(stamp.pixels.shape) - 2 * np.array(reach) - 1) <= 2)
    assert all(size % 2 for size in stamp.pixels.shape)
    assert (stamp.y0 + stamp.pixels.shape[0] // 2, stamp.x0 + stamp.pixels.shape[1] // 2) == (200, 250)


def test_a_second_profile_is_not_shifted_unless_it_is_told() -> None:
    stamp = FieldOptics(replace(CONDITIONS.psf, shear=(0.0, 0.0), shear_slope=(0.0, 0.0)), coma_share=0.3).stamp(
        9.0, 9.0, 12
    )
    np.testing.assert_allclose(stamp, stamp[::-1, ::-1], rtol=1e-4, atol=1e-9)
