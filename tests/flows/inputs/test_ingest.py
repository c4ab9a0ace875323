import gzip
import hashlib
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from flows.inputs.described import size_of
from flows.inputs.ingest import prepare
from flows.inputs.probe import probe
from flows.inputs.source import Source
from kernels.psf.gaussian_mixture import fwhm_before_pixels
from schemas.errors import BadInput
from schemas.pixels import MaskPlane
from schemas.settings import Settings
from tests.support.truth import refused

SETTINGS = Settings()


def test_good_exposure(write_ztf, sky):
    sky[:40] = 0  # black border
    sky[60:64, 70:80] = np.nan
    path = write_ztf(sky)
    info, planes = prepare(Source(path), SETTINGS)
    assert info.night == "20190921"
    assert info.name == "99429086-59"
    assert (info.band, info.instrument, info.exposure_time_s) == ("i", "ZTF", 30)
    assert info.midpoint_mjd_tai == pytest.approx(58748.2908681 + (15 + 37) / 86400, abs=1e-9)
    assert (info.zero_point, info.gain, info.saturation) == (25.352175, 6.2, 49390.965)
    assert info.psf.fwhm_px == pytest.approx(fwhm_before_pixels(1.8, 3.0))  # SEEING holds the pixels too
    assert info.background == pytest.approx(0, abs=0.2)
    assert info.noise == pytest.approx(7, rel=0.03)
    correlation = np.array(info.noise_correlation)
    centre = correlation.shape[0] // 2
    assert correlation[centre, centre + 1] == pytest.approx(0.48, abs=0.03)
    assert info.source_sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert info.flags == ()
    assert set(planes) == {"difference", "mask"}
    no_data = planes["mask"] & MaskPlane.NO_DATA > 0
    assert no_data[:40].all()
    assert no_data[60:64, 70:80].all()
    assert info.masked_fraction == pytest.approx((40 * 220 + 40) / sky.size, rel=0.02)
    assert (planes["difference"][no_data] == np.float32(info.background)).all()
    world = WCS(fits.Header.fromstring(info.wcs_header, sep="\n"))
    expected = WCS(fits.getheader(path, 1)).all_pix2world([[10.0, 20.0]], 0)
    np.testing.assert_allclose(world.all_pix2world([[10.0, 20.0]], 0), expected, atol=1e-10)


def test_infinite_values_are_masked_and_flagged(write_ztf, sky):
    sky[5, 6], sky[7, 8] = np.inf, -np.inf
    info, planes = prepare(Source(write_ztf(sky, compressed=False)), SETTINGS)
    assert info.flags == ("infinite_values",)
    assert planes["mask"][5, 6] == planes["mask"][7, 8] == MaskPlane.NO_DATA
    assert planes["difference"][5, 6] == planes["difference"][7, 8] == np.float32(info.background)


def test_saturated_pixels_are_masked(write_ztf, sky):
    sky[50, 60] = 60000
    _, planes = prepare(Source(write_ztf(sky, compressed=False)), SETTINGS)
    assert planes["mask"][50, 60] == MaskPlane.SAT
    assert np.count_nonzero(planes["mask"]) == 1


def test_whole_file_gzip(write_ztf, tmp_path):
    plain = write_ztf(compressed=False)
    packed = tmp_path / "packed.fits.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    ours, theirs = (prepare(Source(str(path)), SETTINGS)[0] for path in (packed, plain))
    assert ours.model_copy(update={"source_uri": theirs.source_uri, "source_sha256": theirs.source_sha256}) == theirs
    assert probe(Source(str(packed)), SETTINGS).name == theirs.name
    data = bytearray(packed.read_bytes())
    data[-8] ^= 1  # of the CRC
    packed.write_bytes(data)
    refused(packed, "bad_checksum", "gzip")
    packed.write_bytes(data[:-100])
    refused(packed, "truncated")


def test_memory_and_local_files_give_the_same(write_ztf):
    path = write_ztf()
    with fsspec.open("memory://night/exposure", "wb") as file:
        file.write(Path(path).read_bytes())
    local, planes = prepare(Source(path), SETTINGS)
    remote, others = prepare(Source("memory://night/exposure"), SETTINGS)
    assert remote.model_copy(update={"source_uri": path}) == local
    for plane, pixels in planes.items():
        np.testing.assert_array_equal(others[plane], pixels)


def test_siblings_join_the_exposure(write_ztf, sky):
    path = write_ztf()
    bits = np.zeros(sky.shape, np.int16)
    bits[10, 11], bits[12, 13], bits[14, 15] = 1 << 8, 1 << 1, 1 << 10
    siblings = (
        ("mask", write_ztf(bits, compressed=False, product="mskimg")),
        ("science", write_ztf(sky + 200, compressed=False, product="sciimg")),
        ("template", write_ztf(sky + 150, compressed=False, product="refimg")),
    )
    info, planes = prepare(Source(path, siblings), SETTINGS)
    assert info.planes == ("science", "template")
    mask = planes["mask"]
    assert (mask[10, 11], mask[12, 13], mask[14, 15]) == (MaskPlane.SAT, MaskPlane.DETECTED, MaskPlane.NO_DATA)
    files = (path, *(uri for _, uri in siblings))
    assert info.source_sha256 == hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def test_template_on_another_grid_is_left_out(write_ztf, sky):
    template = write_ztf(sky, compressed=False, product="refimg", CRPIX1=1060.0)
    info, planes = prepare(Source(write_ztf(), (("template", template),)), SETTINGS)
    assert info.flags == ("template_not_aligned",)
    assert "template" not in planes


