import numpy as np
import pyarrow as pa
import pytest

from kernels.objects.source_photometry import Fluxes
from kernels.sky.positions import object_ids
from schemas.errors import Misconfigured
from schemas.objects import OBJECT, SOURCE
from schemas.settings import FindSourcesSettings, GatherObjectsSettings
from schemas.stage import Context
from stages import find_sources
from stages.gather_objects import STAGE, _merged
from tests.support.science_night import SHAPE, FakeNight, exposure, science, sky_grid

RA, DEC = sky_grid()
FLUX = 8e3 * 0.9 ** np.arange(len(RA))
COLOUR = {"g": 0.5, "r": 1.0, "i": 1.4}
NJY = 10 ** ((31.4 - 26) / 2.5)


def night(*infos):
    planes = {}
    for info in infos:
        places = list(zip(RA, DEC, FLUX * COLOUR[info.band], 3.0 * (np.arange(len(RA)) % 3 == 0), strict=True))
        planes[info.visit] = {"science": science(info, places, info.visit), "mask": np.zeros(SHAPE, np.uint16)}
    return FakeNight(planes, list(infos))


def sources_of(fake):
    context = FindSourcesSettings(min_snr=10)
    tables = [
        find_sources.STAGE(fake.planes[info.visit], Context(info, settings=context)).rows for info in fake.exposures()
    ]
    return pa.concat_tables(tables)


def gathered(fake, sources, models=None, **settings):
    context = Context(settings=GatherObjectsSettings(**settings), pixels=fake, models=models or {})
    return STAGE({"source": sources}, context).rows


@pytest.fixture(scope="module")
def fake():
    return night(
        exposure(1, "g"), exposure(2, "r", 40.0), exposure(3, "i", 200.0), exposure(4, "r", 0.0, (3.3, -4.6))
    )  # fmt: skip


@pytest.fixture(scope="module")
def sources(fake):
    return sources_of(fake)


@pytest.fixture(scope="module")
def objects(fake, sources):
    return gathered(fake, sources)


def order(objects):
    ra, dec = objects["ra"].to_numpy(), objects["dec"].to_numpy()
    return np.array(
        [np.argmin(np.hypot((ra - a) * np.cos(np.radians(d)), dec - d)) for a, d in zip(RA, DEC, strict=True)]
    )


def test_each_thing_is_one_object_whatever_exposures_show_it(objects):
    assert len(objects) == len(RA)
    mine = order(objects)
    assert sorted(mine) == list(range(len(RA)))
    offset = np.hypot(
        (objects["ra"].to_numpy()[mine] - RA) * np.cos(np.radians(20)), objects["dec"].to_numpy()[mine] - DEC
    )
    assert (offset * 3600).max() < 0.3
    assert np.sort(objects["nSources"].to_numpy()).tolist()[1:] == [4] * (len(RA) - 1)  # the faintest may miss one
    assert np.sort(objects["nBands"].to_numpy()).tolist()[1:] == [3] * (len(RA) - 1)


def test_ids_are_those_of_the_places_in_order(objects):
    ids = objects["objectId"].to_numpy()
    np.testing.assert_array_equal(ids, object_ids(objects["ra"].to_numpy(), objects["dec"].to_numpy()))
    assert (np.diff(ids) > 0).all()


def test_fluxes_and_colours_are_true_in_every_band(objects):
    mine, points = order(objects), np.arange(len(RA)) % 3 != 0
    for band, factor in COLOUR.items():
        for kind, share in (("psf", 0.05), ("ap", 0.05)):
            flux = objects[f"{band}_{kind}Flux"].to_numpy()[mine]
            np.testing.assert_allclose((flux / NJY / FLUX / factor)[points], 1, atol=3 * share)
            assert np.median((flux / NJY / FLUX / factor)[points]) == pytest.approx(1, abs=share)
    expected = -2.5 * np.log10(COLOUR["g"] / COLOUR["r"])
    colour, error = (objects[name].to_numpy()[mine] for name in ("gMinusR", "gMinusRErr"))
    assert np.abs((colour - expected) / error).max() < 5
    assert objects["r_nExposures"].to_pylist() == [2] * len(RA)
    np.testing.assert_allclose(
        objects["g_psfMag"].to_numpy(), 31.4 - 2.5 * np.log10(objects["g_psfFlux"].to_numpy()), atol=1e-4
    )
    assert (objects["r_psfFluxErr"].to_numpy() < 0.8 * objects["g_psfFluxErr"].to_numpy()).all()


