"""Stage: selection of the synthetic streaks that lie clear of real detections."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.trails.geometry import DetectedSegment, detected_segments, near_any
from kernels.trails.injection import STEP
from schemas.dataset import DatasetError
from schemas.dia_source import DIA_SOURCE, SEGMENT_COLUMNS
from schemas.injection import INJECTED, INJECTION, injection_ids
from schemas.stage import Context, Stage


def choose_injected(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the synthetic streaks of an exposure that no real detection disturbs.

    Parameters
    ----------
    inputs
        ``injected``, streaks injected into copies of its tiles, and ``dia_source``, detections on the original image.
    context
        The exposure.

    Returns
    -------
    table
        `INJECTION`, in the order of ``injected``.

    Raises
    ------
    DatasetError
        The exposure is missing.
    Misconfigured
        There are more streaks than ids.
    """
    if context.exposure is None:
        raise DatasetError("stage 'choose_injected' needs an exposure. To fix, give it in the context.")
    injected = inputs[INJECTED.name]
    there = detected_segments(*(inputs[DIA_SOURCE.name][name].to_pylist() for name in SEGMENT_COLUMNS))
    chosen = injected.filter(pa.array(_are_clear(injected, there)))
    ids = injection_ids(context.exposure.visit, context.exposure.detector, len(chosen))
    return chosen.drop_columns("clearance").add_column(0, INJECTION.schema.field(0), pa.array(ids))


def _are_clear(injected: pa.Table, there: Sequence[DetectedSegment]) -> NDArray[np.bool_]:
    columns = (injected[name].to_pylist() for name in ("x", "y", "length", "angle", "snr"))
    points = [one.points(STEP) for one in detected_segments(*columns)]
    owner = np.repeat(np.arange(len(points)), [len(one) for one in points])
    x, y = np.concatenate([np.empty((0, 2)), *points]).T
    near = near_any(x, y, there, injected["clearance"].to_numpy()[owner])
    return np.isin(np.arange(len(points)), owner[near], invert=True)


STAGE = Stage(
    name="choose_injected",
    version="1",
    per="exposure",
    needs=(INJECTED, DIA_SOURCE),
    gives=INJECTION,
    run=choose_injected,
    columns={DIA_SOURCE.name: SEGMENT_COLUMNS},
)
