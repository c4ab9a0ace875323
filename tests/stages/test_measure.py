import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header, getdata
from astropy.wcs import WCS

from benchmarks.measurement.pulls import correlated_noise
from kernels.psf.flux_error import psf_flux_error, psf_length_error
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_model import trail_image
from schemas.dia_source import DIA_SOURCE, FEATURES, STATIC, STREAK, UNKNOWN, DetectionFlag
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import PsfModel
from schemas.pixels import MaskPlane
from schemas.settings import MeasureSettings
from schemas.stage import Context
from schemas.summary import CauseCount
from stages.measure import STAGE, describe, measure_all
from tests.support.exposure import exposure_info

SHAPE = (200, 220)
PSF = moffat_mixture(2.3, 3.0)
NOISE, CORRELATION = correlated_noise(np.random.default_rng(21), SHAPE)
TRUTH = ((60.3, 150.8, 14.0, 30.0, 4000.0), (150.1, 40.2, 25.0, 120.0, 6000.0), (100.0, 90.0, 0.0, 0.0, 2500.0))


class Verdict:
    """Reliable is what has a summed logit above 10."""

    card = SimpleNamespace(version="t1", least_reliability=lambda science: 0.5)

    def __call__(self, features, stamps):
        assert features.shape[1] == len(FEATURES)
        return (features[:, 0] > np.log1p(10)).astype(np.float32)

    def classes(self, features, reliability):
        return np.column_stack([reliability * share for share in (0.5, 0.25, 0.25)] + [1 - reliability])


def wcs_cards():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [210.0, 12.0], [110, 100]
    wcs.wcs.cd = np.array([[2.8e-4, 1e-5], [-1e-5, 2.8e-4]])  # east to the right: the mirrored parity
    return wcs.to_header().tostring(sep="\n")


def exposure(**fields):
    facts = {
        "visit": 70_000, "detector": 3, "midpoint_mjd_tai": 61000.25, "shape": SHAPE, "fwhm_px": 2.3, "noise": 10.0,
        "gain": 6.2, "zero_point": 26.0, "noise_correlation": CORRELATION.tolist(), "wcs_header": wcs_cards(),
    }  # fmt: skip
    return exposure_info(**(facts | fields))


def streaks(rows):
    """Candidates (x, y, length, angle, logitSum)."""
    columns = {name: [row[k] for row in rows] for k, name in enumerate(("x", "y", "length", "angle", "logitSum"))}
    columns |= {"snr": [9.0] * len(rows), "logitPeak": [4.0] * len(rows), "nHits": [6] * len(rows)}
    columns |= {"trailClass": [""] * len(rows), "halfWidth": [0.0] * len(rows)}
    return pa.table({name: columns[name] for name in STREAK.schema.names}, schema=STREAK.schema)


CANDIDATES = tuple((x + 0.8, y - 0.6, 0.8 * length, angle + 6, 40.0) for x, y, length, angle, _ in TRUTH)


def pixels(truth=TRUTH):
    return (10 * NOISE + sum(f * trail_image(SHAPE, *place, PSF) for *place, f in truth)).astype(np.float32)


def inputs(candidates=CANDIDATES, truth=TRUTH):
    return {"streak": streaks(candidates), "difference": pixels(truth), "mask": np.zeros(SHAPE, np.uint16)}


def context(info=None, settings=None):
    return Context(info or exposure(), None, settings or MeasureSettings(), {"reliability": Verdict()})