def test_a_band_that_was_not_taken_is_null(objects):
    for name in ("u_psfFlux", "z_apMag", "y_fwhm", "iMinusZ", "ebv", "g_psfMag0"):
        assert objects[name].null_count == len(objects)
    assert set(objects["z_nExposures"].to_pylist()) == {0}


def test_what_only_one_band_shows_is_measured_in_the_others(fake, sources):
    only = sources.filter(pa.array(np.array(sources["band"].to_pylist()) == "i"))
    found = gathered(fake, only)
    assert set(found["nBands"].to_pylist()) == {1}
    assert found["g_psfFlux"].null_count == 0
    assert set(found["r_nExposures"].to_pylist()) == {2}


def test_extended_objects_are_larger_and_have_more_light_in_a_circle(objects):
    mine, extended = order(objects), np.arange(len(RA)) % 3 == 0
    size = objects["halfLightRadius"].to_numpy()[mine]
    assert size[extended].min() > size[~extended].max()
    excess = (objects["r_psfMag"].to_numpy() - objects["r_apMag"].to_numpy())[mine]
    assert excess[extended].min() > excess[~extended].max()


def test_dust_is_taken_off_where_there_is_a_map(fake, sources):
    found = gathered(fake, sources, {"dust_map": lambda ra, dec: np.full(len(ra), 0.2)})
    difference = found["g_apMag"].to_numpy() - found["g_apMag0"].to_numpy()
    np.testing.assert_allclose(difference, 0.2 * 3.237, atol=1e-4)
    assert set(found["ebv"].to_numpy().round(4)) == {np.float32(0.2)}


def test_exposures_it_cannot_use_are_left_out(fake, sources):
    infos = fake.exposures()
    spoilt = [
        infos[0].model_copy(update={"wcs_header": None}),
        infos[1].model_copy(update={"zero_point": None}),
        *infos[2:],
    ]
    found = gathered(FakeNight(fake.planes, spoilt), sources)
    assert found["g_psfFlux"].null_count == len(found)
    assert set(found["r_nExposures"].to_pylist()) == {1}


def test_reads_one_exposure_after_the_other(fake, sources):
    counted = FakeNight(fake.planes, fake.infos)
    gathered(counted, sources)
    assert counted.read_of == [(visit, plane) for visit in (1, 2, 3, 4) for plane in ("science", "mask")]


def test_without_any_position_there_is_nothing_to_do(fake, sources):
    lost = sources.set_column(5 + 1, SOURCE.schema.field("ra"), pa.nulls(len(sources), pa.float64()))
    assert gathered(fake, lost).equals(OBJECT.empty())
    assert gathered(fake, SOURCE.empty()).equals(OBJECT.empty())


def test_the_order_of_sources_does_not_matter_to_the_bytes_where_exposures_are_sorted(fake, sources, objects):
    assert gathered(fake, sources_of(fake)).equals(objects)


def source(x, visit=1, detector=0, **columns):
    """Row of a source ``x`` arcsec north of a place."""
    row = {field.name: "r" if pa.types.is_string(field.type) else 1 for field in SOURCE.schema}
    place = {"ra": 10.0, "dec": x / 3600, "visit": visit, "detector": detector, "flags": 0}
    return row | place | {"fwhm": 2.0, "pixelScale": 0.5, "posErr": 0.1, "snr": 10.0, "band": "r"} | columns


def merged(*rows, match_fwhm=1.0):
    columns = _merged(pa.Table.from_pylist(list(rows), schema=SOURCE.schema), match_fwhm)
    return {name: np.asarray(values) for name, values in columns.items()}


