"""Files of exposures in the formats of the ZTF archive, Rubin's pipelines and the LLNL challenge."""

import io
import pickle
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits
from astropy.time import Time
from numpy.lib import format as npy
from numpy.typing import NDArray

from flows.simulation.canvas import SimulatedExposure
from flows.simulation.conditions import Conditions
from flows.simulation.presets import random_stream
from flows.simulation.psf import SimulatedPsfField, fitted_moffat
from schemas.errors import Misconfigured
from schemas.pixels import MaskPlane

PER_FILE = 100

_BOX = 100  # px added to the length: side of the box around an asteroid

_EPOCH = (1980, 1, 1, 0, 0, 0)  # earliest time of the zip format, since the current time is not part of the data

PLANES = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "STREAK": 9,
}
"""Bit number of each mask plane, given in the headers as ``MP_<plane>``."""


_TELESCOPES = {"rubin": "Simonyi Survey Telescope", "decam": "CTIO 4.0-m telescope"}


def rubin_name(conditions: Conditions, product: str = "difference") -> str:
    """Return the file name of a product: difference, science or template."""
    camera, detector = conditions.preset.instrument, f"{conditions.detector:03d}"
    return f"{product}Exp_{camera}_{conditions.band}_{conditions.visit}_{detector}.fits"


def write_rubin(exposure: SimulatedExposure, folder: Path, planes: dict[str, NDArray[np.float32]]) -> tuple[Path, ...]:
    """Write the difference image with its mask and variance, and each of ``planes`` to a file of its own.

    Returns
    -------
    tuple of Path
        Paths, the difference image first.
    """
    conditions = exposure.conditions
    products = {"difference": exposure.difference, **planes}
    paths = []
    for product, pixels in products.items():
        wcs = conditions.header
        mask = fits.ImageHDU(_bits(exposure.mask), wcs, name="MASK")
        for plane, bit in PLANES.items():
            mask.header[_keyword(f"MP_{plane}")] = bit
        image = fits.ImageHDU(pixels, wcs, name="IMAGE")
        image.header["BUNIT"] = "nJy"
        variance = fits.ImageHDU(exposure.variance, wcs, name="VARIANCE")
        variance.header["BUNIT"] = "nJy2"
        path = folder / rubin_name(conditions, product)
        primary = fits.PrimaryHDU(header=rubin_header(conditions))
        if product == "difference" and exposure.psf is not None:
            primary.header["PSF_FWHM"] = round(fitted_moffat(exposure.psf)[0], 3)
        fits.HDUList([primary, image, mask, variance]).writeto(path, overwrite=True)
        paths.append(path)
    return tuple(paths)


def _keyword(name: str) -> str:
    """Return a keyword of any length: FITS needs the HIERARCH convention beyond eight characters."""
    return name if len(name) <= 8 else f"HIERARCH {name}"


def _bits(mask: NDArray[np.uint16]) -> NDArray[np.int32]:
    out = np.zeros(mask.shape, np.int32)
    for plane, bit in PLANES.items():
        out |= np.where(mask & np.uint16(MaskPlane[plane]), np.int32(1 << bit), np.int32(0))
    return out


