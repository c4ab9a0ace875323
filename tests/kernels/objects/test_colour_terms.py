from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.objects.colour_terms import to_sdss
from kernels.objects.source_photometry import WORST
from schemas.photometric_systems import INSTRUMENTS, RELATIONS, SystemName, system_of

SMALL = 0.01
SYSTEM_NAMES = get_args(SystemName)


def transformed(system, error=SMALL, **magnitudes):
    columns = {band: np.atleast_1d(np.array(value, np.float32)) for band, value in magnitudes.items()}
    return to_sdss(columns, {band: np.full_like(values, error) for band, values in columns.items()}, system)


def found(system, **magnitudes):
    out = transformed(system, **magnitudes)
    return {band: float(values[0]) for band, values in out.magnitudes.items() if np.isfinite(values[0])}, out.reason[0]


# Each by the published equation, written out with other numbers than the code's.
def test_ps1_by_tonry_2012_table_6():
    x = 17.0 - 16.4
    expected = {
        "g": 17.0 + 0.013 + 0.145 * x + 0.019 * x**2,
        "r": 16.4 - 0.001 + 0.004 * x + 0.007 * x**2,
        "i": 16.2 - 0.005 + 0.011 * x + 0.010 * x**2,
        "z": 16.1 + 0.013 - 0.039 * x - 0.012 * x**2,
    }
    magnitudes, reason = found("ps1", g=17.0, r=16.4, i=16.2, z=16.1)
    assert (magnitudes, reason) == (pytest.approx(expected, abs=2e-6), "")


def test_decam_there_and_back_by_des_dr2():
    """The paper's equations from SDSS to DES, and ours from DES to SDSS, agree within their scatter."""
    g, r, i, z = 18.2, 17.5, 17.2, 17.05
    des = {
        "g": g - 0.061 * (g - i) + 0.008,
        "r": r - 0.155 * (r - i) - 0.007,
        "i": i - 0.166 * (r - i) + 0.032,
        "z": z - 0.056 * (r - i) + 0.027,
    }
    magnitudes, _ = found("decam", **des)
    assert magnitudes == pytest.approx({"g": g, "r": r, "i": i, "z": z}, abs=0.02)


def test_lsst_there_and_back_by_rtn_099():
    g, r, i, z = 18.2, 17.5, 17.2, 17.05
    c = g - i
    comcam = {
        "g": g - 0.062 * c + 0.007,
        "r": r - 0.007 * c + 0.005,
        "i": i - 0.010 * c + 0.019,
        "z": z + 0.020 * c + 0.032,
    }
    magnitudes, _ = found("lsst", **comcam)
    assert magnitudes == pytest.approx({"g": g, "r": r, "i": i, "z": z}, abs=0.005)


def test_ztf_prefers_the_colour_that_has_i():
    with_i, _ = found("ztf", g=17.0, r=16.4, i=16.3)
    without, _ = found("ztf", g=17.0, r=16.4)
    assert with_i["r"] == pytest.approx(16.4 - 0.003 + 0.062 * 0.7, abs=1e-5)
    assert without["r"] == pytest.approx(16.4 - 0.009 + 0.089 * 0.6, abs=1e-5)
    red, _ = found("ztf", r=16.4, i=16.3)
    assert red["r"] == pytest.approx(16.4 + 0.012 + 0.189 * 0.1 - 0.020 * 0.01, abs=1e-5)


# Magnitudes less r of SDSS in g, r, i, z: spectra of Pickles (1998, PASP 110, 863) through the curves of the cameras
# that speclite 1.0.0 (SDSS, PS1, DECam, LSST) and pyphot 2.1.1 (ZTF) hold.
SYNTHETIC = {
    "A0V": {
        "sdss": (-0.233, 0.000, 0.184, 0.345),
        "ps1": (-0.222, -0.001, 0.189, 0.332),
        "ztf": (-0.237, 0.033, 0.252),
        "decam": (-0.224, 0.033, 0.232, 0.353),
    },
    "G2V": {
        "sdss": (0.458, 0.000, -0.151, -0.197),
        "ps1": (0.381, -0.002, -0.154, -0.191),
        "ztf": (0.409, -0.034, -0.170),
        "decam": (0.404, -0.035, -0.166, -0.206),
        "lsst": (0.417, -0.002, -0.155, -0.192),
    },
    "K5V": {
        "sdss": (1.184, 0.000, -0.398, -0.595),
        "ps1": (1.020, 0.002, -0.408, -0.572),
        "ztf": (1.081, -0.079, -0.481),
        "decam": (1.068, -0.079, -0.459, -0.624),
        "lsst": (1.083, 0.001, -0.411, -0.572),
    },
}


@pytest.mark.parametrize(("star", "system"), [(star, one) for star in SYNTHETIC for one in SYNTHETIC[star]])
def test_agrees_with_synthetic_photometry_but_for_zero_points(star, system):
    """Published relations hold the zero points of catalogues, a few hundredths from AB."""
    seen = {band: 17 + value for band, value in zip("griz", SYNTHETIC[star][system], strict=False)}
    true = {band: 17 + value for band, value in zip("griz", SYNTHETIC[star]["sdss"], strict=False)}
    magnitudes, reason = found(system, **seen)
    assert reason == ""
    tolerance = 0.02 if system in ("ps1", "ztf") else 0.05
    assert magnitudes == pytest.approx({band: true[band] for band in seen}, abs=tolerance)


