"""The picture and the cutouts of one exposure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.report.detection import detections
from flows.report.gallery import Cutout, cutout
from flows.report.night import Exposure
from flows.report.overview import Overview, overview
from flows.report.sky import compass
from flows.report.words import utc
from schemas.exposure import ExposureInfo


@dataclass(frozen=True)
class Panel:
    """What the page shows of one exposure.

    Attributes
    ----------
    left_out
        Detections without a cutout: the least reliable.
    """

    name: str
    title: str
    subtitle: str
    overview: Overview
    cutouts: tuple[Cutout, ...]
    left_out: int

    @property
    def caption(self) -> str:
        """What is shown, and what is not."""
        if not self.left_out:
            return self.overview.caption
        kept = f"Cutouts: the {len(self.cutouts)} most reliable" if self.cutouts else "Without cutouts"
        return f"{self.overview.caption} {kept}; {self.left_out} are left out."

    @property
    def shown(self) -> frozenset[int]:
        """Ids of the detections that have a cutout."""
        return frozenset(cutout.mark.detection.id for cutout in self.cutouts)


def panel(
    exposure: Exposure,
    info: ExposureInfo,
    difference: NDArray[np.float32],
    mask: NDArray[np.uint16],
    most_cutouts: int,
) -> Panel:
    """Draw an exposure and the ``most_cutouts`` most reliable of its detections.

    Parameters
    ----------
    difference, mask : (ny, nx)
        Its pixels, in pixel units, and their mask.
    """
    found = detections(exposure.sources)
    return Panel(
        name=info.name,
        title=f"Visit {info.visit}, detector {info.detector}",
        subtitle=f"{info.band} · {utc(info.midpoint_mjd_tai)} UTC",
        overview=overview(difference, mask, found, compass(info)),
        cutouts=tuple(cutout(difference, mask, detection, info) for detection in found[:most_cutouts]),
        left_out=max(0, len(found) - most_cutouts),
    )


def share_cutouts(wanted: Sequence[int], each: int, total: int) -> tuple[int, ...]:
    """Share ``total`` cutouts among exposures that want so many: at most ``each``, evenly, one after another.

    What an exposure does not need goes to the others.
    """
    given = [0] * len(wanted)
    limits = [min(want, each) for want in wanted]
    left = total
    while left > 0 and (hungry := [place for place, limit in enumerate(limits) if given[place] < limit]):
        portion = max(1, left // len(hungry))
        for place in hungry:
            taken = min(portion, limits[place] - given[place], left)
            given[place] += taken
            left -= taken
    return tuple(given)
