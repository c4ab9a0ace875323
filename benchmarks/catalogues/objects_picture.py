"""Picture of the objects of a night on its science images:
`python -m benchmarks.catalogues.objects_picture OUT PICTURE.png`."""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq
from matplotlib.patches import Ellipse

from flows.storage.array_store import ArrayStore
from flows.storage.zarr_tiles import TileStore
from kernels.image.science_image import science_image
from kernels.sky.projection import celestial_wcs, pixels_of
from schemas.objects import CUTOUTS, OBJECT, SourceFlag

SIDE = 330
TRAIL = 4  # elongation: satellites and spikes of this or another band are not drawn
ORANGE, BLUE = "#ff9d2e", "#53b4ff"


def part_of(out):
    """Return a sky-subtracted r image in units of its noise, its exposure, and the corner of its fullest part."""
    stores = [TileStore.open(path) for path in sorted((out / "tiles").glob("*/*.zarr"))]
    store = next(one for one in stores if one.info.band == "r")
    image = science_image(store.read_all("science"), store.read_all("mask"), 64)
    return image, store.info, (560, 230)


def main(out, target):
    mpl.use("Agg")
    image, info, (y0, x0) = part_of(out)
    objects = pq.read_table(min((out / "catalogs/object").rglob("Npix=*.parquet")), partitioning=None).to_pandas()
    wcs = celestial_wcs(info.wcs_header)
    which, x, y = pixels_of(wcs, info.shape, objects["ra"].to_numpy(), objects["dec"].to_numpy())
    here = (x > x0) & (x < x0 + SIDE) & (y > y0) & (y < y0 + SIDE)
    figure = plt.figure(figsize=(11, 6.6), facecolor="white")
    axes = figure.add_axes([0.01, 0.02, 0.58, 0.92])
    shown = np.arcsinh((image.pixels / image.noise)[y0 : y0 + SIDE, x0 : x0 + SIDE] / 3)
    extent = (x0 - 0.5, x0 + SIDE - 0.5, y0 - 0.5, y0 + SIDE - 0.5)
    axes.imshow(shown, cmap="gray", vmin=-1, vmax=5, origin="lower", extent=extent)
    for n in np.flatnonzero(here):
        row = objects.iloc[which[n]]
        if not row["elongation"] < TRAIL:
            continue
        size = 4 * row["halfLightRadius"]
        north = pixel_angle(wcs, x[n], y[n], row["positionAngle"])
        long, wide = size * row["elongation"] ** 0.5, size / row["elongation"] ** 0.5
        colour = ORANGE if row["flags"] & SourceFlag.BLENDED else BLUE
        axes.add_patch(Ellipse((x[n], y[n]), long, wide, angle=north, fill=False, ec=colour, lw=1.1))
    axes.set_axis_off()
    axes.set_title(f"{here.sum()} objects on the r image; orange: taken apart from a neighbour", fontsize=10)
    stamps(figure, out, objects, which[here])
    figure.savefig(target, dpi=90)


def pixel_angle(wcs, x, y, position_angle):
    """Return the angle in the image, deg, of a position angle at a place."""
    ra, dec = (float(one) for one in wcs.all_pix2world(x, y, 0))
    step, theta = 1e-3, np.radians(position_angle)
    there = ra + step * np.sin(theta) / np.cos(np.radians(dec)), dec + step * np.cos(theta)
    i, j = (float(one) for one in wcs.all_world2pix(*there, 0))
    return np.degrees(np.arctan2(j - y, i - x))


def stamps(figure, out, objects, among):
    """Draw cutouts of an object of each size, in all bands and with the PSF of the first."""
    assert OBJECT.schema.names[0] == "objectId"
    cutouts = ArrayStore(out).read_path(min((out / "catalogs/cutouts").rglob("Npix=*.zarr")), CUTOUTS)
    bright = among[(objects["snr"].to_numpy()[among] > 25) & objects["halfLightRadius"].notna().to_numpy()[among]]
    order = bright[np.argsort(objects["halfLightRadius"].to_numpy()[bright])]
    chosen = order[np.linspace(0, len(order) - 1, 6).astype(int)]
    for row, n in enumerate(chosen):
        for column, plane in enumerate((0, 1, 2, 3, 5)):
            axes = figure.add_axes([0.61 + 0.076 * column, 0.80 - 0.155 * row, 0.072, 0.12])
            picture = cutouts[n, plane]
            axes.imshow(np.arcsinh(picture / np.nanpercentile(np.abs(picture), 70) / 2), cmap="gray", origin="lower")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(("g", "r", "i", "z", "PSF (r)")[column], fontsize=9)
            if column == 0:
                axes.text(0.5, 1.0, f"{objects['halfLightRadius'].to_numpy()[n]:.1f}''", color=ORANGE, fontsize=8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
