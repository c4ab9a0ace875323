import gzip
import re
import zipfile
from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from flows.inputs.probe import read
from flows.inputs.source import Source
from flows.simulation.conditions import conditions_of
from flows.simulation.exposure import SimulatedExposure, science_and_template, simulate_exposure
from flows.simulation.files import (
    PLANES,
    _keyword,
    _member,
    psf_stamp,
    rubin_name,
    write_llnl,
    write_rubin,
    write_ztf,
    ztf_header,
    ztf_name,
)
from flows.simulation.presets import find_preset
from flows.simulation.psf import SimulatedPsfField
from schemas.pixels import MaskPlane
from schemas.settings import Settings


@pytest.fixture(scope="module")
def exposure() -> SimulatedExposure:
    return simulate_exposure(find_preset("rubin", shape=(300, 400)), 4, 1, 94)


@pytest.fixture(scope="module")
def paths(exposure: SimulatedExposure, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_rubin(exposure, tmp_path_factory.mktemp("rubin"), science_and_template(exposure))


def test_planes_are_the_exposures(exposure: SimulatedExposure, paths: tuple[Path, ...]) -> None:
    assert len({path.name for path in paths}) == 3
    with fits.open(paths[0]) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE"]
        assert np.array_equal(hdus["IMAGE"].data, exposure.difference, equal_nan=True)
        assert np.array_equal(hdus["VARIANCE"].data, exposure.variance)
        assert hdus["IMAGE"].header["BUNIT"] == "nJy"
        mask, header = hdus["MASK"].data, hdus["MASK"].header
    assert mask.dtype.kind == "i"
    for plane in ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA", "STREAK"):
        there = (mask >> header[f"MP_{plane}"]) & 1 == 1
        assert np.array_equal(there, (exposure.mask & np.uint16(MaskPlane[plane])) != 0)


def test_decam_is_read_as_itself(tmp_path: Path) -> None:
    made = simulate_exposure(find_preset("decam", shape=(120, 100)), 4, 0, 61)
    difference, *_ = write_rubin(made, tmp_path, science_and_template(made))
    found = read(Source(str(difference)), Settings())
    assert (found.key.visit, found.key.detector) == (made.conditions.visit, 61)
    assert (found.instrument, found.pixel_unit) == ("DECam", "nJy")
    assert np.array_equal(found.planes["difference"], made.difference, equal_nan=True)


def test_header_names_the_visit_and_its_time(exposure: SimulatedExposure, paths: tuple[Path, ...]) -> None:
    header = fits.getheader(paths[0])
    conditions = exposure.conditions
    assert header["LSST BUTLER DATAID VISIT"] == conditions.visit
    assert header["DETECTOR"] == 94
    assert header["TIMESYS"] == "TAI"
    middle = Time(header["DATE-AVG"], scale="tai")
    assert middle.mjd == pytest.approx(conditions.midpoint_mjd_tai, abs=1e-7)
    assert (Time(header["DATE-END"], scale="tai") - Time(header["DATE-BEG"], scale="tai")).sec == pytest.approx(30)
    assert (header["GAINNJY"], header["SATNJY"]) == (conditions.preset.gain, conditions.preset.saturation)
    assert "GAIN" not in header
    assert "SATURATE" not in header
    assert header["PSF_FWHM"] == pytest.approx(conditions.psf.fwhm, abs=1e-3)


def test_truth_lies_where_the_written_wcs_says(exposure: SimulatedExposure, paths: tuple[Path, ...]) -> None:
    with fits.open(paths[0]) as hdus:
        wcs = WCS(hdus["IMAGE"].header)
    for row in exposure.truth.to_pylist():
        x, y = wcs.all_world2pix(row["ra"], row["dec"], 0)
        assert (float(x), float(y)) == pytest.approx((row["x"], row["y"]), abs=1e-3)


@pytest.fixture(scope="module")
def exposure_ztf_files() -> SimulatedExposure:
    return simulate_exposure(find_preset("ztf", shape=(300, 400)), 4, 1, 6)


@pytest.fixture(scope="module")
def paths_ztf_files(
    exposure_ztf_files: SimulatedExposure, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ...]:
    return write_ztf(exposure_ztf_files, tmp_path_factory.mktemp("ztf"), science_and_template(exposure_ztf_files))


def test_names_are_the_archives(exposure_ztf_files: SimulatedExposure, paths_ztf_files: tuple[Path, ...]) -> None:
    stem = r"ztf_\d{14}_\d{6}_z[gri]_c02_o_q3_"
    kinds = ("scimrefdiffimg.fits.fz", "diffimgpsf.fits", "sciimg.fits", "refimg.fits")
    assert [bool(re.fullmatch(stem + kind, path.name)) for kind, path in zip(kinds, paths_ztf_files, strict=True)] == [
        True
    ] * 4
    fraction = int(ztf_name(exposure_ztf_files.conditions, "psf")[12:18])
    assert fraction / 1e6 == pytest.approx(exposure_ztf_files.conditions.mjd_utc % 1, abs=1e-6)


def test_pixels_come_back_within_the_quantisation(
    exposure_ztf_files: SimulatedExposure, paths_ztf_files: tuple[Path, ...]
) -> None:
    with fits.open(paths_ztf_files[0]) as hdus:
        pixels = hdus[1].data
    assert np.array_equal(np.isnan(pixels), np.isnan(exposure_ztf_files.difference))
    error = np.nanstd(pixels - exposure_ztf_files.difference)
    assert 0 < error < 0.15 * exposure_ztf_files.conditions.noise.sigma
    assert pixels.dtype == np.float32


def test_header_says_what_the_archives_header_says(
    exposure_ztf_files: SimulatedExposure, paths_ztf_files: tuple[Path, ...]
) -> None:
    header = fits.getheader(paths_ztf_files[0], 1)
    conditions = exposure_ztf_files.conditions
    assert (header["CCDID"], header["QID"], header["RCID"]) == (2, 3, 6)
    assert header["EXPID"] == conditions.visit
    assert header["OBSJD"] - 2400000.5 == pytest.approx(header["OBSMJD"], abs=1e-6)
    assert header["FILTER"] == f"ZTF_{conditions.band}"
    assert {"g": 1, "r": 2, "i": 3}[conditions.band] == header["FILTERID"]
    assert header["SEEING"] == pytest.approx(conditions.psf.fwhm, abs=1e-3)
    assert header["MAGZP"] == conditions.zero_point
    for keyword in ("EXPTIME", "FIELDID", "MAGZPUNC", "GAIN", "READNOI", "SATURATE", "PIXSCALE"):
        assert float(header[keyword]) > 0
    assert "DATE" not in header


def test_ztf_files_truth_lies_where_the_written_wcs_says(
    exposure_ztf_files: SimulatedExposure, paths_ztf_files: tuple[Path, ...]
) -> None:
    header = fits.getheader(paths_ztf_files[0], 1)
    assert (header["CTYPE1"], header["CTYPE2"]) == ("RA---TPV", "DEC--TPV")
    wcs = WCS(header)
    rows = exposure_ztf_files.truth.to_pylist()
    x, y = wcs.all_world2pix([row["ra"] for row in rows], [row["dec"] for row in rows], 0)
    assert x == pytest.approx([row["x"] for row in rows], abs=1e-3)
    assert y == pytest.approx([row["y"] for row in rows], abs=1e-3)


def test_checksum_holds_and_fails_on_a_changed_byte(paths_ztf_files: tuple[Path, ...], tmp_path: Path) -> None:
    with fits.open(paths_ztf_files[0], disable_image_compression=True) as hdus:
        assert hdus[1].verify_checksum() == hdus[1].verify_datasum() == 1
        assert hdus[0].verify_checksum() == 1
    content = bytearray(paths_ztf_files[0].read_bytes())
    content[-5000] ^= 1
    broken = tmp_path / "broken.fits.fz"
    broken.write_bytes(content)
    with fits.open(broken, disable_image_compression=True) as hdus:
        assert hdus[1].verify_datasum() == 0


def test_the_bytes_do_not_know_the_time(
    exposure_ztf_files: SimulatedExposure, paths_ztf_files: tuple[Path, ...]
) -> None:
    # Rows that are all NaN are kept by gzip, whose header holds the time of compression.
    with fits.open(paths_ztf_files[0], disable_image_compression=True) as hdus:
        members = [member for member in hdus[1].data["GZIP_COMPRESSED_DATA"] if len(member)]
    assert members
    assert all(gzip.decompress(member.tobytes()) and not member[4:8].any() for member in members)


def test_psf_is_a_centred_stamp_of_unit_sum(
    exposure_ztf_files: SimulatedExposure, paths_ztf_files: tuple[Path, ...]
) -> None:
    stamp = fits.getdata(paths_ztf_files[1])
    assert stamp.shape == (25, 25)
    assert stamp.sum() == pytest.approx(1, rel=1e-5)
    rows, columns = np.indices(stamp.shape)
    assert ((stamp * rows).sum(), (stamp * columns).sum()) == pytest.approx((12, 12), abs=0.02)
    assert np.array_equal(stamp, psf_stamp(exposure_ztf_files.conditions.psf))
    wide = simulate_exposure(find_preset("rubin", shape=(100, 100)), 1, 0, 0).conditions.psf
    assert psf_stamp(wide).shape == (25, 25)


pd = pytest.importorskip("pandas", reason="the tables of the format are pandas DataFrames")

LLNL = find_preset("llnl", shape=(200, 220))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    exposures = [simulate_exposure(LLNL, 3, 0, detector) for detector in range(3)]
    folder = tmp_path_factory.mktemp("llnl")
    stream = ((exposure.difference, exposure.truth) for exposure in exposures)
    return exposures, list(write_llnl(stream, 3, folder)), folder


def test_stack_holds_the_images(written) -> None:
    exposures, results, folder = written
    with np.load(folder / "asteroid_difference_images_0.npz") as stored:
        stack = stored["data"]
    assert stack.shape == (3, 200, 220)
    for pixels, exposure in zip(stack, exposures, strict=True):
        assert np.array_equal(pixels, exposure.difference, equal_nan=True)
    assert [len(files) for files, _ in results] == [0, 0, 2]
    assert [set(truth["visit"].to_pylist()) for _, truth in results] == [{0}, {1}, {2}]


def test_odd_entries_tell_what_was_injected(written) -> None:
    exposures, _, folder = written
    with np.load(folder / "asteroid_injected_information_0.npz", allow_pickle=True) as stored:
        entries = stored["data"]
    assert len(entries) == 6
    for place, exposure in enumerate(exposures):
        table = entries[2 * place + 1]
        assert list(table.columns) == ["magnitude", "length", "angle", "box"]
        assert len(table) == 20
        assert table["magnitude"].between(15, 18.8).all()
        assert set(table["length"]) <= {1, 2, 3}
        streaks = [row for row in exposure.truth.to_pylist() if row["kind"] == "streak"]
        for (_, injected), row in zip(table.iterrows(), streaks, strict=True):
            box = injected["box"]
            assert isinstance(box, galsim.BoundsI)
            assert box.xmax - box.xmin == box.ymax - box.ymin == injected["length"] + 100
            # GalSim counts pixels from 1.
            assert (box.true_center.x - 1, box.true_center.y - 1) == pytest.approx((row["x"], row["y"]), abs=1.01)
            assert injected["angle"] % 180 == pytest.approx(row["angle_deg"])
            assert 0 <= injected["angle"] < 360


def test_a_hundred_images_to_a_file(tmp_path: Path) -> None:
    truth = simulate_exposure(LLNL, 3, 0, 0).truth
    tiny = ((np.full((4, 5), index, np.float32), truth) for index in range(101))
    results = list(write_llnl(tiny, 101, tmp_path))
    assert [index for index, (files, _) in enumerate(results) if files] == [99, 100]
    assert results[100][1]["visit"].to_pylist()[0] == 1000
    with np.load(tmp_path / "asteroid_difference_images_1.npz") as stored:
        assert stored["data"].shape == (1, 4, 5)
        assert stored["data"][0, 0, 0] == 100


def test_mask_planes_have_the_bits_of_rubins_pipelines() -> None:
    """The default planes of lsst.afw.image.Mask, and the one of satellites."""
    names = ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "SUSPECT", "NO_DATA", "STREAK")
    assert {name: bit for bit, name in enumerate(names)} == PLANES
    assert (_keyword("MP_INTRP"), _keyword("MP_DETECTED")) == ("MP_INTRP", "HIERARCH MP_DETECTED")