def test_psf_comes_from_the_stamp(write_ztf):
    from galsim import Moffat

    stamp = Moffat(beta=2.8, fwhm=2.3).drawImage(nx=25, ny=25, scale=1.0).array
    psf = write_ztf(stamp, compressed=False, product="diffimgpsf")
    info, _ = prepare(Source(write_ztf(), (("psf", psf),)), SETTINGS)
    assert info.psf.source == "stamp"
    assert info.psf.fwhm_px == pytest.approx(2.3, rel=0.02)
    assert info.psf.beta == pytest.approx(2.8, rel=0.1)


def starry(shape, fwhm, beta):
    """Sky with stars of galsim's Moffat profile, a bright galaxy, and a column of spoilt pixels."""
    import galsim

    rng = np.random.default_rng(11)
    image = galsim.ImageF(rng.normal(500, 8, shape).astype(np.float32), scale=1.0)
    star = galsim.Moffat(beta=beta, fwhm=fwhm)
    for n, (x, y) in enumerate((x, y) for y in range(25, shape[0] - 20, 42) for x in range(25, shape[1] - 20, 42)):
        profile = galsim.Convolve(galsim.Sersic(1, half_light_radius=4.0), star) if n == 0 else star
        place = galsim.PositionD(x + rng.uniform(-0.5, 0.5), y + rng.uniform(-0.5, 0.5))
        profile.withFlux(2e4 * rng.uniform(0.5, 4)).drawImage(image=image, add_to_image=True, center=place)
    image.array[:, 100] = np.nan
    return image.array


@pytest.mark.parametrize("plane", ["science", "template"])
def test_psf_is_measured_on_the_stars_of_the_images_behind(write_ztf, sky, plane):
    product = {"science": "sciimg", "template": "refimg"}[plane]
    stars = write_ztf(starry(sky.shape, 3.4, 2.8), compressed=False, product=product)
    info, _ = prepare(Source(write_ztf(SEEING=None), ((plane, stars),)), SETTINGS)
    assert (info.psf.source, info.flags) == (plane, ())
    assert info.psf.fwhm_px == pytest.approx(3.4, rel=0.03)
    assert info.psf.beta == pytest.approx(2.8, rel=0.15)


def test_psf_is_assumed_where_nothing_tells(write_ztf):
    info, _ = prepare(Source(write_ztf(SEEING=None)), SETTINGS)
    assert (info.psf.source, info.psf.fwhm_px, info.flags) == ("assumed", 2.5, ("assumed_psf",))


@pytest.fixture
def real():
    folder = os.environ.get("NIGHTSTRIDE_DATA")
    if not folder:
        pytest.skip("NIGHTSTRIDE_DATA is not set: no real images")
    return Path(folder) / "01_fits_streaks"


def shipped(name):
    from flows.runtime.settings import load_settings

    return load_settings(Path(__file__).parents[3] / "examples" / f"{name}.toml")


def test_real_decam_difference(real):
    path = real / "sfft_decam" / "4check" / "FinalDifference.fits"
    info, planes = prepare(Source(str(path)), shipped("decam"))
    assert (info.night, info.detector, info.band, info.flags) == ("20180803", 37, "i", ("no_zero_point",))
    assert info.midpoint_mjd_tai == pytest.approx(58334.39133794 + (165 + 37) / 86400, abs=1e-8)
    pixels = fits.getdata(path)
    # Robust scatter by another way: half the distance between the 15.87 and 84.13 % quantiles; dipoles inflate it.
    assert info.noise == pytest.approx(np.diff(np.quantile(pixels, [0.1587, 0.8413]))[0] / 2, rel=0.1)
    correlation = np.array(info.noise_correlation)
    assert correlation[tuple(np.array(correlation.shape) // 2 + (0, 1))] == pytest.approx(0.53, abs=0.05)
    assert planes["difference"].dtype == np.float32
    # The header gives the pointing of the camera's centre and that of the CCD's.
    world = WCS(fits.Header.fromstring(info.wcs_header, sep="\n"))
    assert world.all_pix2world([[128, 128]], 0)[0] == pytest.approx([318.37, -66.04], abs=0.4)
    with pytest.raises(BadInput, match="DATASUM"):
        prepare(Source(str(path)), Settings())


def test_real_frame_with_a_strange_date(real):
    path = real / "astride_long.fits"
    info, _ = prepare(Source(str(path)), shipped("ystar"))
    assert info.night == "20020726"
    # The time of the end, 60 s exposure, 32 leap seconds in 2002.
    assert info.midpoint_mjd_tai == pytest.approx(2452482.31709 - 2400000.5 + (32 - 30) / 86400, abs=1e-8)
    seen = (3.4918 + 4.5719) / 2
    assert info.psf.fwhm_px == pytest.approx(fwhm_before_pixels(seen, info.psf.beta))
    assert info.background == pytest.approx(293, abs=0.5)
    assert info.flags == ("high_background", "no_zero_point")  # it is as the camera gave it
    world = WCS(fits.Header.fromstring(info.wcs_header, sep="\n"))
    assert world.proj_plane_pixel_scales()[0].to_value("arcsec") == pytest.approx(3.04, abs=0.01)
    with pytest.raises(BadInput, match="DATE-OBS"):
        prepare(Source(str(path)), Settings())


def test_compressed_and_plain_and_stacked(write_ztf, sky, tmp_path):
    assert size_of(Source(write_ztf())).shape == sky.shape
    assert size_of(Source(write_ztf(compressed=False))).shape == sky.shape
    np.savez(tmp_path / "stack.npz", data=np.zeros((2, 30, 40), np.float32))
    assert size_of(Source(str(tmp_path / "stack.npz"), index=1)).shape == (30, 40)
