"""Simulated field of a galaxy cluster: magnitudes, redshifts, membership, and a colour picture of each galaxy."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import galsim
import numpy as np
from astropy.cosmology import FlatLambdaCDM
from numpy.typing import NDArray
from PIL import Image

from flows.runtime.parallel import map_in_processes
from flows.simulation.galaxy_pictures import GalaxyShape, shaped, spiral_arms
from flows.simulation.presets import random_stream
from flows.storage.folder import writable_folder
from flows.storage.writing import BEGINS_AGAIN, replacing, writing
from schemas.errors import Misconfigured

SIDE, SCALE = 64, 0.4
"""Side of a picture, px, and pixel scale, arcsec."""

TABLE = "galaxies.csv"
BANDS = ("z", "r", "g")
"""Bands for the red, green and blue of a picture."""

_COSMOLOGY = FlatLambdaCDM(70.0, 0.3)
_BRIGHT, _FAINT = 14.5, 21.0  # magnitude limits in r
_SHARES = {"red member": 0.28, "blue member": 0.06, "early background": 0.26, "late background": 0.34, "star": 0.06}
_ZERO_POINT = 30.0
_NOISE = {"g": 4.0, "r": 5.0, "z": 8.0}  # per px: 26.3 mag arcsec^-2 in r
_NEUTRAL = {"g": 0.75, "r": 0.0, "z": -0.45}  # colour relative to r that appears white
_SOFTENING, _WHITE = 20.0, 3000.0
_SIZES = {  # log10 of the radius, kpc, at an absolute magnitude; slope; scatter
    "red member": (0.08, -17.0, -0.06, 0.17),
    "blue member": (0.15, -17.0, -0.07, 0.18),
    "early background": (0.60, -21.5, -0.24, 0.15),
    "late background": (0.75, -21.0, -0.10, 0.18),
}
_PHOTO_Z = {"red member": 0.02, "blue member": 0.04, "early background": 0.02, "late background": 0.04}

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class ClusterField:
    """Field to simulate.

    Attributes
    ----------
    seed, count
        Seed, which determines every byte; number of galaxies, and stars mistaken for galaxies.
    redshift
        Redshift of the cluster; that of Perseus is 0.0179.
    seeing
        FWHM, arcsec.
    noise, neighbours
        Factor on the sky noise; mean number of neighbours in a picture.
    folder
        Folder for ``galaxies.csv`` and ``pictures/``.
    """

    seed: int = 0
    count: int = 1000
    redshift: float = 0.0179
    seeing: float = 1.0
    noise: float = 1.0
    neighbours: float = 0.6
    folder: Path = Path("simulated")


def write_cluster_field(
    field: ClusterField, workers: int = 1, progress: Callable[[int], None] = lambda done: None
) -> Path:
    """Simulate a field and write it; return the path of its table.

    The table has a row for each picture: ``location`` and ``label`` (member, not member, or star), as needed for
    training and evaluation on pictures, and the columns of `flows.inputs.cluster_table.read_clusters`.

    Parameters
    ----------
    field
        Field to simulate.
    workers
        Number of processes; the files do not depend on it.
    progress
        Receives the number of pictures written.

    Raises
    ------
    Misconfigured
        The number is not positive, or the folder cannot be written.
    Retryable
        The disk is full.

    Notes
    -----
    Members: luminosities follow Schechter (1976, ApJ 203, 297) with alpha = -1.3 and M*_r = -21.5; five sixths are on a
    red sequence with a scatter of 0.06 mag in g - z; sizes are those of dwarfs (about 1.2 kpc at M_r = -17, hardly
    smaller when fainter); positions follow a projected King profile. Background: counts grow as 10^(0.4 r) and
    redshifts with magnitude; early types follow the steep size-luminosity relation, others are spirals; they are redder
    at higher redshift. All numbers are typical of surveys, but not fitted to one.
    """
    if field.count < 1:
        raise Misconfigured("bad_count", "--count", f"{field.count} is not a number of galaxies.", "ask for 1000, say.")
    writable_folder(field.folder / "pictures")
    with writing(field.folder, BEGINS_AGAIN):
        return _write(field, workers, progress)


def _write(field: ClusterField, workers: int, progress: Callable[[int], None]) -> Path:
    table = field.folder / TABLE
    table.unlink(missing_ok=True)  # the folder's earlier field is being overwritten
    rows = catalogue(field)
    for done, _ in enumerate(map_in_processes(partial(_write_picture, field), rows, workers), 1):
        progress(done)
    with replacing(table) as staged, staged.open("w", newline="") as file:  # last: its presence marks a complete field
        writer = csv.DictWriter(file, [name for name in rows[0] if not name.startswith("_")], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return table


def catalogue(field: ClusterField) -> list[dict[str, Any]]:
    """Return the rows of a field's table; names that begin with an underscore are only used for pictures."""
    rng = random_stream("cluster field", field.seed)
    kinds = rng.choice(list(_SHARES), field.count, p=list(_SHARES.values()))
    rows = []
    for number, kind in enumerate(kinds.tolist()):
        true = _drawn(kind, field, rng)
        member = kind.endswith("member")
        error = 0.01 + 0.02 * 10 ** (0.4 * (true["r"] - _FAINT))
        away = _king(rng) if member else 1.2 * np.sqrt(rng.random())
        turn = rng.uniform(0, 2 * np.pi)
        place = f"pictures/{number:05d}.png"
        rows.append({
            "location": place, "label": "star" if kind == "star" else "member" if member else "not member",
            "kind": kind, "ra": round(49.95 + away * np.cos(turn), 5), "dec": round(41.51 + away * np.sin(turn), 5),
            **{band: round(true[band] + error * float(rng.normal()), 3) for band in ("g", "r", "z")},
            **_redshifts(kind, true["redshift"], rng),
            "radius_r200": round(away, 4), "cluster_z": field.redshift, "cluster": f"simulated {field.seed}",
            "member": int(member), "_true": true, "_number": number,
        })  # fmt: skip
    return rows