def test_rubins_header_has_every_figure(exposure: SimulatedExposure, paths: tuple[Path, ...]) -> None:
    conditions, header = exposure.conditions, fits.getheader(paths[0])
    half = conditions.preset.exposure_time / 2 / 86400
    middle = conditions.midpoint_mjd_tai
    assert [header[f"MJD-{name}"] for name in ("BEG", "AVG", "END")] == pytest.approx(
        [middle - half, middle, middle + half], abs=1e-9
    )
    assert header["SIMULATE"] is True
    assert header["DAY_OBS"] == conditions.visit // 100_000
    assert header["PSF_FWHM"] == round(conditions.psf.fwhm, 3)
    assert (header["EXPTIME"], header["MAGZERO"]) == (30, conditions.zero_point)
    assert paths[0].name == rubin_name(conditions)
    assert rubin_name(conditions, "science") == f"scienceExp_LSSTCam_{conditions.band}_{conditions.visit}_094.fits"


def test_files_can_be_written_again(
    exposure: SimulatedExposure, paths: tuple[Path, ...], exposure_ztf_files: SimulatedExposure,
    paths_ztf_files: tuple[Path, ...],
) -> None:  # fmt: skip
    assert write_rubin(exposure, paths[0].parent, {}) == paths[:1]
    planes = {"science": exposure_ztf_files.difference}
    assert write_ztf(exposure_ztf_files, paths_ztf_files[0].parent, planes) == paths_ztf_files[:3]
    write_ztf(exposure_ztf_files, paths_ztf_files[0].parent, science_and_template(exposure_ztf_files))


