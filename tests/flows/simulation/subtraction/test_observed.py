from dataclasses import replace

import galsim
import numpy as np
import pytest

from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.subtraction import observed, sky
from flows.simulation.subtraction.epochs import draw_epochs
from flows.simulation.subtraction.observed import Components, _table, add_galaxies
from flows.simulation.subtraction.optics import FieldOptics
from flows.simulation.subtraction.sky import field_galaxies, galactic_latitude, sky_of

PRESET = find_preset("ztf", shape=(600, 640), subtract="zogy")
CONDITIONS = conditions_of(PRESET, 3, 0, 0)


@pytest.mark.parametrize(("sersic", "radius", "tolerance"), [(1.0, 3.0, 0.004), (4.0, 4.0, 0.02)])
def test_galaxies_are_those_that_galsim_draws(sersic: float, radius: float, tolerance: float) -> None:
    field = replace(
        CONDITIONS.psf, fwhm=3.0, slope=(0.0, 0.0), bowl=0.0, shear=(0.0, 0.0), shear_slope=(0.0, 0.0), shape=(200, 200)
    )
    one = [np.array([value]) for value in (98.3, 101.6, 1000.0, radius, 0.6, 35.0, sersic)]
    image = np.zeros((200, 200), np.float32)
    add_galaxies(image, FieldOptics(field), Components(np.zeros(1, int), *one))
    profile = galsim.Sersic(sersic, half_light_radius=radius * 0.6**0.5, trunc=6 * radius * 0.6**0.5)
    profile = galsim.Convolve(profile.shear(q=0.6, beta=35 * galsim.degrees), galsim.Moffat(beta=field.beta, fwhm=3.0))
    wanted = (
        1000 * profile.drawImage(nx=200, ny=200, scale=1, offset=(98.3 - 99.5, 101.6 - 99.5), method="no_pixel").array
    )
    assert np.abs(image - wanted).max() < tolerance * wanted.max()
    assert image.sum(dtype=float) == pytest.approx(wanted.sum(dtype=float), rel=0.02)


@pytest.mark.parametrize(
    ("place", "latitude"),
    [((266.40, -28.94), 0.0), ((192.86, 27.13), 90.0), ((83.63, 22.01), -5.78), ((10.68, 41.27), -21.57)],
)
def test_galactic_latitude(place: tuple[float, float], latitude: float) -> None:
    """Of the centre and the pole of the galaxy, the Crab nebula and M 31 (SIMBAD)."""
    assert galactic_latitude(*place) == pytest.approx(latitude, abs=0.05)


def test_galaxies_are_as_many_as_the_sky_has() -> None:
    """2,000 to 3,500 a square degree to magnitude 20.5 in r away from the plane, half of the light or more in discs."""
    number, area = 0, 0.0
    for seed in range(12):
        conditions = conditions_of(PRESET, seed, 0, 0)
        ra, dec = conditions.to_sky(320.0, 300.0)
        if abs(galactic_latitude(float(ra[0]), float(dec[0]))) > 30:
            found = field_galaxies(conditions, conditions)
            number += len(np.unique(found.galaxy))
            area += 600 * 640 * (PRESET.pixel_scale / 3600) ** 2
            assert found.flux[found.sersic == 1].sum() > 0.2 * found.flux.sum()
    assert area > 0.1
    assert 1200 < number / area < 4000


def test_all_visits_of_a_field_see_the_same_sky() -> None:
    one, other = sky_of(CONDITIONS), sky_of(conditions_of(PRESET, 3, 1, 0))
    np.testing.assert_allclose(one.galaxies.radius, other.galaxies.radius)
    assert np.array_equal(one.stars.magnitude, other.stars.magnitude)
    assert one.old_trails == other.old_trails or len(one.old_trails) == len(other.old_trails)
    shared = {change.name for change in one.changes} & {change.name for change in other.changes}
    assert shared
    for change in one.changes:
        assert change.flux != 0
        if change.host >= 0:
            assert change.flux > -one.stars.flux[change.host]


def test_galaxies_of_a_night_in_several_bands_are_those_of_its_table() -> None:
    conditions = conditions_of(find_preset("ztf", shape=(600, 640), bands=("g", "r"), subtract="zogy"), 3, 1, 0)
    galaxies = sky_of(conditions).galaxies
    assert set(galaxies.sersic.tolist()) <= {1.0, 4.0}
    assert len(np.unique(galaxies.galaxy)) == len(galaxies.galaxy)


def test_profiles_are_kept_at_ever_larger_waves() -> None:
    waves, values = _table(1.0)
    assert (np.diff(waves) > 0).all()  # or nothing could be interpolated between them
    assert values[0] == pytest.approx(1.0)
    assert abs(values[-1]) < 1e-3


def test_stars_of_a_template_are_off_by_as_much_in_x_as_in_y(monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(observed, "draw_light", lambda image, optics, x, y, flux, level: drawn.append((x, y)))
    for name in ("add_galaxies", "_draw_trails", "add_spikes"):
        monkeypatch.setattr(observed, name, lambda *_: None)
    preset = find_preset("ztf", shape=(1500, 1500), subtract="zogy")
    conditions = conditions_of(preset, 3, 0, 0)
    field, epochs = sky_of(conditions), draw_epochs(conditions)
    observed._template_light(field, epochs, conditions)
    ((x, y),) = drawn
    stars = field.stars
    off = [x - stars.x - epochs.offset_x.at(stars.x, stars.y), y - stars.y - epochs.offset_y.at(stars.x, stars.y)]
    assert len(x) > 300
    assert [part.std() for part in off] == pytest.approx([epochs.star_offset] * 2, rel=0.15)


def test_dust_before_galaxies_is_that_of_the_middle_of_the_image(monkeypatch) -> None:
    places = []
    monkeypatch.setattr(sky, "galactic_latitude", lambda *place: places.append(place) or 40.0)
    field_galaxies(CONDITIONS, CONDITIONS)
    middle = CONDITIONS.to_sky((640 - 1) / 2, (600 - 1) / 2)
    assert places == [(float(middle[0][0]), float(middle[1][0]))]


def test_a_bulge_is_half_as_wide_as_its_disc() -> None:
    found = field_galaxies(conditions_of(PRESET, 5, 0, 0), conditions_of(PRESET, 5, 0, 0))
    bulge, disc = (
        {one: n for n, one in enumerate(found.galaxy.tolist()) if found.sersic[n] == index} for index in (4, 1)
    )
    both = sorted(bulge.keys() & disc.keys())
    assert len(both) > 10
    inner, outer = (np.array([part[one] for one in both]) for part in (bulge, disc))
    np.testing.assert_allclose(found.radius[inner], 0.5 * found.radius[outer] * np.sqrt(found.ratio[outer]))
    assert (found.ratio[inner] >= found.ratio[outer]).all()


def test_galaxies_lie_in_all_directions_alike() -> None:
    angles = np.concatenate(
        [field_galaxies(one, one).angle for one in (conditions_of(PRESET, n, 0, 0) for n in range(40))]
    )
    counts = np.histogram(angles, 180, (0, 180))[0]
    assert counts.sum() == len(angles) > 4000
    assert counts[0] > 0.3 * counts.mean()
    assert counts[-1] > 0.3 * counts.mean()