def test_trails_are_measured_and_sorted_and_numbered():
    table = STAGE(inputs(), context()).rows
    rows = table.to_pylist()
    truth = sorted(TRUTH, key=lambda one: one[1])
    assert [row["diaSourceId"] for row in rows] == [(70_000 << 21) | (3 << 12) | rank for rank in range(3)]
    for row, (x, y, length, angle, flux) in zip(rows, truth, strict=True):
        assert row["x"] == pytest.approx(x, abs=5 * row["xErr"])
        assert row["y"] == pytest.approx(y, abs=5 * row["yErr"])
        assert row["trailLengthPx"] == pytest.approx(length, abs=5 * row["trailLengthPxErr"])
        assert (row["trailAnglePx"] - angle + 90) % 180 - 90 == pytest.approx(0, abs=5 * row["trailAnglePxErr"])
        njy = flux * 10 ** ((31.4 - 26) / 2.5)
        assert row["trailFlux"] == pytest.approx(njy, abs=5 * row["trailFluxErr"])
        assert row["magAB"] == pytest.approx(26 - 2.5 * np.log10(flux), abs=5 * row["magABErr"])
        matched = template_snr(flux, trail_image(SHAPE, x, y, length, angle, PSF), 10.0, CORRELATION)
        assert row["snr"] == pytest.approx(matched, rel=0.15)
        assert row["snr"] > max(row[f"{name}Flux"] / row[f"{name}FluxErr"] for name in ("trail", "psf")) * (1 - 1e-6)
        covariance = np.reshape(row["trailCov"], (5, 5))
        np.testing.assert_allclose(covariance, covariance.T)
        assert np.sqrt(covariance[3, 3]) == pytest.approx(row["trailLengthPxErr"], rel=1e-5)
        assert np.linalg.eigvalsh(covariance / np.sqrt(np.outer(*[np.diag(covariance)] * 2))).min() > -1e-9
        assert row["flags"] == 0
        assert (row["reliability"], row["reliabilityVersion"], row["band"]) == (1.0, "t1", "r")
        assert row["bboxSize"] >= max(9, abs(length * np.cos(np.radians(angle))))


def test_sky_is_that_of_astropy_on_a_mirrored_image():
    row = STAGE(inputs(), context()).rows.to_pylist()[2]
    wcs = WCS(Header.fromstring(wcs_cards(), sep="\n"))
    half = 0.5 * row["trailLengthPx"] * np.exp(1j * np.radians(row["trailAnglePx"]))
    ends = [wcs.pixel_to_world(row["x"] + s * half.real, row["y"] + s * half.imag) for s in (-1, 1)]
    assert row["trailLength"] == pytest.approx(ends[0].separation(ends[1]).arcsec, rel=1e-5)
    assert row["trailAngle"] == pytest.approx(ends[0].position_angle(ends[1]).deg % 180, abs=0.01)
    there = wcs.pixel_to_world(row["x"], row["y"])
    assert SkyCoord(row["ra"], row["dec"], unit="deg").separation(there).arcsec < 1e-6
    assert row["raErr"] * 3600 == pytest.approx(row["xErr"] * 1.01, rel=0.1)


def test_without_wcs_and_zero_point_those_columns_are_null():
    table = STAGE(inputs(), context(exposure(wcs_header=None, zero_point=None))).rows
    row = table.to_pylist()[0]
    null = {name for name, value in row.items() if value is None}
    assert null == {
        "ra", "dec", "raErr", "decErr", "ra_dec_Cov", "trailRa", "trailDec", "trailLength", "trailLengthErr",
        "trailAngle", "trailAngleErr", "psfFlux", "psfFluxErr", "apFlux", "apFluxErr", "trailFlux", "trailFluxErr",
        "magAB", "magABErr",
    }  # fmt: skip
    assert row["flags"] == DetectionFlag.NO_WCS | DetectionFlag.NO_ZERO_POINT
    assert row["snr"] > 10


@pytest.mark.parametrize(("source", "flag"), [("assumed", DetectionFlag.ASSUMED_PSF), ("science", 0), ("header", 0)])
def test_rows_say_that_their_psf_is_a_guess(source, flag):
    known = exposure()
    psf = known.psf.model_copy(update={"source": source})
    flags = STAGE(inputs(), context(known.model_copy(update={"psf": psf}))).rows["flags"].to_numpy()
    assert len(flags)
    assert (flags & DetectionFlag.ASSUMED_PSF == flag).all()