def rubin_header(conditions: Conditions) -> fits.Header:
    """Return the primary header: instrument, times and calibration of the visit."""
    preset = conditions.preset
    half = preset.exposure_time / 2 / 86400
    middle = conditions.midpoint_mjd_tai
    header = fits.Header()
    header["INSTRUME"] = preset.instrument
    header["TELESCOP"] = _TELESCOPES[preset.layout]
    header["SIMULATE"] = (True, "Simulated by nightstride")
    header["HIERARCH LSST BUTLER DATAID INSTRUMENT"] = preset.instrument
    header["HIERARCH LSST BUTLER DATAID VISIT"] = conditions.visit
    header["HIERARCH LSST BUTLER DATAID DETECTOR"] = conditions.detector
    header["HIERARCH LSST BUTLER DATAID BAND"] = conditions.band
    header["DETECTOR"] = conditions.detector
    header["DAY_OBS"] = conditions.visit // 100_000
    header["TIMESYS"] = ("TAI", "Time scale of the dates here")
    for name, mjd in (("BEG", middle - half), ("AVG", middle), ("END", middle + half)):
        header[f"DATE-{name}"] = Time(mjd, format="mjd", scale="tai").isot
        header[f"MJD-{name}"] = mjd
    header["EXPTIME"] = (preset.exposure_time, "s")
    header["FILTER"] = f"{conditions.band}_01"
    header["BAND"] = conditions.band
    header["BUNIT"] = "nJy"
    header["MAGZERO"] = (conditions.zero_point, "AB magnitude of 1 nJy")
    header["GAINNJY"] = (preset.gain, "electrons per nJy")
    header["SATNJY"] = (preset.saturation, "Saturation level [nJy]")
    header["PSF_FWHM"] = (round(conditions.psf.fwhm, 3), "FWHM [pixels]")
    return header


_QUANTIZE = 4.0  # steps per standard deviation of the noise
_DITHER_SEED = 42
_PSF_HALF = 12
_FILTERS = {"g": 1, "r": 2, "i": 3}
_TYPES = {
    "difference": "scimrefdiffimg.fits.fz",
    "psf": "diffimgpsf.fits",
    "science": "sciimg.fits",
    "template": "refimg.fits",
}


def ztf_name(conditions: Conditions, product: str) -> str:
    """Return the archive's file name of a product: difference, psf, science or template."""
    day = Time(np.floor(conditions.mjd_utc), format="mjd").strftime("%Y%m%d")
    fraction = round(conditions.mjd_utc % 1 * 1e6)
    ccd, quadrant = divmod(conditions.detector, 4)
    return (
        f"ztf_{day}{fraction:06d}_{conditions.field_id:06d}_z{conditions.band}_c{ccd + 1:02d}_o_q{quadrant + 1}_"
        f"{_TYPES[product]}"
    )


def write_ztf(exposure: SimulatedExposure, folder: Path, planes: dict[str, NDArray[np.float32]]) -> tuple[Path, ...]:
    """Write the difference image, its PSF, and ``planes``: ``science``, ``template``.

    Returns
    -------
    tuple of Path
        Paths, the difference image first.
    """
    conditions = exposure.conditions
    header = ztf_header(conditions)
    paths = {product: folder / ztf_name(conditions, product) for product in ("difference", "psf", *planes)}
    image = fits.CompImageHDU(
        exposure.difference,
        header,
        compression_type="RICE_1",
        quantize_level=_QUANTIZE,
        quantize_method=1,
        dither_seed=_DITHER_SEED,
    )
    _write_with_checksum(image, paths["difference"])
    psf = psf_stamp(conditions.psf) if exposure.psf is None else _cut(exposure.psf)
    fits.PrimaryHDU(psf).writeto(paths["psf"], overwrite=True)
    for name, pixels in planes.items():
        fits.PrimaryHDU(pixels, header).writeto(paths[name], overwrite=True)
    return tuple(paths.values())


def _write_with_checksum(image: fits.CompImageHDU, path: Path) -> None:
    """Write a compressed image with the checksum of its compressed form, and without the current time."""
    plain = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(plain)
    with fits.open(BytesIO(_without_time(plain.getvalue())), disable_image_compression=True) as hdus:
        for hdu in hdus:
            hdu.add_checksum(when="")
        hdus.writeto(path, overwrite=True)


def _without_time(content: bytes) -> bytes:
    """Blank the times in a compressed image.

    Rows of NaN only cannot be quantised and are stored with gzip, whose header has the time (RFC 1952). They are found
    by their descriptors in the table (FITS standard 4.0, section 7.3.5).
    """
    with fits.open(BytesIO(content), disable_image_compression=True) as hdus:
        start, header = hdus[1].fileinfo()["datLoc"], hdus[1].header
        place = hdus[1].data.dtype.fields["GZIP_COMPRESSED_DATA"][1]
    width, rows = header["NAXIS1"], header["NAXIS2"]
    descriptors = np.ndarray((rows, 2), ">i4", content, start + place, (width, 4))
    changed, heap = bytearray(content), start + header.get("THEAP", width * rows)
    for size, offset in descriptors.tolist():
        if size:
            changed[heap + offset + 4 : heap + offset + 8] = bytes(4)
    return bytes(changed)