def test_ztfs_header_has_every_figure(exposure_ztf_files: SimulatedExposure, paths_ztf_files: tuple[Path, ...]) -> None:
    conditions, header = exposure_ztf_files.conditions, fits.getheader(paths_ztf_files[0], 1)
    expected = {
        "EXPOSURE": 30.0, "EXPTIME": 30.0, "PIXSCALE": 1.012, "FIELDID": conditions.field_id, "CCD_ID": 2, "GAIN": 6.2,
        "READNOI": 10.0, "MAGZPUNC": 1.1e-5, "MAGZPRMS": 0.028, "SATURATE": 49000.0, "INFOBITS": 0, "STATUS": 1,
        "OBSMJD": round(conditions.mjd_utc, 7), "OBSJD": round(conditions.mjd_utc + 2400000.5, 7),
        "SEEING": round(conditions.psf.fwhm, 3), "SIMULATE": True,
    }  # fmt: skip
    assert {name: header[name] for name in expected} == expected
    assert (header["OBSLON"], header["OBSLAT"]) == (-116.8598, 33.3573)  # Palomar


def test_each_band_has_a_filter_of_its_own() -> None:
    preset = find_preset("ztf", bands=("g", "r", "i"))
    numbers = [ztf_header(conditions_of(preset, 1, visit, 0))["FILTERID"] for visit in range(3)]
    assert numbers == [1, 2, 3]


