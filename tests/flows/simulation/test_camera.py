import numpy as np
import pytest
from astropy.wcs import WCS

from flows.simulation.camera import detector_count, projection, solution
from flows.simulation.presets import find_preset
from tests.support.summary import summary


@pytest.mark.parametrize(("name", "scale", "distortion"), [("ztf", 1.012, "TPV"), ("rubin", 0.2, "TAN-SIP")])
def test_projection_has_the_scale_and_a_distortion_that_inverts(name: str, scale: float, distortion: str) -> None:
    preset = find_preset(name)
    header = projection(preset, 5, (150.0, 20.0))
    wcs = solution(header)
    assert header["CTYPE1"].endswith(distortion)
    x, y = np.array([0.0, 1500.0, 3000.0]), np.array([10.0, 2000.0, 3000.0])
    sky = wcs.all_pix2world(x, y, 0)
    back = wcs.all_world2pix(*sky, 0, tolerance=1e-6)
    assert np.hypot(back[0] - x, back[1] - y).max() < 1e-4
    area = np.abs(np.linalg.det(wcs.pixel_scale_matrix))
    assert np.sqrt(area) * 3600 == pytest.approx(scale, rel=1e-3)
    straight = wcs.wcs_pix2world(x, y, 0) if name == "rubin" else _without_distortion(header).wcs_pix2world(x, y, 0)
    assert np.hypot(sky[0] - straight[0], sky[1] - straight[1]).max() * 3600 > 0.01


def _without_distortion(header):
    plain = header.copy()
    for axis, kind in ((1, "RA---TAN"), (2, "DEC--TAN")):
        plain[f"CTYPE{axis}"] = kind
        for key in list(plain[f"PV{axis}_*"]):
            del plain[key]
    return solution(plain)


def test_quadrants_of_a_ccd_lie_side_by_side_without_overlap() -> None:
    preset = find_preset("ztf")
    ny, nx = preset.shape
    centres = []
    for detector in range(4):
        wcs = solution(projection(preset, detector, (150.0, 20.0)))
        centres.append([float(part) for part in wcs.all_pix2world(nx / 2, ny / 2, 0)])
    ra, dec = np.array(centres).T
    apart = np.hypot((ra[:, None] - ra) * np.cos(np.deg2rad(20)), dec[:, None] - dec) * 3600 / preset.pixel_scale
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 3000
    assert apart[apart < np.inf].max() < 4600


def test_number_of_detectors() -> None:
    assert [detector_count(find_preset(name)) for name in ("ztf", "rubin", "decam")] == [64, 189, 62]


def test_detectors_of_decam_lie_side_by_side() -> None:
    preset = find_preset("decam")
    ny, nx = preset.shape
    for one, other, side in ((9, 10, nx), (9, 17, ny)):
        places = [projection(preset, number, (150.0, 0.0)) for number in (one, other)]
        apart = np.hypot(*(places[1][key] - places[0][key] for key in ("CRVAL1", "CRVAL2"))) * 3600 / preset.pixel_scale
        assert side < apart < 1.04 * side