def galaxy_planes(row: Mapping[str, Any], field: ClusterField) -> NDArray[np.float64]:
    """Return the light of a row of `catalogue` in each of `BANDS`, with noise and neighbours, (3, SIDE, SIDE)."""
    rng = random_stream("cluster picture", field.seed, row["_number"])
    true = row["_true"]
    parts = _parts(row["kind"], true, field, rng)
    for _ in range(int(rng.poisson(field.neighbours))):
        kind = str(rng.choice(["early background", "star"]))
        at = rng.uniform(-0.5, 0.5, 2) * SIDE * SCALE
        parts += _parts(kind, _drawn(kind, field, rng), field, rng, (float(at[0]), float(at[1])))
    planes = []
    for band in BANDS:
        light = sum(image * 10 ** (-0.4 * (mags[band] - _ZERO_POINT)) for image, mags in parts)
        noise = np.hypot(_NOISE[band] * field.noise, np.sqrt(np.maximum(light, 0) / 4))
        planes.append(light + noise * rng.normal(size=(SIDE, SIDE)))
    return np.stack(planes)


def colour_picture(planes: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the picture for `galaxy_planes`, (SIDE, SIDE, 3); the stretch is fixed (Lupton et al. 2004)."""
    balanced = planes * np.array([10 ** (0.4 * _NEUTRAL[band]) for band in BANDS])[:, None, None]
    mean = np.maximum(balanced.mean(0), 1e-6)
    factor = np.arcsinh(mean / _SOFTENING) / np.arcsinh(_WHITE / _SOFTENING) / mean
    return np.clip(255 * balanced * factor, 0, 255).round().astype(np.uint8).transpose(1, 2, 0).copy()


def _write_picture(field: ClusterField, row: Mapping[str, Any]) -> None:
    Image.fromarray(colour_picture(galaxy_planes(row, field))).save(field.folder / row["location"])


def _drawn(kind: str, field: ClusterField, rng: np.random.Generator) -> dict[str, float]:
    """Return magnitudes, redshift, radius (arcsec), Sersic index and axis ratio of one source."""
    if kind == "star":
        r, colour = _of_counts(0.2, rng), rng.uniform(0.3, 3.0)
        return _magnitudes(r, colour, rng) | {"redshift": 0.0, "radius": 0.0, "index": 1.0, "ratio": 1.0}
    if kind.endswith("member"):
        redshift = max(field.redshift + rng.normal() * 0.0035, 0.001)  # never approaching us
        modulus = float(_COSMOLOGY.distmod(field.redshift).value)
        r = _of_schechter(modulus, rng)
        absolute = r - modulus
        colour = 1.30 + 2.6 * (field.redshift - 0.0179) - 0.035 * (r - 16.5) + 0.06 * rng.normal()
        colour -= rng.uniform(0.35, 0.9) if kind == "blue member" else 0.0
        index = float(np.clip(1.0 + 0.2 * (-13 - absolute), 0.8, 4.0) * np.exp(0.2 * rng.normal()))
    else:
        r = _of_counts(0.4, rng)
        redshift = float(np.clip(0.11 * 10 ** (0.13 * (r - 17.5)) * np.exp(0.35 * rng.normal()), 0.033, 1.0))
        absolute = r - float(_COSMOLOGY.distmod(redshift).value) - redshift
        early = kind == "early background"
        colour = 1.35 + 2.6 * min(redshift, 0.35) + 0.08 * rng.normal() if early else 0.75 + 1.3 * redshift
        colour += 0.0 if early else -0.08 * (absolute + 20) + 0.2 * rng.normal()
        index = 4.0 if early else 1.0
    middle, at, slope, scatter = _SIZES[kind]
    size = 10 ** (middle + slope * (absolute - at) + scatter * rng.normal())
    radius = size * float(_COSMOLOGY.arcsec_per_kpc_proper(redshift).value)
    ratio = rng.uniform(0.12 if kind == "late background" else 0.4, 1.0)
    return _magnitudes(r, colour, rng) | {
        "redshift": float(redshift), "radius": float(np.clip(radius, 0.1, 8.0)), "index": float(np.clip(index, 0.5, 4)),
        "ratio": float(ratio),
    }  # fmt: skip


def _magnitudes(r: float, colour: float, rng: np.random.Generator) -> dict[str, float]:
    blue = (0.62 + 0.02 * rng.normal()) * colour
    return {"g": r + blue, "r": r, "z": r + blue - colour}


def _of_counts(slope: float, rng: np.random.Generator) -> float:
    """Return a magnitude drawn from counts that grow as 10^(slope r)."""
    low, high = 10 ** (slope * _BRIGHT), 10 ** (slope * _FAINT)
    return float(np.log10(rng.uniform(low, high)) / slope)


def _of_schechter(modulus: float, rng: np.random.Generator) -> float:
    grid = np.linspace(_BRIGHT, _FAINT, 400)
    light = 10 ** (-0.4 * (grid - modulus + 21.5))
    share = np.cumsum(light ** (1 - 1.3) * np.exp(-light))
    return float(np.interp(rng.random(), share / share[-1], grid))


def _king(rng: np.random.Generator) -> float:
    """Return a distance from the centre in units of R200, for a King profile with core radius 0.1."""
    core, most = 0.1, 1.2
    return float(core * np.sqrt((1 + (most / core) ** 2) ** rng.random() - 1))


def _redshifts(kind: str, redshift: float, rng: np.random.Generator) -> dict[str, Any]:
    """Return a photometric redshift with its error, and a spectroscopic one, which half of the sources have."""
    spread = _PHOTO_Z.get(kind, 0.05) * (1 + redshift) * (5 if rng.random() < 0.05 else 1)
    spectrum = round(redshift + 1e-4 * rng.normal(), 5) if rng.random() < 0.5 else ""
    return {
        "zphot": round(max(redshift + spread * rng.normal(), 0.001), 4), "zphot_err": round(spread, 4),
        "redshift": spectrum,
    }  # fmt: skip


def _parts(
    kind: str, true: Mapping[str, float], field: ClusterField, rng: np.random.Generator,
    at: tuple[float, float] = (0.0, 0.0),
) -> list[tuple[Numbers, dict[str, float]]]:  # fmt: skip
    """Return images of unit sum with their magnitudes; discs with arms are always centred."""
    magnitudes = {band: true[band] for band in BANDS}
    if kind == "star":
        return [(_image(galsim.DeltaFunction().shift(*at), field), magnitudes)]
    turn, radius, ratio = rng.uniform(0, np.pi), true["radius"], true["ratio"]
    if not kind.startswith(("late", "blue")):
        whole = shaped(galsim.Sersic(true["index"], half_light_radius=radius), ratio, turn)
        nucleus = rng.uniform(0.005, 0.04) if kind == "red member" and rng.random() < 0.3 else 0.0
        light = whole * (1 - nucleus) + galsim.DeltaFunction(flux=nucleus) if nucleus else whole
        return [(_image(light.shift(*at), field), magnitudes)]
    bulge = rng.uniform(0.05, 0.4) if kind.startswith("late") else 0.0
    shape = GalaxyShape(3, radius, ratio, turn, bulge, float(rng.uniform(0.2, 0.9)))
    disc = _image(shaped(galsim.Exponential(half_light_radius=radius), ratio, turn), field)
    disc = disc * spiral_arms(shape, SIDE, SCALE, rng)
    parts = [(disc / disc.sum(), _fainter(magnitudes, 1 - bulge, -0.1 if bulge else 0.0))]
    if bulge:
        inner = shaped(galsim.DeVaucouleurs(half_light_radius=radius / 4), max(ratio, 0.6), turn)
        parts.append((_image(inner, field), _fainter(magnitudes, bulge, 0.3)))
    return parts


def _fainter(magnitudes: Mapping[str, float], share: float, redder: float) -> dict[str, float]:
    """Return the magnitudes of a fraction of the light in r that is redder in g - z than the whole."""
    tint = {"g": 0.62, "r": 0.0, "z": -0.38}
    return {band: mag - 2.5 * np.log10(share) + tint[band] * redder for band, mag in magnitudes.items()}


def _image(light: galsim.GSObject, field: ClusterField) -> Numbers:
    params = galsim.GSParams(maximum_fft_size=16384, folding_threshold=2e-2)
    seen = galsim.Convolve([light, galsim.Moffat(beta=3.0, fwhm=field.seeing)], gsparams=params)
    return np.asarray(seen.drawImage(nx=SIDE, ny=SIDE, scale=SCALE).array, np.float64)
