import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.inputs.described import described
from flows.inputs.ingest import prepare
from flows.inputs.probe import read
from flows.inputs.source import Source
from schemas.dia_source import DetectionFlag
from schemas.settings import Settings
from tests.support.cameras import TRAILS
from tests.support.cli import nightstride

pytest_plugins = ("tests.support.night_fixture",)

UNIT_IS_NJY = "[fits.zero_point]\nvalue = 31.4\n"
"""Fluxes in the units of the pixels, whatever these are; nothing else is told of any camera."""


@pytest.fixture(scope="module")
def night(cameras, prefect_api, tmp_path_factory):
    """Summary of a run of all files at once, and the detections of each."""
    folder = tmp_path_factory.mktemp("unknown")
    (folder / "units.toml").write_text(UNIT_IS_NJY)
    raw, out = next(iter(cameras.values())).path.parent, folder / "out"
    options = {"NIGHTSTRIDE_EXECUTION__WORKERS": "1", "NIGHTSTRIDE_INJECT__SHARE": "0", **prefect_api}
    done = nightstride("run", raw, "--out", out, "--config", folder / "units.toml", "--json", **options)
    assert done.code == 0, done.stderr
    files = sorted((out / "catalogs" / "dia_source").rglob("*.parquet"))
    rows = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]).to_pylist()
    return done, {name: [row for row in rows if _is_of(row, one)] for name, one in cameras.items()}


def _is_of(row, camera):
    apart = (row["midpointMjdTai"] - camera.middle.tai.mjd) * 86400
    return abs(apart) < 1e-3 and row["detector"] == camera.detector  # the time is exact, or nothing is found


def _found(rows, trail):
    x, y, length, angle = trail
    near = [row for row in rows if np.hypot(row["x"] - x, row["y"] - y) < 3]
    assert len(near) == 1
    return near[0], length, angle


@pytest.mark.slow
def test_all_trails_are_found_where_they_are(cameras, night):
    _, rows = night
    for name, camera in cameras.items():
        for trail in TRAILS:
            row, length, angle = _found(rows[name], trail)
            ra, dec = camera.wcs.all_pix2world([trail[:2]], 0)[0]
            scale = np.sqrt(abs(np.linalg.det(camera.wcs.pixel_scale_matrix))) * 3600
            away = 3600 * np.hypot((row["ra"] - ra) * np.cos(np.radians(dec)), row["dec"] - dec)
            assert np.hypot(row["x"] - trail[0], row["y"] - trail[1]) < 0.3
            assert away < 0.3 * scale
            assert row["trailLengthPx"] == pytest.approx(length, abs=1.0)
            assert abs((row["trailAnglePx"] - angle + 90) % 180 - 90) < 3


@pytest.mark.slow
def test_fluxes_are_within_their_errors(cameras, night):
    _, rows = night
    pulls = []
    for name, camera in cameras.items():
        found = [_found(rows[name], trail)[0] for trail in TRAILS]
        flux, error = (np.array([row[column] for row in found]) for column in ("trailFlux", "trailFluxErr"))
        planted = np.array(camera.fluxes)
        assert (error < 0.08 * planted).all()
        pulls.append((flux - planted) / error)
        apart = [np.hypot(row["x"] - trail[0], row["y"] - trail[1]) for row, trail in zip(found, TRAILS, strict=True)]
        shares = f"flux over planted {np.sort(flux / planted).round(2)}, pulls {np.sort(pulls[-1]).round(1)}"
        print(f"{name}: within {max(apart):.2f} px, {shares}, errors {np.sort(error / flux).round(3)}")  # by pytest -s
    assert np.abs(pulls).max() < 3.5
    assert np.square(pulls).mean() < 1.6
    assert abs(np.mean(pulls)) < 0.7


@pytest.mark.slow
def test_what_was_assumed_is_shouted(cameras, night):
    done, rows = night
    counts = {"assumed_detector": 5, "assumed_gain": 2, "assumed_site": 2, "planes_left_out": 1}
    assert done.summary["assumed"] == counts
    assert "ASSUMED: " in done.stderr
    assert "(assumed_gain, 2 exposures)" in done.stderr
    assert "nightstride inspect" in done.stderr
    assert done.summary["nights"] == ["20260301", "20260302"]
    assumed = {
        DetectionFlag.ASSUMED_GAIN: {"sip", "sixteen_bits"},
        DetectionFlag.ASSUMED_SITE: {"extensions", "jansky"},
    }
    for flag, those in assumed.items():
        assert {name for name, found in rows.items() if all(row["flags"] & flag for row in found)} == those


@pytest.mark.parametrize("beta", [None, 2.2])
def test_without_stars_the_errors_of_fluxes_hold_what_is_not_known(cameras, beta):
    camera = next(one for one in cameras.values() if one.psf[1] == beta)
    raw = read(Source(str(camera.path)), Settings(fits={"psf_fwhm": {"value": camera.psf[0]}}))
    info = described(raw)[0]
    assert info.psf.flatness_err < 0.1  # its slope was measured on stars
    assert 1 / info.psf.beta == pytest.approx(0 if beta is None else 1 / beta, abs=2 * info.psf.flatness_err)
    blind = {**raw.planes, "difference": np.random.default_rng(1).normal(0, 1, raw.planes["difference"].shape)}
    blind["difference"] = blind["difference"].astype(np.float32)
    info = described(type(raw)(**{**raw.__dict__, "planes": blind}))[0]
    assert (info.psf.beta, info.psf.flatness_err) == (3.0, 0.25)


def test_a_width_that_stars_do_not_have_is_flagged(cameras):
    source = Source(str(cameras["sip"].path))
    assert "psf_differs" in prepare(source, Settings(fits={"psf_fwhm": {"value": 6.0}}))[0].flags
    assert "psf_differs" not in prepare(source, Settings(fits={"psf_fwhm": {"value": 3.3}}))[0].flags
    given = prepare(source, Settings(fits={"psf_fwhm": {"value": 3.3}, "psf_beta": {"value": 100.0}}))[0].psf
    assert (given.beta, given.flatness_err, given.source) == (100.0, 0.0, "header")
