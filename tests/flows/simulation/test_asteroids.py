from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.simulation.asteroids import Asteroid, trail_of, trails_on, unit_snr
from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset

ZTF = find_preset("ztf")


@settings(deadline=None)
@given(st.floats(0, 359), st.floats(-70, 70), st.floats(1, 8000), st.floats(0, 359), st.floats(-1, 1))
def test_motion_is_along_a_great_circle(ra: float, dec: float, rate: float, angle: float, hours: float) -> None:
    asteroid = Asteroid("a", ra, dec, 58000.0, rate, angle, 18.0)
    mjd = 58000.0 + hours / 24
    expected = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(
        angle * u.deg, rate * (mjd - 58000.0) * 24 * u.arcsec
    )
    found = SkyCoord(*asteroid.at(mjd), unit="deg")
    assert found.separation(expected).arcsec < 1e-5


@pytest.mark.parametrize("name", ["ztf", "llnl", "rubin"])
def test_every_image_has_as_many_trails_of_the_lengths_asked_for(name: str) -> None:
    preset = find_preset(name)
    low, high = preset.lengths
    for index in range(3):
        trails = trails_on(conditions_of(preset, 4, index, 1))
        lengths = np.array([trail.length for trail in trails])
        assert len(trails) == len({trail.asteroid.name for trail in trails}) == preset.streaks
        assert np.all((lengths > low * 0.995) & (lengths < high * 1.005))
        ny, nx = preset.shape
        assert all(-0.5 <= trail.x < nx and -0.5 <= trail.y < ny for trail in trails)
        if preset.whole_lengths:
            assert lengths == pytest.approx(np.rint(lengths), abs=0.01)


def test_signal_to_noise_is_log_uniform_over_the_range() -> None:
    snr = []
    for detector in range(5):
        conditions = conditions_of(ZTF, 5, 0, detector)
        for trail in trails_on(conditions):
            template = conditions.psf.trail(trail.x, trail.y, trail.length, trail.angle)
            snr.append(conditions.flux_of(trail.asteroid.magnitude) * unit_snr(conditions, template, trail.x, trail.y))
    assert min(snr) > 3 * 0.99
    assert max(snr) < 50 * 1.01
    assert np.median(np.log(snr)) == pytest.approx(np.log(np.sqrt(150)), abs=0.3)


def test_objects_move_linearly_from_visit_to_visit() -> None:
    visits = [conditions_of(ZTF, 6, index, 3) for index in range(3)]
    seen: dict[str, list[tuple[float, float, float, float]]] = {}
    for visit in visits:
        for trail in trails_on(visit):
            ra, dec = (float(part[0]) for part in visit.to_sky(trail.x, trail.y))
            seen.setdefault(trail.asteroid.name, []).append((visit.midpoint_mjd_utc, ra, dec, trail.length))
    thrice = [rows for rows in seen.values() if len(rows) == 3]
    assert len(thrice) >= 5
    for rows in thrice:
        mjd, ra, dec, length = np.array(rows).T
        sky = SkyCoord(ra, dec, unit="deg")
        hours = np.diff(mjd) * 24
        rates = sky[:-1].separation(sky[1:]).arcsec / hours
        # The trail on each image is as long as the motion between images says.
        assert rates[0] == pytest.approx(rates[1], rel=1e-3)
        assert length * ZTF.pixel_scale == pytest.approx(rates.mean() * ZTF.exposure_time / 3600, rel=5e-3)
        first = sky[0].directional_offset_by(sky[0].position_angle(sky[1]), rates[0] * hours.sum() * u.arcsec)
        assert first.separation(sky[2]).arcsec < 1.0


def test_nothing_appears_out_of_nowhere() -> None:
    visits = [conditions_of(ZTF, 8, index, 3) for index in range(3)]
    names = [{trail.asteroid.name for trail in trails_on(visit)} for visit in visits]
    ny, nx = ZTF.shape
    for number in (1, 2):
        for trail in trails_on(visits[number]):
            for before in range(number):
                earlier = trail_of(trail.asteroid, visits[before])
                there = -0.5 <= earlier.x < nx - 0.5 and -0.5 <= earlier.y < ny - 0.5
                assert there == (trail.asteroid.name in names[before])


def test_no_streaks_no_asteroids() -> None:
    assert trails_on(conditions_of(replace(ZTF, streaks=0), 1, 2, 0)) == []
