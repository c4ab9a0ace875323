import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u

from flows.pipeline.provenance import provenance_of
from flows.results.evaluation.recovery import read_recoveries
from flows.results.quality import measure as exposures
from flows.results.quality.measure import (
    KnownCount,
    Looked,
    Rings,
    around_bright,
    at_cores,
    compass,
    count_known,
    depth,
    look_at_exposures,
    measure_quality,
)
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.statistics.drift import FEATURES
from kernels.trails.trail_model import trail_image
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import PsfModel
from schemas.known_object import SS_EPHEMERIS, SS_SOURCE
from schemas.negative import NEGATIVE
from schemas.objects import SOURCE
from schemas.recovery import Limit, MagnitudeLimit, Recovery
from schemas.settings import Settings
from schemas.summary import CauseCount
from stages import PIPELINE
from tests.flows.results.page.conftest import NIGHT, make_info, make_rows, publish, put_in, wcs_cards
from tests.support.cards import as_text, elsewise, gnomonic
from tests.support.exposure import exposure_record
from tests.support.filled import filled

CAUSES = {"cosmic_ray": CauseCount(refused=6, published=1), "spike": CauseCount(refused=2)}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for visit, width, band in ((101, 2.0, "r"), (102, 2.4, "r"), (103, 3.0, "r"), (104, 2.2, "g")):
        info = make_info((120, 130), visit, band=band, psf=PsfModel(fwhm_px=width))
        rows = make_rows(info, 8, visit)
        rows[0]["trailClass"] = "satellite"
        put_in(folder, publish(folder, info, rows, visit, causes=CAUSES), 400, visit)
    return folder


@pytest.fixture(scope="module")
def measured(out):
    return measure_quality(look_at_exposures(out, list(Ledger(out).records(NIGHT))), read_recoveries(out, NIGHT))


def test_bands_are_measured_apart(measured):
    assert [(one.instrument, one.band, one.exposures) for one in measured] == [("ZTF", "g", 1), ("ZTF", "r", 3)]


def test_values_are_those_of_the_exposures(out, measured):
    band = measured[1]
    seeing = band.measure("seeing")
    assert (seeing.unit, seeing.n) == ("arcsec", 3)
    assert seeing.value == pytest.approx(2.4, rel=1e-3)  # pixels of 1 arcsec
    assert seeing.error == pytest.approx(np.sqrt(np.pi / 2 / 3) * np.std([2.0, 2.4, 3.0], ddof=1), rel=1e-3)
    assert band.measure("depth").value == pytest.approx(depth(make_info((120, 130), psf=PsfModel(fwhm_px=2.4))))
    assert band.measure("zero_point").value == 26.3
    assert band.measure("noise").value == 12.0
    recovery = next(one for one in read_recoveries(out, NIGHT) if one.band == "r" and one.detector is None)
    assert band.measure("snr_of_half").value == recovery.snr.value


def test_rates_are_per_exposure_and_satellites_do_not_count_as_false(out, measured):
    sources = [one.sources for one in look_at_exposures(out, list(Ledger(out).records(NIGHT))) if one.info.band == "r"]
    doubt = sum((1 - table["reliability"].to_numpy()[1:].astype(float)).sum() for table in sources)
    band = measured[1]
    assert band.measure("detections").value == 8
    assert band.measure("expected_false").value == pytest.approx(doubt / 3)
    assert band.measure("refused").value == 8
    assert band.measure("cosmic_rays").value == 6
    assert band.measure("cosmic_rays").error == pytest.approx(np.sqrt(18) / 3)
    assert next(one for one in band.sketches if one.feature == "snr").n == 21


