"""Picture docs/images/vetoes.png, a test image of each cause with evidence:
`python -m benchmarks.detection.veto_picture`."""

import math
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.detection import veto_images
from kernels.measure.detection import measure_candidate
from kernels.measure.vetoes.evidence import Evidence

GREYS = mpl.colormaps["gray_r"].resampled(12)  # few levels make a small file
CAUSES = ("spike", "bleed", "dipole", "cosmic_ray", "hot_column", "ghost", "edge", "asteroid")
HALF = 48


def draw(axes, name):
    """Draw one test image, the candidate on it, and the evidence for its causes."""
    picture = getattr(veto_images, name)()
    scene = picture.scene()
    axes.imshow(scene.pixels, origin="lower", cmap=GREYS, vmin=-60, vmax=90, interpolation="nearest")
    x, y, length, angle = picture.trail
    dx, dy = 0.5 * length * math.cos(math.radians(angle)), 0.5 * length * math.sin(math.radians(angle))
    axes.plot([x - dx, x + dx], [y - dy, y + dy], color="#e34948", lw=1.2, ls="--")
    axes.plot(x, y, "o", mfc="none", mec="#e34948", ms=13)
    found = measure_candidate(scene, picture.mask, picture.trail, 3.45).evidence
    speaks = [
        f"{cause.replace('_', ' ')} {value:.1f}"
        for cause, value in zip(Evidence._fields, found, strict=True)
        if value >= 0.5
    ]
    plate = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5}
    axes.text(
        0.03, 0.03, "\n".join(speaks) or "nothing", transform=axes.transAxes, fontsize=8, color="#b32a29", bbox=plate
    )
    axes.set_title(name.replace("_", " "), fontsize=9)
    cx, cy = np.clip([x, y], HALF, veto_images.SIDE - 1 - HALF)
    axes.set(xticks=[], yticks=[], xlim=(cx - HALF, cx + HALF), ylim=(cy - HALF, cy + HALF), facecolor="#a9c6ea")


def main(path):
    """Draw all of them."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # after the choice of backend

    figure, axes = plt.subplots(2, 4, figsize=(11, 5.9), layout="constrained")
    for each, name in zip(axes.flat, CAUSES, strict=True):
        draw(each, name)
    figure.savefig(path, dpi=85, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "docs" / "images" / "vetoes.png")