def test_an_object_is_the_weighted_mean_of_its_sources_and_looks_like_the_brightest():
    found = merged(
        source(0.0, 1, posErr=0.1, snr=20, band="g", flags=1, halfLightRadius=3, petrosianRadius=7, elongation=2),
        source(0.5, 2, posErr=0.2, snr=30, band="i", flags=8, halfLightRadius=4, petrosianRadius=9, elongation=3),
        source(0.2, 2, 1, posErr=0.4, snr=5, band="g", flags=1, positionAngle=70, pixelScale=0.25),
        source(60.0, 1, posErr=0.3, snr=7, band="u", flags=4, positionAngle=50),
    )
    order = np.argsort(-found["dec"])  # north first
    found = {name: values[order[::-1]] for name, values in found.items()}
    weight = np.array([1 / 0.1**2, 1 / 0.2**2, 1 / 0.4**2])
    np.testing.assert_allclose(found["dec"] * 3600, [weight @ [0.0, 0.5, 0.2] / weight.sum(), 60], atol=1e-6)
    np.testing.assert_allclose(found["posErr"], [weight.sum() ** -0.5, 0.3], rtol=1e-6)
    for name, values in {
        "nSources": [3, 1], "nBands": [2, 1], "refBand": ["i", "u"], "snr": [30, 7], "flags": [9, 4],
        "halfLightRadius": [2.0, 0.5], "petrosianRadius": [4.5, 0.5], "elongation": [3, 1], "positionAngle": [1, 50],
    }.items():  # fmt: skip
        assert found[name].tolist() == values
    np.testing.assert_array_equal(found["objectId"], object_ids(found["ra"], found["dec"]))


def test_sources_within_the_median_fwhm_of_the_exposures_are_one_object():
    seeings = [{"fwhm": 2.0}, {"fwhm": 3.0}, {"fwhm": 4.0, "pixelScale": 1.0}]  # 1, 1.5 and 4 arcsec
    for apart, objects in ((1.49, 1), (1.51, 2)):
        rows = [source(0.0, 1, **seeings[0]), source(apart, 2, **seeings[1]), source(90.0, 1, **seeings[2])]
        assert len(merged(*rows)["ra"]) == objects + 1
        assert len(merged(*rows, match_fwhm=2.0)["ra"]) == 2


def test_two_sources_of_one_exposure_are_two_objects_but_those_of_two_detectors_may_be_one():
    for visit, detector, objects in ((1, 0, 2), (1, 1, 1), (2, 0, 1)):
        assert len(merged(source(0.0), source(0.3, visit, detector))["ra"]) == objects


def test_bands_that_are_no_columns_are_left_out(fake, sources):
    infos = [fake.infos[0].model_copy(update={"band": "white"}), *fake.infos[1:]]
    found = gathered(FakeNight(fake.planes, infos), sources)
    assert found["g_psfFlux"].null_count == len(found)
    assert set(found["r_nExposures"].to_pylist()) == {2}


def test_each_band_tells_the_fwhm_of_its_sharpest_exposure_in_arcsec(fake, sources):
    infos = [
        info.model_copy(update={"psf": info.psf.model_copy(update={"fwhm_px": width})})
        for info, width in zip(fake.infos, (2.5, 3.0, 2.6, 2.4), strict=True)
    ]
    for order in (infos, infos[::-1]):
        found = gathered(FakeNight(fake.planes, order), sources)
        for band, width in (("g", 2.5), ("r", 2.4), ("i", 2.6)):
            np.testing.assert_allclose(found[f"{band}_fwhm"].to_numpy(), width, rtol=1e-3)


def test_colours_are_differences_of_the_magnitudes_in_circles(objects):
    for name, blue, red in (("gMinusR", "g", "r"), ("rMinusI", "r", "i")):
        one, other = (objects[f"{band}_apMag"].to_numpy() for band in (blue, red))
        np.testing.assert_allclose(objects[name].to_numpy(), one - other, atol=1e-5)
        one, other = (objects[f"{band}_apMagErr"].to_numpy() for band in (blue, red))
        np.testing.assert_allclose(objects[f"{name}Err"].to_numpy(), np.hypot(one, other), rtol=1e-5)


def test_circles_are_as_wide_as_set_and_fluxes_in_njy(fake, sources, monkeypatch):
    radii = []

    def circles(image, x, y, radius, *others):
        radii.append(radius)
        nothing = np.ones(len(x))
        return Fluxes(7 * nothing, nothing, nothing, nothing)

    monkeypatch.setattr("stages.gather_objects.aperture_fluxes", circles)
    found = gathered(fake, sources, aperture_fwhm=1.7)
    assert radii == pytest.approx([1.7 * info.psf.fwhm_px for info in fake.infos])
    np.testing.assert_allclose(found["g_apFlux"].to_numpy(), 7 * NJY, rtol=1e-6)
    np.testing.assert_allclose(found["r_apFluxErr"].to_numpy(), NJY / np.sqrt(2), rtol=1e-6)


def test_pixels_are_needed(sources):
    with pytest.raises(Misconfigured, match="pixels of a patch"):
        gathered(None, sources)