def test_what_is_not_known_has_no_value(tmp_path):
    info = make_info((120, 130), zero_point=None, wcs_header=None, psf=PsfModel(fwhm_px=2.0, source="assumed"))
    (band,) = measure_quality(look_at_exposures(tmp_path, [publish(tmp_path, info, [], 1)]), ())
    reasons = {one.metric: one.reason for one in band.measures if one.value is None}
    assert reasons == {
        "seeing": "the PSFs are assumed", "depth": "no zero point", "zero_point": "not given",
        "limiting_magnitude": "no synthetic streaks", "snr_of_half": "no synthetic streaks",
        "subtraction_residual": "not subtracted here", "bright_star_excess": "no sources of science images",
        "galaxy_core_excess": "no sources of science images", "negated_false": "no tile was negated",
        "known_recovered": "no orbits of known objects",
        "refused": "the causes were not counted", "cosmic_rays": "the causes were not counted",
    }  # fmt: skip
    assert band.search == ""


def night(out, **given):
    for visit in range(101, 107):
        info = make_info((60, 70), visit)
        publish(out, info, make_rows(info, 3, visit), visit, **given)
    return list(Ledger(out).records(NIGHT))


def test_a_large_night_is_looked_at_in_part_evenly(tmp_path, monkeypatch):
    records = night(tmp_path)
    monkeypatch.setattr(exposures, "MOST", 3)
    assert [one.record.visit for one in look_at_exposures(tmp_path, records)] == [101, 103, 105]


def test_exposures_without_tiles_are_left_out(tmp_path):
    records = night(tmp_path)
    shutil.rmtree(tmp_path / "tiles" / NIGHT / "102-3.zarr")
    assert len(look_at_exposures(tmp_path, records)) == 5


@pytest.mark.parametrize("lost", [(SOURCE,), (SS_EPHEMERIS, SS_SOURCE)])
def test_exposures_of_which_a_catalogue_cannot_be_read_are_left_out(tmp_path, lost):
    first, *others = night(tmp_path)
    there = first.datasets | {one.name: first.datasets[DIA_SOURCE.name] for one in lost}
    assert len(look_at_exposures(tmp_path, [first.model_copy(update={"datasets": there}), *others])) == 5


def test_search_is_known_by_models_settings_and_stages(tmp_path):
    def search(stages=None, **settings):
        record = provenance_of(PIPELINE, Settings(**settings))
        record = record.model_copy(update={"stages": record.stages | (stages or {})})
        return look_at_exposures(tmp_path, night(tmp_path, provenance=Ledger(tmp_path).put_provenance(record)))[0]

    first, same, other = search(), search({"associate": "0"}, tiles={"chunk": 126}), search(measure={"min_snr": 7})
    assert first.search == same.search != other.search
    assert search({"merge": "another"}).search not in (first.search, other.search)
    assert first.models[0].startswith("detect streak_net 1 (")


SINGULAR = "CTYPE1  = 'RA---TAN'\nCTYPE2  = 'DEC--TAN'\nCD1_1   = 1.0\nCD1_2   = 1.0\nCD2_1   = 1.0\nCD2_2   = 1.0"


@pytest.mark.parametrize("turn", [0.0, 30.0, 90.0, 200.0])
def test_compass_of_a_turned_field(turn):
    found = compass(make_info(wcs_header=wcs_cards((420, 380), turn)))
    angle = np.radians(turn)
    assert found.scale == pytest.approx(1.0, rel=1e-4)
    assert found.north == pytest.approx((-np.sin(angle), np.cos(angle)), abs=1e-3)
    assert found.east == pytest.approx((-np.cos(angle), -np.sin(angle)), abs=1e-3)


