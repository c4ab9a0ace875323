"""Run on two real frames, and picture of what is found.

``NIGHTSTRIDE_DATA=... python -m benchmarks.detection.real_frames`` runs `nightstride run` on a direct frame with one
long streak (YSTAR) and on a difference image with dipoles and no streak (DECam), prints the detections, and draws
docs/images/real_frames.png; see docs/measured/detection.md.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

from flows.storage.catalog_store import CatalogStore, read_table
from flows.storage.zarr_tiles import TileStore
from schemas.dia_source import DIA_SOURCE

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
FRAMES = {
    "YSTAR, direct frame with one streak": ("01_fits_streaks/astride_long.fits", "ystar.toml"),
    "DECam, difference image without a streak": (
        "01_fits_streaks/sfft_decam/4check/FinalDifference.fits",
        "decam.toml",
    ),
}


def search(file, config, out):
    """Run on a file; return its pixels, metadata and detections."""
    command = [Path(sys.executable).parent / "nightstride", "run", file, "--config", ROOT / "examples" / config]
    subprocess.run([*command, "--out", out, "--json"], check=True, capture_output=True)
    store = TileStore.open(next((out / "tiles").glob("*/*.zarr")))
    (path,) = CatalogStore(out).list(DIA_SOURCE)
    return store.read_all("difference"), store.info, read_table(path, DIA_SOURCE)


def draw(axis, title, image, info, table):
    """Draw the frame, trails longer than 20 px as lines and the rest as circles."""
    axis.imshow(image - info.background, origin="lower", cmap="gray", vmin=-3 * info.noise, vmax=10 * info.noise)
    for row in table.to_pylist():
        half, angle = row["trailLengthPx"] / 2, np.radians(row["trailAnglePx"])
        if half > 10:
            centre = np.array([row["x"], row["y"]])
            ends = centre + np.outer((-half, half), (np.cos(angle), np.sin(angle)))
            axis.plot(*(ends + 12 * np.array([-np.sin(angle), np.cos(angle)])).T, color="tab:orange", lw=1.5)
        else:
            axis.plot(row["x"], row["y"], "o", mfc="none", mec="tab:cyan", ms=8, mew=0.8)
    axis.set(title=f"{title}\n{len(table)} detections", xlabel="x, px", ylabel="y, px")


def main():
    """Search both, print and draw."""
    data = Path(os.environ["NIGHTSTRIDE_DATA"])
    figure, axes = plt.subplots(1, 2, figsize=(13, 7.2), layout="constrained")
    with tempfile.TemporaryDirectory() as scratch:
        for number, (axis, (title, (file, config))) in enumerate(zip(axes, FRAMES.items(), strict=True)):
            image, info, table = search(data / file, config, Path(scratch) / str(number))
            draw(axis, title, image, info, table)
            print(f"\n{title}: {len(table)} detections")
            for row in table.to_pylist():
                if row["trailLengthPx"] > 20 or number == 1:
                    names = (
                        "x",
                        "y",
                        "trailLengthPx",
                        "trailLengthPxErr",
                        "trailAnglePx",
                        "snr",
                        "reliability",
                        "negativeFraction",
                    )
                    print({name: None if row[name] is None else round(row[name], 2) for name in names})
    figure.savefig(ROOT / "docs/images/real_frames.png", dpi=75)


if __name__ == "__main__":
    main()
