"""Difference images of cameras that nobody configured, with planted trails: each writes its headers in its own way."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS, Sip

SIDE = 520
FIRST_UTC = Time("2026-03-02T06:36:30", scale="utc")
"""Middle of the exposure of the first camera; that of each further one is two minutes later."""

EXPOSURE_S = 60.0
TRAILS = (
    (120.3, 110.6, 24.0, 31.0),
    (390.4, 95.2, 14.0, 108.0),
    (140.7, 400.1, 34.0, 77.0),
    (400.2, 380.8, 9.0, 152.0),
)
"""x, y of the centre, length, px, and angle from +x to +y, deg."""

_STARS = 14
_NOISE_E, _GAIN = 14.0, 1.6


@dataclass(frozen=True)
class Camera:
    """A file, and what was put into it.

    Attributes
    ----------
    path
        Of the file.
    psf
        (FWHM, px, before the pixels; beta of the Moffat profile, None for a Gaussian).
    fluxes
        Of the trails, in units of the pixels, in the order of `TRAILS`.
    zero_point
        AB magnitude of one unit of the pixels.
    wcs
        As planted.
    middle
        Of the exposure, UTC.
    night
        Date of the local evening; None where the header does not tell the site.
    detector
        By its header.
    """

    path: Path
    psf: tuple[float, float | None]
    fluxes: tuple[float, ...]
    zero_point: float
    wcs: WCS
    middle: Time
    night: str | None
    detector: int = 0


def write_cameras(folder: Path) -> dict[str, Camera]:
    """Write one difference image of each of six cameras, two detectors of the mosaic."""
    return {
        "sip": _sip(folder),
        "sixteen_bits": _sixteen_bits(folder),
        "extensions": _extensions(folder),
        "mosaic_3": _mosaic(folder, 3),
        "mosaic_7": _mosaic(folder, 7),
        "jansky": _jansky(folder),
        "rates": _rates(folder),
    }


def _sip(folder: Path) -> Camera:
    """SIP distortion, gzip, time in TAI, place of the site in metres from the middle of the Earth; Gaussian PSF."""
    psf, wcs = (3.2, None), tan_wcs(0.45, 0.0, -1)
    a = np.zeros((3, 3))
    a[2, 0], a[0, 2], a[1, 1] = 2e-6, -1.5e-6, 3e-6
    wcs.sip = Sip(a, a.T, None, None, wcs.wcs.crpix)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    pixels, electrons = _drawn(psf, 1)
    header = wcs.to_header(relax=True)
    header.update(_common(), BUNIT="ADU", GAIN=_GAIN, MAGZPT=25.3, TIMESYS="TAI")
    header["DATE-OBS"] = _start(0).tai.isot
    for axis, metres in zip("XYZ", (-5464487.8, -2492806.6, 2151240.2), strict=True):  # Mauna Kea
        header[f"OBSGEO-{axis}"] = metres
    path = folder / "a_sip.fits.gz"
    fits.PrimaryHDU(np.float32(pixels / _GAIN), header).writeto(path)
    return Camera(path, psf, _times(electrons, 1 / _GAIN), 25.3, wcs, _middle(0), "20260301")


def _sixteen_bits(folder: Path) -> Camera:
    """Rotated and flipped, whole numbers with BSCALE and BZERO, date and time of day apart; Moffat PSF of 2.5."""
    psf, wcs = (2.8, 2.5), tan_wcs(1.1, 37.0, 1)
    pixels, electrons = _drawn(psf, 2)
    header = wcs.to_header()
    header.update(_common(), BUNIT="DN", GAIN=_GAIN, MAGZERO=24.6, LONGITUD=("70:48:53", "west longitude"))
    header["DATE-OBS"], header["TIME-OBS"] = _start(1).isot.split("T")
    hdu = fits.PrimaryHDU(np.float32(pixels / _GAIN), header)
    hdu.scale("int16", bscale=0.25, bzero=0.0)
    hdu.writeto(folder / "b_sixteen.fits")
    return Camera(folder / "b_sixteen.fits", psf, _times(electrons, 1 / _GAIN), 24.6, wcs, _middle(1), "20260301")


def _extensions(folder: Path) -> Camera:
    """Science image first, then difference and mask; electrons per second beside a GAIN of counts; PSF of 4."""
    psf, wcs = (3.6, 4.0), tan_wcs(0.26, -12.0, -1)
    pixels, electrons = _drawn(psf, 3)
    rate = np.float32(pixels / EXPOSURE_S)
    primary = fits.Header({**_common(), "GAIN": _GAIN, "MAGZPT": 26.1, "SITELONG": 149.066})
    primary["DATE-OBS"] = _start(2).isot
    primary["MJD-OBS"] = _start(2).mjd
    science = np.random.default_rng(30).normal(900, 20, rate.shape).astype(np.float32)
    images = [
        fits.ImageHDU(data, fits.Header({**wcs.to_header(), "BUNIT": unit}), name=name)
        for data, unit, name in (
            (science, "electron/s", "SCI"), (rate, "electron/s", "DIFF"), (np.zeros(rate.shape, np.int16), "", "MASK"),
        )
    ]  # fmt: skip
    path = folder / "c_extensions.fits"
    fits.HDUList([fits.PrimaryHDU(None, primary), *images]).writeto(path)
    return Camera(path, psf, _times(electrons, 1 / EXPOSURE_S), 26.1, wcs, _middle(2), "20260302")


def _mosaic(folder: Path, number: int) -> Camera:
    """One detector of several in a tile-compressed file, in electrons; time by MJD alone."""
    psf, wcs = (2.4, 3.5), tan_wcs(0.27, 90.0, 1)
    pixels, electrons = _drawn(psf, 40 + number)
    header = wcs.to_header()
    header.update(_common(), BUNIT="electrons", GAIN=4.4, PHOTZP=27.0, CCDNUM=number, OBSERVAT="CTIO")
    header["DATE-OBS"], header["MJD-OBS"] = _start(3).isot[:10], _start(3).mjd
    path = folder / f"d_mosaic_{number}.fits.fz"
    hdu = fits.CompImageHDU(np.float32(pixels), header, compression_type="GZIP_2", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return Camera(path, psf, _times(electrons, 1.0), 27.0, wcs, _middle(3), "20260301", number)


def _jansky(folder: Path) -> Camera:
    """Surface brightness in MJy/sr, which has its zero point; nothing tells the site; Gaussian PSF."""
    psf, wcs = (2.9, None), tan_wcs(0.8, 200.0, -1)
    pixels, electrons = _drawn(psf, 5)
    pixel_sr = (0.8 / 3600 * np.pi / 180) ** 2
    per_electron = 2e-9 / 1e6 / pixel_sr  # 2 nJy an electron
    header = wcs.to_header()
    header.update(_common(), BUNIT="MJy/sr")
    header["DATE-OBS"] = _start(4).isot
    fits.PrimaryHDU(np.float32(pixels * per_electron), header).writeto(folder / "e_jansky.fits")
    zero_point = -2.5 * np.log10(1e6 * pixel_sr / 3631)
    return Camera(folder / "e_jansky.fits", psf, _times(electrons, per_electron), zero_point, wcs, _middle(4), None)


def _rates(folder: Path) -> Camera:
    """Counts per second, time of day under another name, broad wings."""
    psf, wcs = (2.6, 2.2), tan_wcs(0.6, 0.0, 1)
    pixels, electrons = _drawn(psf, 6)
    header = wcs.to_header()
    header.update(_common(), BUNIT="counts/s", EGAIN=_GAIN, MAGZERO=23.9, SITELONG="-116:51:47")
    header["DATE-OBS"], header["UTSTART"] = _start(5).isot.split("T")
    fits.PrimaryHDU(np.float32(pixels / _GAIN / EXPOSURE_S), header).writeto(folder / "f_rates.fits")
    return Camera(
        folder / "f_rates.fits", psf, _times(electrons, 1 / _GAIN / EXPOSURE_S), 23.9, wcs, _middle(5), "20260301"
    )


def _common() -> dict[str, object]:
    return {"FILTER": "r", "EXPTIME": EXPOSURE_S}


def _middle(camera: int) -> Time:
    return FIRST_UTC + TimeDelta(120.0 * camera, format="sec")


def _start(camera: int) -> Time:
    start = _middle(camera) - TimeDelta(EXPOSURE_S / 2, format="sec")
    start.precision = 6
    return start


def _times(fluxes: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(one * factor for one in fluxes)


def tan_wcs(scale_arcsec: float, rotation_deg: float, parity: int) -> WCS:
    """Return a gnomonic WCS of `SIDE` px; parity -1 has east to the left, as on the sky."""
    wcs, angle = WCS(naxis=2), np.radians(rotation_deg)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.1, 2.2], [SIDE / 2, SIDE / 2]
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wcs.wcs.cd = scale_arcsec / 3600 * turned @ np.diag([parity, 1])
    return wcs


def _drawn(psf: tuple[float, float | None], seed: int) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return an image in electrons with noise, point sources and trails, and the electrons of the trails."""
    rng, fwhm = np.random.default_rng(seed), psf[0]
    light = np.zeros((SIDE, SIDE))
    places = [(40 + 440 * (k % 5) / 4, 35 + 450 * (k // 5) / 2) for k in range(_STARS)]
    for x, y in places + rng.uniform(-12, 12, (_STARS, 2)):
        _add(light, psf, rng.uniform(1.5e4, 4e4), x, y)
    electrons = tuple(
        float(rng.uniform(1200, 1800) * np.sqrt(fwhm) * np.sqrt(length + fwhm)) for *_, length, _ in TRAILS
    )
    for (x, y, length, angle), flux in zip(TRAILS, electrons, strict=True):
        _add(light, psf, flux, x, y, length, np.radians(angle))
    return light + rng.normal(0, 1, light.shape) * np.sqrt(_NOISE_E**2 + np.maximum(light, 0)), electrons


def _add(
    light: np.ndarray, psf: tuple[float, float | None], flux: float, x: float, y: float, length=0.0, angle=0.0
) -> None:
    """Add a trail of points half a pixel apart, or a point, each averaged over 5 x 5 places in a pixel."""
    (fwhm, beta), reach = psf, 40
    x0, y0 = round(x), round(y)
    fine = (np.arange(-5 * reach, 5 * reach + 5) - 2) / 5
    steps = max(int(2 * length), 1)
    total = np.zeros((fine.size, fine.size))
    for along in ((np.arange(steps) + 0.5) / steps - 0.5) * length:
        dx, dy = x - x0 + along * np.cos(angle), y - y0 + along * np.sin(angle)
        squared = (fine[:, None] - dy) ** 2 + (fine - dx) ** 2
        if beta is None:
            total += np.exp(-4 * np.log(2) * squared / fwhm**2) * 4 * np.log(2) / np.pi / fwhm**2
        else:
            alpha2 = (fwhm / 2) ** 2 / (2 ** (1 / beta) - 1)
            total += (1 + squared / alpha2) ** -beta * (beta - 1) / (np.pi * alpha2)
    side = 2 * reach + 1
    stamp = flux / steps * total.reshape(side, 5, side, 5).mean((1, 3))
    top, left = max(y0 - reach, 0), max(x0 - reach, 0)
    bottom, right = min(y0 + reach + 1, SIDE), min(x0 + reach + 1, SIDE)
    light[top:bottom, left:right] += stamp[
        top - y0 + reach : bottom - y0 + reach, left - x0 + reach : right - x0 + reach
    ]