def test_pixels_in_njy_need_no_zero_point():
    row = STAGE(inputs(), context(exposure(zero_point=None, pixel_unit="nJy"))).rows.to_pylist()[2]
    assert row["trailFlux"] == pytest.approx(4000, abs=5 * row["trailFluxErr"])


def test_only_what_is_reliable_is_given_and_all_can_be_had():
    weak = (*CANDIDATES[:2], (*CANDIDATES[2][:4], 3.0))
    assert len(STAGE(inputs(weak), context()).rows) == 2
    every = measure_all(inputs(weak), context())
    assert sorted(every["reliability"].to_pylist()) == [0, 1, 1]
    assert len(STAGE(inputs(weak), context(settings=MeasureSettings(min_reliability=0.0))).rows) == 3


def test_what_is_fainter_than_asked_for_is_not_given():
    every = measure_all(inputs(), context())
    second = sorted(every["snr"].to_pylist())[1]
    given = STAGE(inputs(), context(settings=MeasureSettings(min_snr=second))).rows
    assert given.num_rows == 2 < every.num_rows
    assert min(given["snr"].to_pylist()) == second


def test_rows_have_the_probability_of_each_class():
    class Untold(Verdict):
        def classes(self, features, reliability):
            return np.full((len(features), 4), np.nan)

    names = ("pTrail", "pPoint", "pSatellite", "pArtefact")
    rows = STAGE(inputs(), context()).rows.select([*names, "reliability"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(0.5, 0.25, 0.25, 0.0, 1.0)] * 3
    untold = Context(exposure(), None, MeasureSettings(), {"reliability": Untold()})
    rows = STAGE(inputs(), untold).rows
    assert [rows[name].null_count for name in names] == [3] * 4


def test_each_kind_of_exposure_has_its_own_threshold():
    class Even(Verdict):
        card = SimpleNamespace(version="t1", least_reliability=lambda science: 0.4 if science else 0.6)

        def __call__(self, features, stamps):
            return np.full(len(features), 0.5, np.float32)

    even = Context(exposure(), None, MeasureSettings(), {"reliability": Even()})
    assert len(STAGE(inputs(), even).rows) == 0
    assert len(STAGE(inputs() | {"science": inputs()["difference"] + 7}, even).rows) == 3


def test_candidates_can_be_measured_before_there_is_a_verdict():
    described = describe(inputs(), Context(exposure(), None, MeasureSettings()))
    DIA_SOURCE.check(described.table)
    assert described.table["reliability"].to_pylist() == [0, 0, 0]
    assert len(described.features) == len(described.stamps) == 3


def test_a_science_image_tells_of_the_stars_beneath():
    given, known = inputs(), Context(exposure(), None, MeasureSettings())
    x, y, *_ = TRUTH[1]
    star = 1e6 * trail_image(SHAPE, x, y, 0.0, 0.0, PSF)
    science = (given["difference"] + 400 + star).astype(np.float32)
    column = [FEATURES.index(name) for name in STATIC]
    found = describe(given | {"science": science}, known)
    light, peak, unknown, left = found.features[:, column].T
    on = np.hypot(found.table["x"].to_numpy() - x, found.table["y"].to_numpy() - y) < 3
    assert on.sum() == 1
    assert light[on].min() > 5 > 1 > light[~on].max()
    assert peak[on].min() > 5
    assert not unknown.any()
    assert not left.any()  # of one star nothing is known of the subtraction
    blind = describe(given, known)
    assert blind.features[:, column].tolist() == [list(UNKNOWN)] * len(blind.features)
    others = [n for n in range(len(FEATURES)) if n not in column]
    np.testing.assert_array_equal(found.features[:, others], blind.features[:, others])
    assert found.table.equals(blind.table)


@pytest.mark.parametrize("part", [False, True])
def test_the_middle_of_a_part_of_a_detector_mirrors_no_star(part):
    given = inputs()
    x, y, *_ = TRUTH[2]
    science = np.full(SHAPE, 400, np.float32)
    science[int(y) - 6 : int(y) + 6, SHAPE[1] - 1 - int(x) - 1 : SHAPE[1] - int(x) + 1] = 6e4
    science[30:150, 10] = 6e4
    given["difference"][30:150, SHAPE[1] - 11] += 40
    found = STAGE(given | {"science": science}, context(exposure(is_part=part))).rows
    assert len(found) == (3 if part else 2)


def test_candidates_of_one_trail_become_one_and_the_strongest_counts():
    x, y, length, angle, _ = TRUTH[1]
    pieces = [(x + 3, y - 5, 12.0, angle, 11.0), (x, y, length, angle, 50.0), (x - 3, y + 5, 10.0, angle + 4, 30.0)]
    rows = STAGE(inputs(pieces), context()).rows.to_pylist()
    assert [row["logitSum"] for row in rows] == [50.0]


def test_parallel_trails_ten_pixels_apart_stay_two():
    pair = ((100.0, 100.0, 30.0, 0.0, 5000.0), (100.0, 110.0, 30.0, 0.0, 5000.0))
    rows = STAGE(inputs([(*one[:4], 40.0) for one in pair], pair), context()).rows.to_pylist()
    assert [round(row["y"]) for row in rows] == [100, 110]


def test_what_is_dark_is_no_detection():
    dark = tuple((*place, -flux) for *place, flux in TRUTH)
    assert len(STAGE(inputs(truth=dark), context()).rows) == 0


def test_bright_candidates_that_are_left_out_as_unreliable_are_counted():
    weak = (*CANDIDATES[:2], (*CANDIDATES[2][:4], 3.0))
    _, causes = STAGE(inputs(weak), context())
    (left_out,) = [row for row in measure_all(inputs(weak), context()).to_pylist() if row["reliability"] == 0]
    assert left_out["snr"] > 15
    assert causes.counts["bright_unreliable"] == CauseCount(refused=1)


def test_candidates_are_counted_by_cause_published_or_not():
    hit = pixels()
    hit[39:42, 60] += 900  # a cosmic ray, where nothing else is
    given = inputs((*CANDIDATES, (60.0, 40.0, 2.0, 90.0, 40.0))) | {"difference": hit}
    table, causes = STAGE(given, context())
    assert causes.counts["cosmic_ray"] == CauseCount(refused=1)
    assert causes.counts["spike"] == causes.counts["satellite"] == CauseCount()
    assert len(table) == 3
    assert causes.counts["bright_unreliable"] == CauseCount()
    (ray,) = [row for row in measure_all(given, context()).to_pylist() if abs(row["x"] - 60) + abs(row["y"] - 40) < 3]
    assert ray["reliability"] == 1  # refused against the verdict
    assert ray["cosmicRayEvidence"] >= 1.5


def test_order_of_the_candidates_does_not_matter():
    assert STAGE(inputs(CANDIDATES[::-1]), context()).rows.equals(STAGE(inputs(), context()).rows)


def test_no_candidates_give_an_empty_catalogue():
    assert STAGE(inputs(()), context()).rows.equals(DIA_SOURCE.empty())


def test_flood_is_refused(monkeypatch):
    rows = measure_all(inputs(), context()).slice(0, 1)
    many = pa.concat_tables([rows] * 4097)
    monkeypatch.setattr("stages.measure.measure_all", lambda *_: many)
    with pytest.raises(BadInput, match=r"exposure 70000-3: 4097 detections, .* 4096 at most") as error:
        STAGE(inputs(), context())
    assert error.value.code == "flood"


def test_wcs_that_cannot_be_read_is_bad_input():
    with pytest.raises(BadInput, match="exposure 70000-3: no celestial WCS"):
        STAGE(inputs(), context(exposure(wcs_header="CTYPE1  = 'FREQ    '".ljust(80))))


def test_it_needs_an_exposure():
    with pytest.raises(Misconfigured, match="works on one exposure"):
        measure_all(inputs(), Context(None, None, MeasureSettings()))


@pytest.mark.skipif("NIGHTSTRIDE_DATA" not in os.environ, reason="NIGHTSTRIDE_DATA is not set: no real images")
@pytest.mark.parametrize("first", [(180, 324, 300, 175), (190, 324, 250, 172), (180, 328, 300, 178)])
def test_long_streak_of_a_real_frame_is_followed_past_its_stars(first):
    image = getdata(Path(os.environ["NIGHTSTRIDE_DATA"]) / "01_fits_streaks/astride_long.fits").astype(np.float32)
    noise = 1.4826 * np.median(np.abs(image - np.median(image)))
    info = exposure(
        shape=image.shape, psf=PsfModel(fwhm_px=3.0), noise=noise, background=np.median(image), wcs_header=None,
        noise_correlation=((1.0,),),
    )  # fmt: skip
    given = {"streak": streaks([(*first, 40.0)]), "difference": image, "mask": np.zeros(image.shape, np.uint16)}
    (row,) = STAGE(given, context(info)).rows.to_pylist()
    half = 0.5 * row["trailLengthPx"] * np.exp(1j * np.radians(row["trailAnglePx"]))
    ends = sorted((row["x"] + s * half.real, row["y"] + s * half.imag) for s in (-1, 1))
    assert np.hypot(*np.subtract(ends, [(22, 338), (341, 310)]).T).max() < 5  # as the eye sees them
    assert row["trailAnglePx"] == pytest.approx(175, abs=2)
    assert row["flags"] & DetectionFlag.CROSSES_DETECTOR


def test_what_is_given_is_reliable_and_bright_and_not_refused_or_has_a_class(monkeypatch):
    (good,) = measure_all(inputs(), context()).slice(0, 1).to_pylist()
    good |= {"reliability": 0.5, "snr": 6.0, "ghostEvidence": 0.0, "trailClass": ""}
    cases = [
        (good, True),  # each at its limit
        (good | {"reliability": 0.4999}, False),
        (good | {"snr": 5.999}, False),
        (good | {"ghostEvidence": 1.5}, False),
        (good | {"reliability": 0.5, "snr": 1.0, "ghostEvidence": 2.0, "trailClass": "satellite"}, True),
        (good | {"reliability": 0.4999, "trailClass": "satellite"}, False),  # rather not real
        (good | {"reliability": 0.9, "pSatellite": 0.51, "trailLengthPx": 60.0}, True),
        (good | {"reliability": 0.9, "pSatellite": 0.5, "trailLengthPx": 60.0}, True),
        (good | {"reliability": 0.9, "ghostEvidence": 1.5, "pSatellite": 0.9, "trailLengthPx": 60.0}, False),
        (good | {"reliability": 0.9, "pSatellite": 0.9, "trailLengthPx": 59.9}, True),  # asteroids are as long
    ]
    rows = [row | {"nHits": n} for n, (row, _) in enumerate(cases)]
    table = pa.Table.from_pylist(rows, schema=DIA_SOURCE.schema)
    monkeypatch.setattr("stages.measure.measure_all", lambda *_: table)
    found = STAGE(inputs(), context(settings=MeasureSettings(min_snr=6.0))).rows
    assert found["nHits"].to_pylist() == [n for n, (_, given) in enumerate(cases) if given]
    classes = dict(zip(found["nHits"].to_pylist(), found["trailClass"].to_pylist(), strict=True))
    flags = dict(zip(classes, found["flags"].to_pylist(), strict=True))
    flagged = {n for n, value in flags.items() if value & DetectionFlag.SATELLITE}
    assert {n for n, name in classes.items() if name} == flagged == {4, 6}
    lower = STAGE(inputs(), context(settings=MeasureSettings(min_snr=6.0, min_reliability=0.0))).rows
    assert lower["nHits"].to_pylist() == [0, 1, 4, 5, 6, 7, 9]


def test_an_exposure_holds_4096_detections(monkeypatch):
    many = pa.concat_tables([measure_all(inputs(), context()).slice(0, 1)] * 4096)
    monkeypatch.setattr("stages.measure.measure_all", lambda *_: many)
    ids = STAGE(inputs(), context()).rows["diaSourceId"].to_numpy()
    assert len(np.unique(ids)) == 4096
    assert set(ids >> 12) == {(70_000 << 9) | 3}


def test_columns_of_the_fit_are_those_of_its_covariance():
    cd = np.array([[2.8e-4, 1e-5], [-1e-5, 2.8e-4]])
    for row in STAGE(inputs(), context()).rows.to_pylist():
        covariance = np.reshape(row["trailCov"], (5, 5))
        for place, name in enumerate(("xErr", "yErr", "trailLengthPxErr", "trailAnglePxErr"), 1):
            assert row[name] == pytest.approx(np.sqrt(covariance[place, place]), rel=1e-5)
        assert row["x_y_Cov"] == pytest.approx(covariance[1, 2], rel=1e-5)
        sky = cd @ covariance[1:3, 1:3] @ cd.T
        assert (row["raErr"], row["decErr"]) == pytest.approx(np.sqrt(np.diag(sky)), rel=1e-3)
        assert row["ra_dec_Cov"] == pytest.approx(sky[0, 1], rel=1e-2, abs=1e-3 * np.sqrt(sky[0, 0] * sky[1, 1]))
        assert (row["trailRa"], row["trailDec"]) == (row["ra"], row["dec"])
        as_trail = 2.5 / np.log(10) * row["trailFluxErr"] / row["trailFlux"]
        significant = row["psfChi2"] - row["trailChi2"] > 30
        assert row["magABErr"] == pytest.approx(as_trail, rel=0.02) if significant else row["magABErr"] < as_trail
        theta = np.radians(row["trailAnglePx"])
        extent = row["trailLengthPx"] * max(abs(np.cos(theta)), abs(np.sin(theta)))
        assert row["bboxSize"] == np.ceil(extent + 4 * 2.3)


def test_a_fit_that_failed_has_no_errors_and_gives_way_to_one_that_did_not():
    given = inputs()
    x, y, length, angle, _ = TRUTH[1]
    blind = given["mask"].copy()
    blind[:] = 1
    blind[34:48, 140:162] = 0
    hidden = describe(given | {"mask": blind, "streak": streaks([(x, y, length, angle, 40.0)])}, context())
    for row in hidden.table.to_pylist():
        failed = bool(row["flags"] & DetectionFlag.FIT_FAILED)
        assert (row["trailFluxErr"] is None) == (row["trailCov"] is None) == failed


def test_the_aperture_and_the_noise_are_those_of_exposure_and_settings():
    wide, narrow = (
        measure_all(inputs(), context(settings=MeasureSettings(aperture_fwhm=one)))["apFluxErr"].to_numpy()
        for one in (3.0, 1.5)
    )
    assert (wide > 1.3 * narrow).all()
    bright, none = (measure_all(inputs(), context(exposure(gain=one)))["apFluxErr"].to_numpy() for one in (0.5, None))
    assert (bright > 1.05 * none).all()


def test_errors_of_the_psf_are_part_of_those_of_fluxes_and_of_nothing_else():
    exact = STAGE(inputs(), context()).rows
    unsure = STAGE(inputs(), context(exposure(psf=PsfModel(fwhm_px=2.3, fwhm_err=0.23, flatness_err=0.1)))).rows
    known = (2.3, 3.0, 0.23, 0.1)
    point, trail = (psf_flux_error(*known, exact["trailLengthPx"].to_numpy() * k) for k in (0, 1))
    for name, share in (("psf", point), ("trail", trail)):
        flux, before, after = (
            one[f"{name}Flux{end}"].to_numpy() for one, end in ((exact, ""), (exact, "Err"), (unsure, "Err"))
        )
        assert after == pytest.approx(np.hypot(before, share * flux), rel=1e-4, nan_ok=True)
    changed = {"psfFluxErr", "trailFluxErr", "magABErr"}
    for name in set(exact.column_names) - changed:
        assert exact[name].equals(unsure[name]), name


def test_the_width_of_an_assumed_psf_is_part_of_the_errors_of_lengths():
    unsure = {"fwhm_px": 2.3, "fwhm_err": 0.5}
    before, after = (
        STAGE(inputs(), context(exposure(psf=PsfModel(**unsure, source=source)))).rows
        for source in ("stars", "assumed")
    )
    more = psf_length_error(2.3, 0.5, before["trailLengthPx"].to_numpy())
    assert more.max() > 0.5
    expected = np.hypot(before["trailLengthPxErr"].to_numpy(), more)
    assert after["trailLengthPxErr"].to_numpy() == pytest.approx(expected, rel=1e-4, nan_ok=True)
    told = [None if one is None else one[18] for one in after["trailCov"].to_pylist()]
    assert np.sqrt(np.array(told, float)) == pytest.approx(expected, rel=1e-4, nan_ok=True)
    sky = (after["trailLengthErr"].to_numpy() / before["trailLengthErr"].to_numpy()) ** 2
    there = np.isfinite(sky)
    assert sky[there] == pytest.approx((expected / before["trailLengthPxErr"].to_numpy())[there] ** 2, rel=0.02)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("ambiguous_time",), DetectionFlag.ASSUMED_TIME),
        (("assumed_gain", "unknown_unit"), DetectionFlag.ASSUMED_GAIN | DetectionFlag.UNKNOWN_UNIT),
        (("assumed_site", "no_time"), DetectionFlag.ASSUMED_SITE | DetectionFlag.NO_TIME),
        (("assumed_psf_unit",), DetectionFlag.ASSUMED_PSF),
        (("high_background", "psf_differs"), DetectionFlag.HIGH_BACKGROUND | DetectionFlag.PSF_DIFFERS),
        ((), 0),
    ],
)
def test_rows_tell_what_was_assumed_of_their_exposure(flags, expected):
    found = STAGE(inputs(), context(exposure(flags=flags))).rows["flags"].to_numpy()
    exposure_wide = -int(DetectionFlag.ASSUMED_PSF)  # all bits from there on
    assert len(found)
    assert (found & exposure_wide == int(expected)).all()


@pytest.mark.parametrize("told", [np.inf, 1e30])
def test_a_pixel_without_weight_is_left_out_and_takes_no_error_with_it(told):
    variance = np.full(SHAPE, 400.0, np.float32)  # in a unit of its own
    plain = STAGE(inputs() | {"variance": variance}, context()).rows.to_pylist()
    for x, y, *_ in TRUTH:
        variance[round(y) + 1, round(x)] = told
    found = STAGE(inputs() | {"variance": variance}, context()).rows.to_pylist()
    assert len(found) == len(plain) == 3
    for one, other in zip(found, plain, strict=True):
        assert other["trailFluxErr"] < one["trailFluxErr"] < 2 * other["trailFluxErr"]
        assert one["snr"] > 0.5 * other["snr"]
        assert one["maskedFraction"] > 0
    masked = np.where(variance >= told, np.uint16(MaskPlane.BAD), np.uint16(0))
    again = STAGE(inputs() | {"variance": variance, "mask": masked}, context()).rows.to_pylist()
    assert [one["trailFluxErr"] for one in again] == [one["trailFluxErr"] for one in found]
