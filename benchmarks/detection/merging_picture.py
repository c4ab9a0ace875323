"""Picture docs/images/merging.png, typical groups with their candidates:
`python -m benchmarks.detection.merging_picture`."""

import math
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from scipy.ndimage import maximum_filter

from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.trail_bank import point_snr, trail_bank
from kernels.trails.trail_model import trail_image
from schemas.dia_source import HIT, SearchCounts
from schemas.pixels import MaskPlane, SearchGrid
from schemas.settings import MergeSettings
from schemas.stage import Context
from stages.merge import STAGE
from tests.support.exposure import exposure_info

SIDE, STRIDE = 170, 7
PSF = moffat_mixture(2.3, 3.0)
GREYS = mpl.colormaps["gray_r"].resampled(9)  # few levels make a small file
PLATE = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1.5}
PANELS = {  # (x, y, length, angle, flux); noise 5 per px
    "trail of 40 px": [(85, 85, 40, 30, 1500)],
    "parallel, 10 px apart": [(85, 85, 45, 110, 1400), (94.4, 88.4, 45, 110, 1100)],
    "crossing": [(85, 85, 55, 20, 2200), (90, 82, 50, 80, 1500)],
    "two sources 15 px apart": [(78, 85, 0, 0, 500), (92, 90, 0, 0, 350)],
    "dipole and negative source": [(70, 70, 0, 0, 2500), (73, 71, 0, 0, -2500), (110, 110, 0, 0, -900)],
    "60 px, S/N 9": [(85, 85, 60, 55, 700)],
    "two satellites and a star": [(85, 85, 400, 40, 30000), (91, 77, 400, 40, 16000), (50, 120, 0, 0, 4000)],
    "across a masked star": [(85, 85, 60, 15, 3000)],
}


def panel(trails, masked, seed):
    """Return image, mask, hits (windows with a peak of S/N > 4.5 near their centre) and candidates."""
    image = np.random.default_rng(seed).normal(0, 5, (SIDE, SIDE))
    for x, y, length, angle, flux in trails:
        image += flux * trail_image(image.shape, x, y, length, angle, PSF)
    image, mask = image.astype(np.float32), np.zeros(image.shape, np.uint16)
    if masked:
        y, x = np.ogrid[:SIDE, :SIDE]
        mask[np.hypot(x - 90, y - 87) < 9] = MaskPlane.SAT
    bank = trail_bank(PSF, 2.3, 5.0, np.array([[1.0]]))
    peak = maximum_filter(point_snr(np.where(mask > 0, np.float32(0), image), bank), 15)[13:-13:STRIDE, 13:-13:STRIDE]
    row, column = np.nonzero(peak > 4.5)
    hits = pa.table(
        {"row": np.int32(row), "column": np.int32(column), "logit": np.float32(np.log(peak[row, column]))},
        schema=HIT.schema,
    )
    info = exposure_info(image.shape, fwhm_px=2.3, noise=5.0)
    counts = SearchCounts(windows=peak.size, unscored=0, grid=SearchGrid(window=26, stride=STRIDE, claim=26))
    context = Context(exposure=info, settings=MergeSettings(), numbers={HIT.name: counts})
    found = STAGE({"hit": hits, "difference": image, "mask": mask}, context).rows.to_pylist()
    return image, mask, hits.to_pylist(), found


def draw(axes, title, image, mask, hits, found):
    axes.imshow(
        np.where(mask > 0, np.nan, image), origin="lower", cmap=GREYS, vmin=-20, vmax=60, interpolation="nearest"
    )
    axes.plot(
        [hit["column"] * STRIDE + 12.5 for hit in hits], [hit["row"] * STRIDE + 12.5 for hit in hits], ".",
        color="#2a78d6", ms=3,
    )  # fmt: skip
    for each in found:
        theta, half = math.radians(each["angle"]), 0.5 * each["length"]
        dx, dy = half * math.cos(theta), half * math.sin(theta)
        axes.plot([each["x"] - dx, each["x"] + dx], [each["y"] - dy, each["y"] + dy], color="#e34948", lw=0.9, ls="--")
        axes.plot(each["x"], each["y"], "o", mfc="none", mec="#e34948", ms=11)
    lines = [f"{each['nHits']} hits, S/N {each['snr']:.0f}, {each['length']:.0f} px" for each in found]
    axes.text(
        0.03, 0.03, "\n".join(lines), transform=axes.transAxes, fontsize=7, color="#b32a29", va="bottom", bbox=PLATE
    )
    axes.set_title(f"{title}: {len(found)}", fontsize=8)
    view = (-0.5, SIDE - 0.5) if "satellites" in title else (34.5, 135.5)
    axes.set(xticks=[], yticks=[], xlim=view, ylim=view)


def main(path):
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # after the choice of backend

    figure, axes = plt.subplots(2, 4, figsize=(11, 5.9), layout="constrained")
    for i, (title, trails) in enumerate(PANELS.items()):
        draw(axes.flat[i], title, *panel(trails, "masked" in title, i))
    figure.savefig(path, dpi=85, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "docs" / "images" / "merging.png")
