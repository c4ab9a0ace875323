"""PSF and noise of files as Rubin's pipelines write them, from nothing but their pixels and VARIANCE."""

import numpy as np
import pytest

from benchmarks.measurement.rubin_file import STARS, bright_points, figures, measured
from flows.inputs.ingest import prepare
from flows.inputs.source import Source
from kernels.image.variation import varied
from kernels.psf.psf_shape import PsfShape
from schemas.settings import Settings
from tests.support.lsst_file import BETA, FWHM, NOISE, SHEAR, write_lsst_file

SIDE = 1840


def bright_trails(rng):
    return float(rng.uniform(8, 40)), float(np.exp(rng.uniform(np.log(12), np.log(60))))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    path = tmp_path_factory.mktemp("lsst") / "uneven.fits"
    return path, write_lsst_file(path, 3, SIDE, bright_trails, stars=STARS, uneven=3.0)


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    path = tmp_path_factory.mktemp("lsst") / "points.fits"
    return path, write_lsst_file(path, 4, SIDE, bright_points, stars=STARS)


def test_the_psf_is_that_of_the_place(points):
    info, _ = prepare(Source(str(points[0])), Settings())
    assert info.psf.source == "image"
    assert info.psf.fwhm_px == pytest.approx(FWHM, rel=0.03)
    assert info.psf.beta == pytest.approx(BETA, abs=0.3)
    for x, y in ((200, 200), (200, 1600), (920, 920), (1600, 240), (1600, 1600)):
        u, v = 2 * x / SIDE - 1, 2 * y / SIDE - 1
        shear = np.array([SHEAR[0] + 0.02 * u, SHEAR[1] - 0.02 * v])
        shape = PsfShape.at(info.psf.variation, x, y)
        # The pixels are round, and a twentieth of the PSF's variance.
        expected = 0.95 * 2 * shear / (1 + shear @ shear)
        np.testing.assert_allclose([shape.e1[0], shape.e2[0]], expected, atol=0.02)
        assert shape.width[0] * info.psf.fwhm_px == pytest.approx(FWHM * (1 + 0.04 * u - 0.03 * v), rel=0.03)


def test_a_bright_point_has_no_length_though_the_psf_is_sheared(points):
    path, planted = points
    told, old = (
        figures(list(zip(planted, measured(path, planted, without=without)[0], strict=True))[STARS:])
        for without in ((), ("psf",))
    )
    assert told["within2"] >= 0.9
    assert old["within2"] < 0.5
    assert abs(told["magAB"]) < 0.015


def test_the_noise_is_that_of_the_place(uneven):
    info, _ = prepare(Source(str(uneven[0])), Settings())
    x = np.array([200.0, 500.0, 1280.0, 1640.0])
    told = info.noise * varied(info.noise_variation, x, np.full(4, 800.0))[0]
    sky = NOISE**2 * (1 + 2 * x / SIDE) * np.where(x > SIDE / 2, 1.2, 1.0)
    np.testing.assert_allclose(told, np.sqrt(sky), rtol=0.06)


def test_fluxes_and_lengths_are_within_their_errors(uneven):
    path, planted = uneven
    rows, _ = measured(path, planted)
    told = figures(list(zip(planted, rows, strict=True))[STARS:])
    assert told["n"] >= 55
    assert abs(told["magAB"]) < 0.03
    assert 0.75 < told["lengthPull"][1] < 1.25
    assert 0.75 < told["fluxPull"][1] < 1.25
    # S/N follows the noise of the place, and VARIANCE has that of the light itself.
    ratio = np.array([row["snr"] / one.snr for one, row in zip(planted, rows, strict=True) if row and one.snr < 40])
    x = np.array([one.x for one, row in zip(planted, rows, strict=True) if row and one.snr < 40])
    assert np.median(ratio[x < SIDE / 2]) == pytest.approx(np.median(ratio[x > SIDE / 2]), rel=0.08)


def test_the_light_of_a_star_is_noise_by_the_variance_plane(points):
    path, planted = points
    told, blind = (
        figures(list(zip(planted, measured(path, planted, without=without)[0], strict=True))[STARS:])
        for without in ((), ("noise",))
    )
    assert told["fluxPull"][1] < 0.8 * blind["fluxPull"][1] or blind["fluxPull"][1] < 1.1
    with_it, without_it = (measured(path, planted, without=one)[0] for one in ((), ("noise",)))
    ratios = [a["snr"] / b["snr"] for a, b in zip(with_it[STARS:], without_it[STARS:], strict=True) if a and b]
    # Of a point of S/N 100 here three tenths of the variance in its core is its own.
    assert 0.5 < np.median(ratios) < 0.85
