"""Preparation of an exposure from its files in one step."""

from typing import Any

from numpy.typing import NDArray

from flows.inputs.described import described
from flows.inputs.probe import read
from flows.inputs.source import Source
from schemas.exposure import ExposureInfo
from schemas.settings import Settings


def prepare(source: Source, settings: Settings) -> tuple[ExposureInfo, dict[str, NDArray[Any]]]:
    """Read an exposure, check it, and describe its noise.

    Returns and raises what `described` does.

    Raises
    ------
    BadInput
        The exposure cannot be read.
    Retryable
        Reading failed, perhaps temporarily.
    """
    return described(read(source, settings))