def test_sdss_stays_as_it_is_but_for_a_single_band():
    magnitudes, reason = found("sdss", u=18.0, g=17.0)
    assert (magnitudes, reason) == ({"u": 18.0, "g": 17.0}, "")
    assert found("sdss", g=17.0) == ({}, "")


@pytest.mark.parametrize("system", [None, *SYSTEM_NAMES])
def test_a_source_without_a_colour_has_nothing_and_needs_no_reason(system):
    assert found(system, g=17.0, r=np.nan, y=17.0) == ({}, "")
    assert found(system, g=np.nan) == ({}, "")


def test_says_why_there_is_nothing():
    assert found(None, g=17.0, r=16.5) == ({}, "system")
    assert found("decam", g=17.0, r=16.5) == ({}, "colour_term")
    assert found("ztf", u=18.0, z=16.0) == ({}, "colour_term")
    assert found("ps1", g=19.0, r=16.5) == ({}, "colour_range")
    assert found("lsst", g=16.0, r=16.1, i=16.2) == ({}, "colour_range")


def test_a_colour_at_the_limit_of_a_relation_is_out_of_range():
    """DECam: g by g - i from -1 to 3.5; r and i by r - i from -0.4 to 2."""
    assert found("decam", g=16.0, i=17.0) == ({}, "colour_range")
    assert found("decam", g=16.0625, i=17.0) == ({}, "colour_term")
    assert found("decam", r=18.0, i=16.0) == ({}, "colour_range")
    assert found("decam", r=17.9375, i=16.0)[1] == ""


def test_a_band_without_a_relation_is_left_out():
    magnitudes, reason = found("ztf", u=18.0, g=17.0, r=16.5, z=16.1)
    assert (set(magnitudes), reason) == ({"g", "r"}, "")


def test_the_error_holds_colour_and_scatter():
    out = transformed("ps1", error=0.02, g=17.0, r=16.5)
    slope = 0.145 + 2 * 0.019 * 0.5
    expected = np.sqrt(((1 + slope) ** 2 + slope**2 + 1) * 0.02**2)
    assert out.errors["g"][0] == pytest.approx(expected, rel=1e-5)
    assert np.isnan(transformed("ps1", error=WORST - 1e-4, g=17.0, r=16.5).magnitudes["g"][0])
    assert np.isnan(transformed("ps1", g=19.0, r=16.5).errors["g"][0])


@pytest.mark.parametrize("system", ["ps1", "ztf", "decam", "lsst"])
def test_magnitudes_scatter_as_their_errors_say(system):
    rng, true = np.random.default_rng(4), {"g": 17.3, "r": 16.8, "i": 16.6, "z": 16.5}
    seen = {band: rng.normal(value, 0.1, 20000).astype(np.float32) for band, value in true.items()}
    found = to_sdss(seen, {band: np.full(20000, 0.1, np.float32) for band in true}, system)
    for band, (relation, *_) in RELATIONS[system].items():
        scatter = np.hypot(np.nanstd(found.magnitudes[band]), relation.scatter)
        assert scatter == pytest.approx(np.nanmean(found.errors[band]), rel=0.02)


def test_an_error_may_be_the_worst_there_is():
    magnitudes = {"g": 17.0, "r": 16.5, "i": 16.3}
    assert transformed("sdss", error=WORST, **magnitudes).magnitudes["g"][0] == np.float32(17.0)
    assert np.isnan(transformed("sdss", error=1.001 * WORST, **magnitudes).magnitudes["g"][0])


@given(
    st.sampled_from(SYSTEM_NAMES),
    st.lists(st.tuples(*[st.one_of(st.just(np.nan), st.floats(14, 20, width=32))] * 4), min_size=1, max_size=6),
)
def test_rows_stand_alone_and_a_reason_leaves_nothing(system, rows):
    table = dict(zip("griz", np.array(rows).T, strict=True))
    together = transformed(system, **table)
    for n, row in enumerate(rows):
        alone = transformed(system, **dict(zip("griz", row, strict=True)))
        assert alone.reason[0] == together.reason[n]
        for band in "griz":
            np.testing.assert_array_equal(alone.magnitudes[band][0], together.magnitudes[band][n])
        left = [band for band in "griz" if np.isfinite(together.magnitudes[band][n])]
        assert not (left and together.reason[n])
        assert len(left) != 1


def test_relations_are_of_bands_of_ugriz_and_their_ranges_are_not_empty():
    assert RELATIONS.keys() == set(SYSTEM_NAMES)
    for relation in (one for bands in RELATIONS.values() for some in bands.values() for one in some):
        assert set(relation.colour) <= set("ugriz")
        assert relation.between[0] < 0.3 < relation.between[1]
        assert relation.scatter > 0


def test_instruments_name_their_system():
    assert set(INSTRUMENTS.values()) == set(SYSTEM_NAMES)
    assert system_of(["LSSTCam", "LSSTComCam "]) == "lsst"
    assert system_of(["ztf/Mosaic"]) == "ztf"
    assert system_of([]) is system_of(["DECam", "GPC1"]) is system_of(["DECam", "new"]) is system_of(["new"]) is None
