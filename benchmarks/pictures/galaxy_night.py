"""Real galaxies through a whole night: how many are found, chosen and named rightly, and how fast.

`nightstride simulate --preset ztf --subtract none --bands g,r,i --visits 3 --detectors 1 --seed 7 --out NIGHT/raw`
`python -m benchmarks.pictures.galaxy_night put NIGHT FOLDER_OR_CSV... [--size 4] [--snr 20]`
`nightstride run NIGHT/raw --out NIGHT/out`
`python -m benchmarks.pictures.galaxy_night judge NIGHT`

Labelled pictures that the shipped model has not learnt from are made linear again (arcsinh of three, as those of SDSS
are made), brought to the pixels and seeing of each science image, scaled to a signal-to-noise ratio in the median
image, and added with the Poisson noise of their light, at the same places of the sky on each.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from benchmarks.pictures.morphology_size import FWHM_PER_SIGMA, OWN_SEEING, half_light_radius, unseen_pictures
from flows.storage.catalog_store import CatalogStore
from kernels.pictures.galaxy_stamps import SCALES
from kernels.statistics.completeness import binomial_interval
from schemas.galaxy_pictures import ANOMALY, GALAXY, MORPHOLOGY
from schemas.objects import OBJECT

TRUTH = "galaxies.csv"
NEAR = 3.0  # arcsec
STEP = 120  # px between galaxies
PLANES = {"i": 0, "r": 1, "g": 2}
"""Plane of a picture for each band: SDSS shows i, r, g as red, green, blue."""


def linear(picture: NDArray[np.uint8], radius: float) -> NDArray[np.float64]:
    """Return the light of a picture whose levels are its inverse hyperbolic sine, less that of the sky.

    The mean of all bands within ``radius`` px is 1; nothing is left beyond four times that, or below the sky.
    """
    light = np.sinh(3.0 * picture / 255)
    light = np.clip(light - np.median(light, (0, 1)), 0, None)
    ny, nx = picture.shape[:2]
    r = np.hypot(np.arange(ny)[:, None] - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2)
    light = light * (r < 4 * radius)[..., None]
    return np.asarray(light / light[r <= radius].mean())


def seen(light: NDArray[np.float64], radius: float, wanted: float, fwhm: float) -> NDArray[np.float64]:
    """Return one plane with its half-light radius brought from ``radius`` to ``wanted`` px, seen with a ``fwhm`` px."""
    factor = wanted / radius
    side = [max(4, round(one * factor)) for one in light.shape]
    planes = torch.from_numpy(light)[None, None]
    small = interpolate(planes, side, mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()
    sigma = np.sqrt(max(fwhm**2 - (OWN_SEEING * factor) ** 2, 0)) / FWHM_PER_SIGMA
    return np.asarray(gaussian_filter(small, sigma))


def put(night: Path, data: Sequence[Path], size: float, snr: float, seed: int) -> int:
    """Add galaxies to the science images of a night, write `TRUTH`, and return how many they are."""
    pictures, labels = unseen_pictures(data)
    radii = [half_light_radius(one) for one in pictures]
    lights = [linear(one, radius) for one, radius in zip(pictures, radii, strict=True)]
    files = sorted((night / "raw").glob("*sciimg.fits"))
    header = fits.getheader(files[0])
    x, y = (one.ravel() for one in np.meshgrid(*[np.arange(STEP, header[f"NAXIS{n}"] - STEP, STEP) for n in (1, 2)]))
    ra, dec = WCS(header).all_pix2world(x, y, 0)
    njy = snr * float(np.median([_noise_njy(path) for path in files]))
    count, rng = min(len(x), len(pictures)), np.random.default_rng(seed)
    for path in files:
        with fits.open(path, mode="update") as opened:
            image, cards = opened[0].data, opened[0].header
            band, fwhm, gain = str(cards["FILTER"])[-1], float(cards["SEEING"]), float(cards["GAIN"])
            level = njy * 10 ** (0.4 * (float(cards["MAGZP"]) - 31.4)) / SCALES.get(band, 1.0)
            places = np.rint(WCS(cards).all_world2pix(ra, dec, 0)).astype(int).T
            for whole, radius, (column, row) in zip(lights, radii, places[:count], strict=False):
                light = level * seen(whole[..., PLANES[band]], radius, size * fwhm, fwhm)
                _add(image, rng.poisson(light * gain) / gain, column, row)
    with (night / TRUTH).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ra", "dec", "label"])
        writer.writerows((ra[n], dec[n], next(iter(labels[n]))) for n in range(count))
    return count


def _noise_njy(path: Path) -> float:
    image, header = fits.getdata(path, header=True)
    noise = 1.4826 * float(np.nanmedian(np.abs(image - np.nanmedian(image))))
    return float(noise * 10 ** (0.4 * (31.4 - header["MAGZP"])))


def _add(image: NDArray[np.floating], light: NDArray[np.float64], column: int, row: int) -> None:
    (ny, nx), (most, widest) = light.shape, image.shape
    top, left = row - ny // 2, column - nx // 2
    rows, columns = slice(max(top, 0), min(top + ny, most)), slice(max(left, 0), min(left + nx, widest))
    image[rows, columns] += light[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def judge(night: Path) -> None:
    """Print how many galaxies became objects, were chosen, and were named, and how many rightly."""
    with (night / TRUTH).open() as file:
        truth = list(csv.DictReader(file))
    label = _label(night / "out")
    tables = {
        one.name: CatalogStore(night / "out").read_night(one, label) for one in (OBJECT, GALAXY, MORPHOLOGY, ANOMALY)
    }
    there = SkyCoord([float(one["ra"]) for one in truth], [float(one["dec"]) for one in truth], unit="deg")
    objects = tables["object"]
    index, offset, _ = there.match_to_catalog_sky(
        SkyCoord(objects["ra"].to_numpy(), objects["dec"].to_numpy(), unit="deg")
    )
    ids = [
        int(objects["objectId"][int(n)].as_py()) if far < NEAR else -1
        for n, far in zip(index, offset.arcsec, strict=True)
    ]
    named = dict(zip(*(tables["morphology"][name].to_pylist() for name in ("objectId", "classLabel")), strict=True))
    chosen, odd = (set(tables[name]["objectId"].to_pylist()) for name in ("galaxy", "anomaly"))
    verdicts = dict(zip(*(tables["anomaly"][name].to_pylist() for name in ("objectId", "anomalyVerdict")), strict=True))
    counts = {
        "galaxies": len(truth), "objects": sum(one >= 0 for one in ids),
        "large enough": sum(one in chosen for one in ids),
        "with a picture": sum(one in odd for one in ids), "pictures of something else": len(odd - set(ids)),
    }  # fmt: skip
    print(", ".join(f"{name} {number}" for name, number in counts.items()))
    pairs = [(known["label"], named[one]) for one, known in zip(ids, truth, strict=True) if one in odd]
    right = sum(known == said for known, said in pairs)
    low, high = binomial_interval(right, len(pairs))
    print(f"named rightly {right} of {len(pairs)}: {right / max(len(pairs), 1):.3f} ({low:.3f}-{high:.3f})")
    for name in sorted({known for known, _ in pairs}):
        print(f"  {name}: {dict(Counter(said for known, said in pairs if known == name).most_common())}")
    print(f"verdicts of anomaly: {dict(sorted(Counter(round(verdicts[one], 1) for one in ids if one in odd).items()))}")


def _label(out: Path) -> str:
    (folder,) = (out / "catalogs" / GALAXY.name).glob("night=*")
    return folder.name.partition("=")[2]


def main() -> None:
    """Put galaxies into a night, or judge what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("put", "judge"))
    parser.add_argument("night", type=Path)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--size", type=float, default=4.0, help="Half-light radius over the FWHM of the PSF.")
    parser.add_argument("--snr", type=float, default=20.0, help="Of a pixel within the half-light radius.")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.what == "judge":
        judge(asked.night)
    else:
        print(put(asked.night, asked.data, asked.size, asked.snr, asked.seed))


if __name__ == "__main__":
    main()