def test_a_detector_has_its_own_distortion_and_keeps_it() -> None:
    found = []
    for name in ("ztf", "rubin"):
        preset = find_preset(name, shape=(300, 420))
        for detector in (0, 1, 6, 19, 63):
            header = projection(preset, detector, (150.0, 20.0))
            keys = ("CRPIX*", "CD*_*", "PV*_*") if name == "ztf" else ("CRPIX*", "CD*_*", "A_*", "B_*")
            found += [summary(list(header[one].values())) for one in keys]
            assert header == projection(preset, detector, (150.0, 20.0))
    np.testing.assert_allclose(
        found,
        [
            [2, 0, -2745, 3769560.5, 4149.5],
            [4, 9.79239228e-07, -0.00056319805, 1.58046914e-07, 0.00141044322],
            [30, 2.00344293, -0.00176494843, 2.00010763, 19.0821195],
            [2, 1761.5, -1404.5, 5075502.5, 4570.5],
            [4, 2.77756945e-07, -0.000562499705, 1.58046914e-07, 0.00140694365],
            [30, 2.00248636, -0.00259881933, 2.00002993, 19.0903576],
            [2, 3467, 0, 6011612.5, 5172.5],
            [4, 1.35404048e-06, -0.000563569741, 1.58046914e-07, 0.00141230945],
            [30, 2.00382323, -0.00190384753, 2.0000358, 19.0856312],
            [2, 1705.5, -1340.5, 4705670.5, 4751.5],
            [4, 5.52750989e-07, -0.000562773886, 1.58046914e-07, 0.00140831659],
            [30, 2.00393028, -0.00214508697, 2.00013171, 19.0890881],
            [2, 1705.5, -1340.5, 4705670.5, 4751.5],
            [4, 8.63422318e-07, -0.000563082993, 1.58046914e-07, 0.00140986604],
            [30, 2.00206707, -0.00183946943, 2.0000257, 19.0607862],
            [2, 361, 0, 66960.5, 511.5],
            [4, 5.58558587e-05, -5.55553524e-05, 6.17283951e-09, 0.000278528028],
            [8, 3, -9.70843246e-07, 9, 3.00000393],
            [8, 3.00000051, -5.83282707e-08, 9, 3.00000138],
            [2, 361, 0, 66960.5, 511.5],
            [4, 5.55554827e-05, -5.57354136e-05, 6.17283951e-09, 0.000278227241],
            [8, 3.00000029, -3.25370113e-07, 9, 3.00000189],
            [8, 3.00000018, -2.52789408e-07, 9, 3.00000189],
            [2, 361, 0, 66960.5, 511.5],
            [4, 5.55555407e-05, -5.56368593e-05, 6.17283951e-09, 0.000277981],
            [8, 3.00000013, -1.51138627e-07, 9, 3.000001],
            [8, 3, -5.16109058e-07, 9, 3.00000214],
            [2, 361, 0, 66960.5, 511.5],
            [4, 5.55554953e-05, -5.57191182e-05, 6.17283951e-09, 0.000278186534],
            [8, 3.00000032, -3.6713349e-07, 9, 3.00000293],
            [8, 3.00000045, -2.06419362e-07, 9, 3.00000223],
            [2, 361, 0, 66960.5, 511.5],
            [4, 5.55554721e-05, -5.57480177e-05, 6.17283951e-09, 0.000278258725],
            [8, 3.00000016, -2.16823585e-07, 9, 3.00000177],
            [8, 3.00000023, -9.48900221e-08, 9, 3.00000131],
        ],
        rtol=1e-8,
    )


@pytest.mark.parametrize("name", ["ztf", "rubin"])
def test_detectors_are_turned_and_neither_sheared_nor_stretched(name: str) -> None:
    preset = find_preset(name)
    header = projection(preset, 6, (150.0, 20.0))
    matrix = np.array([[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)]) * 3600 / preset.pixel_scale
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(2), atol=1e-10)
    assert matrix[0, 0] < -0.99  # east is on the left
    assert np.linalg.det(matrix) == pytest.approx(1 if name == "ztf" else -1)  # of ZTF's images, north is below
    axes = ("PV1_*", "PV2_*") if name == "ztf" else ("A_*", "B_*")
    assert [len(header[one]) for one in axes] == ([15, 15] if name == "ztf" else [8, 8])
    assert (header["WCSAXES"], header["EQUINOX"], header["RADESYS"]) == (2, 2000.0, "ICRS")


@pytest.mark.parametrize(("name", "last"), [("ztf", 63), ("rubin", 188)])
def test_detectors_lie_side_by_side_on_the_tangent_plane(name: str, last: int) -> None:
    """4 x 4 CCDs of 1.80 x 1.87 deg, or 14 x 14 detectors of 0.235 deg, about the pointing."""
    preset = find_preset(name)
    tangent = WCS(naxis=2)
    tangent.wcs.ctype, tangent.wcs.crval, tangent.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [150.0, 20.0], [1.0, 1.0]
    per_row, (step_x, step_y), each = (4, (1.80, 1.87), 4) if name == "ztf" else (14, (0.235, 0.235), 1)
    for detector in (0, 1, 5, 14, 37, last):
        header = projection(preset, detector, (150.0, 20.0))
        row, column = divmod(detector // each, per_row)
        found = tangent.wcs_world2pix(header["CRVAL1"], header["CRVAL2"], 1)
        middle = (per_row - 1) / 2
        assert found == pytest.approx([(column - middle) * step_x, (row - middle) * step_y], abs=1e-9)
