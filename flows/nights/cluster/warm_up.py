"""One small exposure through all compiled code, so that the first real one does not wait for it.

Compiling takes half a minute once per installation; loading what is compiled takes a second once per process.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.inputs.ingest import described
from flows.inputs.source import RawExposure
from flows.pipeline.models import models_of
from flows.pipeline.stage_run import search_grid
from schemas.dia_source import HIT
from schemas.exposure import ExposureKey
from schemas.pixels import MaskPlane, SearchGrid
from schemas.settings import Settings
from schemas.stage import Context
from stages.detect import STAGE as DETECT
from stages.find_sources import STAGE as FIND_SOURCES
from stages.measure import STAGE as MEASURE
from stages.merge import STAGE as MERGE

SIDE = 320
TRAILS = (((60.0, 60.0), 0.0, 0.0), ((60.0, 200.0), 12.0, 0.5), ((200.0, 120.0), 60.0, 2.5))
"""Centre (x, y) and length in pixels, angle in radians: a point, a short trail, one longer than a window."""


def warm_up_worker(settings: Settings) -> int:
    """Put a simulated image of three trails through ingest and every stage; give the number of detections."""
    info, planes = described(_exposure())
    # Science and difference image are the same here; what is compiled does not depend on it.
    FIND_SOURCES({name: planes[name] for name in ("science", "mask")}, Context(info, None, settings.find_sources))
    inputs: dict[str, Any] = {name: planes[name] for name in ("difference", "mask")}
    grid = search_grid(settings.detect)
    for tile in grid.tiling(info.shape, SIDE * grid.stride).tiles():
        pixels = {name: plane[tile.y0 : tile.y1, tile.x0 : tile.x1] for name, plane in inputs.items()}
        DETECT(pixels, Context(info, tile, settings.detect, models_of(DETECT, settings)))
    # Where trails are is given, not found: what is compiled must not depend on the weights.
    inputs["hit"] = _hits(grid)
    inputs["streak"] = MERGE(inputs, Context(info, None, settings.merge))
    return len(MEASURE(inputs, Context(info, None, settings.measure, models_of(MEASURE, settings))))


def _exposure() -> RawExposure:
    rng = np.random.default_rng(1)
    image = rng.normal(0.0, 1.0, (SIDE, SIDE)) + sum(_trail(*trail) for trail in TRAILS)
    mask = np.where(rng.random((SIDE, SIDE)) < 0.01, MaskPlane.BAD, 0).astype(np.uint16)
    return RawExposure(
        key=ExposureKey(night="20260101", visit=1, detector=0),
        instrument="exercise",
        band="r",
        midpoint_mjd_tai=61000.0,
        exposure_time_s=30.0,
        zero_point=26.0,
        zero_point_err=0.02,
        gain=6.0,
        saturation=None,
        wcs_header=None,
        psf=None,
        pixel_unit="DN",
        planes={"difference": image.astype(np.float32), "mask": mask, "science": image.astype(np.float32)},
        flags=("no_wcs",),
        source_uri="memory://exercise",
        source_sha256="0" * 64,
    )


def _trail(centre: tuple[float, float], length: float, angle: float) -> NDArray[np.float64]:
    """Brightness of a trail with a Gaussian profile of 1 px, high enough to be fitted."""
    y, x = np.mgrid[:SIDE, :SIDE]
    dx, dy = x - centre[0], y - centre[1]
    along = np.clip(dx * np.cos(angle) + dy * np.sin(angle), -length / 2, length / 2)
    distance = (dx - along * np.cos(angle)) ** 2 + (dy - along * np.sin(angle)) ** 2
    return 20.0 * np.exp(-distance / 2)


def _hits(where: SearchGrid) -> pa.Table:
    """Places that hold a piece of a trail."""
    grid = np.arange((SIDE - where.window) // where.stride + 1) * where.stride + where.window / 2
    found = set()
    for (x0, y0), length, angle in TRAILS:
        for t in np.linspace(-length / 2, length / 2, 9):
            row = int(np.abs(grid - y0 - t * np.sin(angle)).argmin())
            found.add((row, int(np.abs(grid - x0 - t * np.cos(angle)).argmin())))
    windows = sorted(found)
    return pa.table(
        {
            "row": pa.array([row for row, _ in windows], pa.int32()),
            "column": pa.array([column for _, column in windows], pa.int32()),
            "logit": pa.array([4.0] * len(windows), pa.float32()),
        },
        schema=HIT.schema,
    ).replace_schema_metadata({name: str(getattr(where, name)) for name in ("window", "stride", "claim")})


if __name__ == "__main__":
    warm_up_worker(Settings())