def test_pixels_are_quantised_in_four_steps_per_sigma_with_a_fixed_dither(
    exposure_ztf_files: SimulatedExposure, paths_ztf_files: tuple[Path, ...]
) -> None:
    with fits.open(paths_ztf_files[0], disable_image_compression=True) as hdus:
        header, steps = hdus[1].header, hdus[1].data["ZSCALE"]
    assert (header["ZCMPTYPE"], header["ZQUANTIZ"], header["ZDITHER0"]) == ("RICE_1", "SUBTRACTIVE_DITHER_1", 42)
    step = np.median(steps[steps > 0])
    assert step == pytest.approx(exposure_ztf_files.conditions.noise.sigma / 4, rel=0.15)


@pytest.mark.parametrize("fwhm", [1.7, 5.5])
def test_a_psf_stamp_is_that_of_the_middle_pixel_padded_or_cut(fwhm: float) -> None:
    psf = SimulatedPsfField(fwhm, 3.0, (0.4, -0.3), 0.0, (0.0, 0.0), (0.2, 0.3), (10, 20))
    drawn = psf.trail(9, 4, 0.0, 0.0).pixels
    middle = len(drawn) // 2
    expected = np.zeros((25, 25))
    reach = min(middle, 12)
    inner = drawn[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    expected[12 - reach : 13 + reach, 12 - reach : 13 + reach] = inner / inner.sum()
    np.testing.assert_allclose(psf_stamp(psf), expected, rtol=1e-5, atol=1e-8)


def test_the_box_of_an_asteroid_is_centred_within_half_a_pixel_and_its_direction_is_drawn(written) -> None:
    exposures, _, folder = written
    with np.load(folder / "asteroid_injected_information_0.npz", allow_pickle=True) as stored:
        entries = stored["data"]
    assert entries[::2].tolist() == [0, 1, 2]
    turned = []
    for table, exposure in zip(entries[1::2], exposures, strict=True):
        streaks = [row for row in exposure.truth.to_pylist() if row["kind"] == "streak"]
        for (_, injected), row in zip(table.iterrows(), streaks, strict=True):
            centre = injected["box"].true_center
            assert abs(centre.x - 1 - row["x"]) <= 0.5 + 1e-9
            assert abs(centre.y - 1 - row["y"]) <= 0.5 + 1e-9
            assert injected["length"] == round(row["length_px"])
            assert injected["magnitude"] == row["magnitude"]
        turned.append("".join(str(int(angle // 180)) for angle in table["angle"]))
    assert turned == ["01110101010011000100", "00001110001101110111", "00011010110011100000"]


def test_stored_files_have_no_date_and_the_pickle_is_of_protocol_3(written) -> None:
    _, _, folder = written
    for name in ("images", "injected_information"):
        (path,) = folder.glob(f"asteroid_*{name}_0.npz")
        with zipfile.ZipFile(path) as archive:
            (member,) = archive.infolist()
            assert (member.filename, member.date_time) == ("data.npy", (1980, 1, 1, 0, 0, 0))
            content = archive.read(member)
    assert content[128:130] == b"\x80\x03"
    assert _member("a").date_time == (1980, 1, 1, 0, 0, 0)