@pytest.mark.parametrize("dec", [90.0, -90.0, 89.9999, -89.99])
def test_compass_at_the_poles(dec):
    """North is along the meridian of the middle, which a degree of right ascension tells nothing about there."""
    wcs = gnomonic([200.0, dec], [180.0, 220.0], 1.2, 30.0)
    found = compass(make_info(wcs_header=as_text(wcs)))
    assert found.scale == pytest.approx(1.2, rel=1e-4)
    assert np.dot(found.north, found.east) == pytest.approx(0, abs=1e-3)
    assert found.north[0] * found.east[1] - found.north[1] * found.east[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("cards", [None, "CTYPE1  = 'RA---TAN'", "no cards at all", SINGULAR])
def test_no_compass_without_a_sky(cards):
    assert compass(make_info(wcs_header=cards)) is None


def test_depth_of_a_gaussian_in_white_noise():
    # sum(m^2) of a well sampled unit Gaussian is 1 / (4 pi sigma^2); King 1983, PASP 95, 163.
    fwhm, noise, zero_point = 8.0, 3.0, 25.0
    sigma = fwhm / np.sqrt(8 * np.log(2))
    expected = zero_point - 2.5 * np.log10(5 * noise * np.sqrt(4 * np.pi) * sigma)
    found = depth(make_info(psf=PsfModel(fwhm_px=fwhm, beta=100.0), noise=noise, zero_point=zero_point))
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("beta", [2.5, 3.0, 4.765])
def test_depth_of_a_moffat_in_white_noise(beta):
    # The integral of (beta - 1)^2 / (pi alpha^2)^2 (1 + r^2 / alpha^2)^(-2 beta) over the plane, with nothing cut off.
    fwhm, noise, zero_point = 12.0, 3.0, 25.0
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    squares = (beta - 1) ** 2 / (np.pi * alpha**2 * (2 * beta - 1))
    found = depth(make_info(psf=PsfModel(fwhm_px=fwhm, beta=beta), noise=noise, zero_point=zero_point))
    assert found == pytest.approx(zero_point - 2.5 * np.log10(5 * noise / np.sqrt(squares)), abs=0.0025)


@pytest.mark.parametrize("rho", [0.1, 0.3])
def test_correlated_noise_costs_depth(rho):
    correlation = ((rho**2, rho, rho**2), (rho, 1.0, rho), (rho**2, rho, rho**2))
    white, correlated = depth(make_info()), depth(make_info(noise_correlation=correlation))
    # The filtered noise grows by less than the square root of the summed correlation.
    assert 0 < white - correlated < 2.5 * np.log10(1 + 2 * rho)


def test_no_depth_without_a_zero_point():
    assert depth(make_info(zero_point=None)) is None


def test_north_and_east_are_those_of_the_equator_in_any_frame():
    for wcs in elsewise(gnomonic([200.0, 40.0], [180.0, 220.0], 1.0, 30.0)):
        found = compass(make_info(wcs_header=as_text(wcs)))
        middle = wcs.pixel_to_world(*((side - 1) / 2 for side in make_info().shape[::-1]))
        for way, angle in ((found.north, 0), (found.east, 90)):
            there = middle.icrs.directional_offset_by(angle * u.deg, 10 * u.arcsec)
            step = np.array(wcs.world_to_pixel(there)) - (np.array(make_info().shape[::-1]) - 1) / 2
            np.testing.assert_allclose(way, step / np.hypot(*step), atol=1e-4)


def test_the_compass_stands_in_the_middle_of_the_image():
    shape = (601, 301)  # near the pole north turns from pixel to pixel
    wcs = gnomonic([40.0, 89.7], [20.0, 30.0])
    found = compass(make_info(wcs_header=as_text(wcs), shape=shape))
    middle = np.array([150.0, 300.0])
    place = wcs.pixel_to_world(*middle)
    step = np.array(wcs.world_to_pixel(place.directional_offset_by(0 * u.deg, 1 * u.arcsec))) - middle
    assert found.north == pytest.approx(step / np.hypot(*step), abs=1e-6)
    aside = wcs.pixel_to_world(middle[0], middle[1] + 1)
    other = np.array(wcs.world_to_pixel(aside.directional_offset_by(0 * u.deg, 1 * u.arcsec))) - middle - [0.0, 1.0]
    assert np.abs(step / np.hypot(*step) - other / np.hypot(*other)).max() > 1e-5  # a pixel makes a difference


def looked(info, rows=(), causes=None, **given):
    """An exposure with its detections, without any file."""
    record = exposure_record(night=NIGHT, visit=info.visit, detector=info.detector, source_uri="a", causes=causes or {})
    table = pa.Table.from_pylist(list(rows), schema=DIA_SOURCE.schema)
    return Looked(record, info, table, **({"search": "s", "models": ("m",)} | given))


def recovered(value=7.0, interval=(6.02, 9.94), magnitude=(), **given):
    limit = Limit(n=40, value=value, interval=interval)
    values = {"night": NIGHT, "exposures": 1, "hidden": 0, "n": 40, "recovered": 20, "by_snr": (), "by_length": ()}
    return Recovery(**values, snr=limit, magnitude=magnitude, **({"band": "r"} | given))


def test_the_error_of_a_limit_is_a_quarter_of_its_interval_in_sigma():
    """A 95 % interval is 2 x 1.96 standard errors wide."""
    classes = tuple(
        MagnitudeLimit(lo=lo, hi=None, limit=Limit(n=9, value=value, interval=(value - 0.98, value + 0.98)))
        for lo, value in ((0, 21.0), (3, 19.0))
    )
    (band,) = measure_quality([looked(make_info())], [recovered(magnitude=classes)])
    half, faintest = band.measure("snr_of_half"), band.measure("limiting_magnitude")
    assert (half.value, half.error, half.n) == (7.0, pytest.approx(1.0), 40)
    assert (faintest.value, faintest.error, faintest.n) == (21.0, pytest.approx(0.5), 9)  # of all lengths


def test_recoveries_are_those_of_the_band_as_a_whole_and_of_one_instrument():
    others = [recovered(9.0, (8.0, 10.0), band=None), recovered(9.0, (8.0, 10.0), detector=3)]
    (band,) = measure_quality([looked(make_info())], [*others, recovered()])
    assert band.measure("snr_of_half").value == 7.0
    (band,) = measure_quality([looked(make_info())], others)
    assert band.measure("snr_of_half").reason == "no synthetic streaks"
    both = [looked(make_info()), looked(make_info(instrument="LSSTCam"))]
    for band in measure_quality(both, [recovered()]):
        assert (band.measure("snr_of_half").value, band.measure("snr_of_half").n) == (None, 0)


def test_a_limit_that_was_not_found_keeps_its_reason_and_number():
    none = recovered().model_copy(update={"snr": Limit(n=4, reason="fewer than 20 streaks")})
    (band,) = measure_quality([looked(make_info())], [none])
    half = band.measure("snr_of_half")
    assert (half.value, half.n, half.reason) == (None, 4, "fewer than 20 streaks")


def test_seeing_is_in_pixels_where_one_exposure_has_no_sky_and_leaves_out_what_is_assumed():
    seen = [looked(make_info(psf=PsfModel(fwhm_px=width))) for width in (2.0, 3.0, 5.0)]
    assumed = looked(make_info(psf=PsfModel(fwhm_px=9.0, source="assumed"), wcs_header=None))
    blind = looked(make_info(psf=PsfModel(fwhm_px=9.0), wcs_header=None))
    for given, unit, value, n in (
        ([*seen, assumed], "arcsec", 3.0, 3), ([*seen, blind], "px", 4.0, 4), (seen[:1], "arcsec", 2.0, 1),
    ):  # fmt: skip
        seeing = measure_quality(given, ())[0].measure("seeing")
        assert (seeing.unit, seeing.value, seeing.n) == (unit, pytest.approx(value, rel=1e-3), n)
        assert (seeing.error is None) is (n == 1)


def test_noise_and_zero_point_are_of_pixels_in_one_unit():
    infos = [make_info((60, 70), visit, pixel_unit=unit) for visit, unit in ((1, "adu"), (2, "adu"), (3, "nJy"))]
    for some, known in ((infos[:2], True), (infos, False)):
        (band,) = measure_quality([looked(info) for info in some], ())
        values = [band.measure(name) for name in ("noise", "zero_point")]
        assert [one.value is not None for one in values] == [known, known]
    assert {one.reason for one in values} == {"the pixels are in several units"}


def test_a_median_has_the_error_of_that_of_a_gaussian_sample():
    exposures = [looked(make_info(noise=noise)) for noise in (1.0, 2.0, 4.0, 9.0)]
    noise = measure_quality(exposures, ())[0].measure("noise")
    templates = [looked(make_info(subtraction_residual=share)) for share in (0.01, None, 0.03)]
    residual = measure_quality(templates, ())[0].measure("subtraction_residual")
    assert (residual.value, residual.n) == (pytest.approx(0.02), 2)
    assert (noise.value, noise.unit, noise.n) == (3.0, "adu", 4)
    assert noise.error == pytest.approx(1.2533141373155 * np.std([1, 2, 4, 9], ddof=1) / 2)


def test_counts_of_nothing_are_as_uncertain_as_one():
    quiet = [looked(make_info(visit=visit), causes={"spike": CauseCount()}) for visit in (1, 2, 3, 4)]
    band = measure_quality(quiet, ())[0]
    for metric in ("detections", "expected_false", "refused", "cosmic_rays"):
        measure = band.measure(metric)
        assert (measure.value, measure.error, measure.n, measure.unit) == (0.0, 0.25, 4, "per exposure")


def test_all_causes_are_refused_and_cosmic_rays_one_of_them():
    counted = {"cosmic_ray": CauseCount(refused=4, published=9), "spike": CauseCount(refused=12)}
    exposures = [looked(make_info(visit=1), causes=counted), looked(make_info(visit=2), causes=counted)]
    band = measure_quality(exposures, ())[0]
    assert (band.measure("refused").value, band.measure("refused").error) == (16.0, pytest.approx(32**0.5 / 2))
    assert (band.measure("cosmic_rays").value, band.measure("cosmic_rays").error) == (4.0, pytest.approx(8**0.5 / 2))
    half = [exposures[0], looked(make_info(visit=3))]
    assert measure_quality(half, ())[0].measure("refused").reason == "the causes were not counted"


def test_sketches_count_reduced_chi_squared_where_more_pixels_than_parameters_were_fitted():
    """Five parameters: of 5 pixels nothing is left over, of 6 one degree of freedom."""
    rows = make_rows(make_info(), 3, 1)
    for row, pixels in zip(rows, (5, 6, 25), strict=True):
        row |= {"trailNdata": pixels, "trailChi2": 20.0}
    (band,) = measure_quality([looked(make_info(), rows)], ())
    sketch = next(one for one in band.sketches if one.feature == "reducedChi2")
    counts = FEATURES["reducedChi2"].histogram(np.array([20.0, 1.0]))
    assert sketch.counts == tuple((int(place), int(counts[place])) for place in np.flatnonzero(counts))
    assert sketch.n == 2
    assert {one.feature for one in band.sketches} == set(FEATURES)


def test_a_band_searched_in_two_ways_was_searched_in_none():
    given = [looked(make_info(), search="s"), looked(make_info(), search="t", models=("n", "m"))]
    (band,) = measure_quality(given, ())
    assert (band.search, band.models, band.exposures) == ("", ("m", "n"), 2)
    assert measure_quality(given[:1] * 2, ())[0].search == "s"


def test_models_are_told_with_the_beginning_of_their_digests(tmp_path):
    made = Ledger(tmp_path).put_provenance(provenance_of(PIPELINE, Settings()))
    cards = Ledger(tmp_path).provenance(made).models
    found = look_at_exposures(tmp_path, night(tmp_path, provenance=made))[0]
    assert found.models == tuple(
        f"{name} {cards[name].name} {cards[name].version} ({cards[name].sha256[:12]})"
        for name in ("detect", "reliability")
    )


@pytest.mark.parametrize("fwhm", [2.0, 2.4, 3.0])
def test_depth_takes_in_three_widths_of_the_psf(fwhm):
    """In white noise: S/N 5 of a flux f is f sqrt(sum(m^2)) / noise."""
    reach = int(np.ceil(3 * fwhm)) + 1
    side = 2 * reach + 1
    profile = trail_image((side, side), reach, reach, 0.0, 0.0, moffat_mixture(fwhm, 2.0))
    expected = 25.0 - 2.5 * np.log10(5 * 4.0 / np.sqrt(np.sum(profile**2)))
    found = depth(make_info(psf=PsfModel(fwhm_px=fwhm, beta=2.0), noise=4.0, zero_point=25.0))
    assert found == pytest.approx(expected, abs=1e-9)


def points(x, y, **columns):
    return pa.table({"x": np.asarray(x, float), "y": np.asarray(y, float), **columns})


def test_false_detections_of_negated_tiles_are_scaled_to_whole_exposures(tmp_path):
    records = []
    for visit, tiles in ((1, [(0, 30_000), (2, 20_000)]), (2, [(1, 50_000)]), (3, []), (4, [(0, 90_000)])):
        info = make_info((1000, 900), visit)
        record = publish(tmp_path, info, [], visit)
        rows = [{field.name: 0 for field in NEGATIVE.schema} | {"nFalse": n, "nPixels": size} for n, size in tiles]
        table = pa.Table.from_pylist([row | {"band": "r"} for row in rows], NEGATIVE.schema)
        store = CatalogStore(tmp_path)
        made = store.record(store.publish(NEGATIVE, record.key, table, "d" * 64))
        records.append(record.model_copy(update={"datasets": record.datasets | {NEGATIVE.name: made}}))
    (band,) = measure_quality(look_at_exposures(tmp_path, records[:3]), ())
    found = band.measure("negated_false")
    assert (found.n, found.value) == (2, pytest.approx(3 / 100_000 * 900_000))
    assert found.error == pytest.approx(np.sqrt(3) * 9)
    (band,) = measure_quality(look_at_exposures(tmp_path, records[3:]), ())
    assert (band.measure("negated_false").value, band.measure("negated_false").error) == (0, 10)  # of one that is false
    (band,) = measure_quality(look_at_exposures(tmp_path, records[2:3]), ())
    assert (band.measure("negated_false").value, band.measure("negated_false").reason) == (None, "no tile was negated")


def test_rings_hold_what_lies_around_the_brightest_sources():
    info = make_info((1000, 900), psf=PsfModel(fwhm_px=2.5))  # five of its sources have rings of 5 to 30 px
    place = np.array([100.0, 300.0, 500.0, 700.0, 850.0, 400.0])
    sources = points(place, place[::-1], snr=[900.0, 800.0, 700.0, 600.0, 500.0, 400.0])
    centre, ring, border = points([103.0], [400.0]), points([100.0, 315.0], [410.0, 850.0]), points([131.0], [400.0])
    faint = points([400.0, 410.0], [100.0, 100.0])
    rings = around_bright(pa.concat_tables([centre, ring, border, faint]), sources, info)
    assert (rings.inside, rings.outside) == (2, 3)
    area = 5 * np.pi * (30**2 - 5**2)
    assert rings.ratio == pytest.approx(area / (900_000 - 5 * np.pi * 30**2), rel=0.02)


def test_there_are_no_rings_without_sources_nor_where_they_cover_the_image():
    nothing, source = points([], [], snr=[]), points([30.0], [30.0], snr=[100.0])
    assert around_bright(nothing, nothing, make_info((1000, 900))) is None
    assert around_bright(nothing, source, make_info((60, 60), psf=PsfModel(fwhm_px=8.0))) is None
    assert around_bright(nothing, source, make_info((300, 300))).inside == 0


@pytest.mark.parametrize("residuals", [0, 40])
def test_what_is_spread_evenly_is_no_excess_and_residuals_of_stars_are(residuals):
    rng, info = np.random.default_rng(5), make_info((3080, 3072), psf=PsfModel(fwhm_px=2.5))
    exposures = []
    for visit in range(1, 21):
        x, y = rng.uniform(0, 3072, 300), rng.uniform(0, 3080, 300)
        sources = points(x, y, snr=rng.uniform(10, 1000, 300))
        bright = np.argsort(-sources["snr"].to_numpy())[: min(residuals, 40)]
        beside = points(x[bright] + 15.0, y[bright])
        even = points(rng.uniform(0, 3072, 30), rng.uniform(0, 3080, 30))
        rings = around_bright(pa.concat_tables([even, beside]), sources, info)
        exposures.append(replace(looked(make_info(visit=visit)), bright=rings))
    measure = measure_quality(exposures, ())[0].measure("bright_star_excess")
    assert measure.n == 20
    assert measure.value == pytest.approx(residuals, abs=3 * measure.error + 0.02 * residuals)
    assert 0 < measure.error < 1.6


def test_detections_on_galaxies_are_counted_beyond_those_of_any_such_area():
    info, rng = make_info((1000, 900), psf=PsfModel(fwhm_px=2.5)), np.random.default_rng(3)
    x, y = rng.uniform(0, 900, 40), rng.uniform(0, 1000, 40)
    radius, snr = np.where(np.arange(40) < 12, 3.0, 1.6), np.where(np.arange(40) < 10, 50.0, 8.0)
    sources = points(x, y, halfLightRadius=radius, fwhm=np.full(40, 2.5), snr=snr)
    seen = points([*(x[:6] + 1), x[6] + 4, *x[10:14]], [*y[:7], *y[10:14]], snr=[9.0] * 4 + [24.9, 25.1] + [9.0] * 5)
    found = at_cores(seen, sources, info)
    assert (found.inside, found.outside) == (5, 6)  # the sixth is as bright as a trail that is taken for a galaxy
    assert found.ratio == pytest.approx(10 * np.pi * 2.5**2 / 900_000, rel=1e-3)
    assert at_cores(points([], [], snr=[]), sources.slice(10), info) is None
    measure = measure_quality([replace(looked(info), cores=found)], ())[0].measure("galaxy_core_excess")
    assert measure.value == pytest.approx(5, abs=0.01)


def test_the_excess_of_a_night_adds_up_and_has_the_error_of_counting():
    exposures = [replace(looked(make_info(visit=n)), bright=rings) for n, rings in ((1, Rings(9, 50, 0.1)), (2, None))]
    measure = measure_quality(exposures, ())[0].measure("bright_star_excess")
    assert (measure.value, measure.error, measure.n) == (pytest.approx(4.0), pytest.approx(9.5**0.5), 1)


def ephemeris(names, **columns):
    """Return bright, certain, usable objects of `ss_ephemeris`."""
    given = {"designation": names, "ephVmag": 15.0, "ephUncertainty": 0.2, "usable": True, **columns}
    return filled(SS_EPHEMERIS.schema, len(names), **given)


def test_known_objects_count_that_nobody_should_miss():
    info = make_info((100, 100), zero_point=25.0)
    deep = depth(info)
    predicted = ephemeris(
        list("abcdef"),
        ephVmag=[15.0, 15.0, deep - 0.9, deep - 1.1, None, 15.0],
        ephUncertainty=[0.2, 2.0, 0.2, 0.2, 0.2, 0.2],
        usable=[True, True, True, True, True, False],
    )
    found = filled(SS_SOURCE.schema, 1, designation="d")
    assert count_known(predicted, found, info) == (2, 1)
    assert count_known(predicted, found, make_info((100, 100), zero_point=None)) is None
    exposures = [replace(looked(info), known=KnownCount(2, 1)), replace(looked(info), known=KnownCount(8, 8))]
    measure = measure_quality(exposures, ())[0].measure("known_recovered")
    assert (measure.value, measure.n) == (0.9, 10)
    assert measure.error == pytest.approx((11 * 3 / 14**3) ** 0.5)


def test_of_an_exposure_without_provenance_the_search_is_not_known():
    assert exposures._search(None) == ("", ())
