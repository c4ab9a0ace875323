"""Synthetic streaks injected into copies of tiles, and whether they were recovered."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.dataset import TableOf, column, quantity
from schemas.errors import Misconfigured

MOST = 4096
"""Maximum number of streaks in one exposure: the rank has 12 bits."""


INJECTED = TableOf(
    "injected",
    pa.schema(
        [
            column("visit", pa.int64(), "", "Visit whose pixels were copied."),
            column("detector", pa.int32(), "", "Its detector."),
            column("tile", pa.int32(), "", "Number of the copied tile, row by row from 0."),
            column("x", pa.float64(), "pix", "Centre put in, 0-based column coordinate of the exposure."),
            column("y", pa.float64(), "pix", "Centre put in, 0-based row coordinate of the exposure."),
            quantity("length", "pix", "Length before convolution with the PSF.", nullable=False),
            quantity("angle", "deg", "Angle from +x towards +y, modulo 180.", nullable=False),
            quantity("pixelFlux", "pixel_unit", "Total flux put in.", nullable=False),
            quantity("flux", "nJy", "The same; null without zero point."),
            quantity("magAB", "mag(AB)", "AB magnitude of flux; null without zero point."),
            quantity("snr", "", "flux * sum(m^2) / std(m-filtered noise): template m, noise as it is.", nullable=False),
            quantity("visible", "", "Share of its light on usable pixels, 0 to 1.", nullable=False),
            column("band", pa.string(), "", "Filter band."),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
            column("recovered", pa.bool_(), "", "Whether the search reports it with enough reliability."),
            quantity("reliability", "", "That of the report; null if not recovered, as all below."),
            quantity("measuredSnr", "", "snr of the report: of a fit with free length and angle."),
            quantity("fluxRatio", "", "Measured over injected flux."),
            quantity("xOffset", "pix", "Measured less injected x."),
            quantity("yOffset", "pix", "Measured less injected y."),
            quantity("lengthOffset", "pix", "Measured less injected length."),
            quantity("angleOffset", "deg", "Measured less injected angle, -90 to 90; says little of short trails."),
            quantity("clearance", "pix", "Within this distance of its line the search would see both.", nullable=False),
        ]
    ),
    synthetic=True,
)
"""All injected streaks, including those near other sources."""

INJECTION = TableOf(
    "injection",
    pa.schema(
        [
            column("injectionId", pa.int64(), "", "Below 0: -1 - (visit (42 bits) | detector (9) | rank (12))."),
            *(field for field in INJECTED.schema if field.name != "clearance"),
        ]
    ),
    synthetic=True,
)
"""Injected streaks that lie clear of detections."""


def injection_ids(visit: int, detector: int, count: int) -> NDArray[np.int64]:
    """Return the ids of the streaks of an exposure; they are negative, unlike any ``diaSourceId``.

    Raises
    ------
    Misconfigured
        There are more streaks than ids.
    """
    if count > MOST:
        raise Misconfigured(
            "too_many_injections",
            "inject.streaks",
            f"{count} streaks in exposure {visit}-{detector}, which holds {MOST} at most.",
            "lower inject.streaks or inject.share.",
        )
    return np.asarray(-1 - ((visit << 21) | (detector << 12) | np.arange(count, dtype=np.int64)))
