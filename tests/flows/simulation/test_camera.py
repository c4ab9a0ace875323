import numpy as np
import pytest

from flows.simulation.camera import detector_count, projection, solution
from flows.simulation.presets import find_preset


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
    assert (detector_count(find_preset("ztf")), detector_count(find_preset("rubin"))) == (64, 189)