def psf_stamp(psf: SimulatedPsfField) -> NDArray[np.float32]:
    """Return the PSF at the centre of the image, (25, 25), centred on the middle pixel, with unit sum."""
    ny, nx = psf.shape
    return _cut(psf.trail((nx - 1) // 2, (ny - 1) // 2, 0.0, 0.0).pixels)


def _cut(drawn: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the middle (25, 25) px of a stamp, with unit sum."""
    side = 2 * _PSF_HALF + 1
    grown = np.pad(drawn, max(0, _PSF_HALF - min(drawn.shape) // 2))
    top, left = (grown.shape[0] - side) // 2, (grown.shape[1] - side) // 2
    stamp = grown[top : top + side, left : left + side]
    return (stamp / stamp.sum()).astype(np.float32)


def ztf_header(conditions: Conditions) -> fits.Header:
    """Return the header of the archive's products, with the archive's keywords and meanings."""
    preset = conditions.preset
    ccd, quadrant = divmod(conditions.detector, 4)
    header = fits.Header()
    header["BUNIT"] = "Data Value"
    header["ORIGIN"] = ("Zwicky Transient Facility", "Data origin (simulated)")
    header["INSTRUME"] = (preset.instrument, "Instrument name")
    header["SIMULATE"] = (True, "Simulated by nightstride")
    header["IMGTYPE"] = "object"
    header["EXPOSURE"] = (preset.exposure_time, "Total Exposure Time (s)")
    header["EXPTIME"] = (preset.exposure_time, "Requested Exposure Time (s)")
    header["PIXSCALE"] = (preset.pixel_scale, "Pixel scale, in arcsec per pixel")
    header["FIELDID"] = (conditions.field_id, "ZTF field ID number")
    header["FILTERID"] = (_FILTERS[conditions.band], "Filter ID code")
    header["FILTER"] = (f"ZTF_{conditions.band}", "Filter name")
    header["OBSJD"] = (round(conditions.mjd_utc + 2400000.5, 7), "Julian day corresponds to UTC-OBS (day)")
    header["OBSMJD"] = (round(conditions.mjd_utc, 7), "MJD corresponds to UTC-OBS (day)")
    header["OBSLON"] = (-116.8598, "Observatory longitude (deg)")
    header["OBSLAT"] = (33.3573, "Observatory latitude (deg)")
    header["CCD_ID"] = (ccd + 1, "ID value of CCD detector")
    header["GAIN"] = (preset.gain, "Gain e-/adu")
    header["READNOI"] = (preset.read_noise, "Read noise e-")
    header.extend(conditions.header.cards)
    header["MAGZP"] = (conditions.zero_point, "Magnitude zero point for PSF-photometry [mag]")
    header["MAGZPUNC"] = (1.1e-5, "Magnitude zero point uncertainty [mag]")
    header["MAGZPRMS"] = (0.028, "Magnitude zero point RMS deviation [mag]")
    header["SATURATE"] = (preset.saturation, "Saturation value [DN]")
    header["CCDID"] = ccd + 1
    header["QID"] = quadrant + 1
    header["RCID"] = conditions.detector
    header["EXPID"] = conditions.visit
    header["SEEING"] = (round(conditions.psf.fwhm, 3), "seeing FWHM [pixels]")
    header["INFOBITS"] = (0, "infoBits string; bit(s) = null")
    header["STATUS"] = (1, "overall processing flag: 0 = bad; 1 = usable")
    return header


def write_llnl(
    exposures: Iterator[tuple[NDArray[np.float32], pa.Table]], count: int, folder: Path
) -> Iterator[tuple[tuple[Path, ...], pa.Table]]:
    """Write pairs of ``asteroid_difference_images_<i>.npz`` and ``asteroid_injected_information_<i>.npz``.

    Each pair has up to a hundred images. In the first file, ``data`` is (n, ny, nx) float32, not compressed; in the
    second, a pickled object array with two entries per image: its number, and a pandas DataFrame with the columns
    magnitude, length (px), angle (deg, 0 to 360) and box (`galsim.BoundsI`, FITS pixels from 1; length + 100 wide).

    Parameters
    ----------
    exposures
        Pixels and truth of each exposure.
    count
        Number of exposures.
    folder
        Output folder.

    Yields
    ------
    files, truth
        For each exposure: the files that it completes, none or two; and its truth, with ``visit`` 1000 i + its place
        in file i and ``detector`` 0, since the format has no exposure ids.

    Raises
    ------
    Misconfigured
        pandas is not installed.
    """
    for number in range(-(-count // PER_FILE)):
        size = min(PER_FILE, count - number * PER_FILE)
        yield from _write_pair(exposures, number, size, folder)


def stack_visit(place: int) -> int:
    """Return the visit of the image number ``place``, from 0: 1000 times its file number plus its place in the file."""
    number, there = divmod(place, PER_FILE)
    return 1000 * number + there


def _write_pair(
    exposures: Iterator[tuple[NDArray[np.float32], pa.Table]], number: int, size: int, folder: Path
) -> Iterator[tuple[tuple[Path, ...], pa.Table]]:
    images = folder / f"asteroid_difference_images_{number}.npz"
    tables = folder / f"asteroid_injected_information_{number}.npz"
    entries: list[Any] = []
    with zipfile.ZipFile(images, "w") as archive, archive.open(_member("data.npy"), "w", force_zip64=True) as member:
        for place in range(size):
            pixels, truth = next(exposures)
            if place == 0:
                form = {"descr": "<f4", "fortran_order": False, "shape": (size, *pixels.shape)}
                npy.write_array_header_1_0(member, form)
            member.write(np.ascontiguousarray(pixels, "<f4").tobytes())
            truth = _renamed(truth, stack_visit(number * PER_FILE + place))
            entries += [place, _injected(truth)]
            if place < size - 1:
                yield (), truth
    _write_objects(tables, entries)
    yield (images, tables), truth


def _renamed(truth: pa.Table, visit: int) -> pa.Table:
    for name, value in (("visit", visit), ("detector", 0)):
        field = truth.schema.field(name)
        values = pa.array(np.full(len(truth), value), field.type)
        truth = truth.set_column(truth.schema.get_field_index(name), field, values)
    return truth


def _injected(truth: pa.Table) -> Any:
    """Return the table of injected asteroids of one image."""
    try:
        import pandas as pd
    except ImportError as error:
        raise Misconfigured(
            "no_pandas", "--format npz", "the tables of this format are pandas DataFrames.", "install pandas."
        ) from error
    from galsim import BoundsI

    streaks = truth.filter(pc.field("kind") == "streak").to_pylist()
    rows = []
    for place, row in enumerate(streaks):
        # The direction along the trail is in the challenge's angles, but not visible in the image.
        turned = 180.0 * int(random_stream("llnl/direction", row["visit"], place).integers(2))
        length = round(row["length_px"])
        side = length + _BOX
        left, low = (round(row[axis] + 1 - side / 2) for axis in "xy")
        box = BoundsI(left, left + side, low, low + side)
        rows.append((row["magnitude"], length, row["angle_deg"] + turned, box))
    return pd.DataFrame(rows, columns=["magnitude", "length", "angle", "box"])


def _write_objects(path: Path, entries: list[Any]) -> None:
    column = np.empty(len(entries), object)
    column[:] = entries
    content = io.BytesIO()
    npy.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": column.shape})
    pickle.dump(column, content, protocol=3)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(_member("data.npy"), content.getvalue())


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _EPOCH)
