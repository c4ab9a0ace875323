"""Preparation of an exposure from its files, in one step."""

from typing import Any

from numpy.typing import NDArray

from flows.inputs.described import described
from flows.inputs.probe import read
from flows.inputs.source import Source
from schemas.exposure import ExposureInfo
from schemas.settings import Settings


def prepare(source: Source, settings: Settings) -> tuple[ExposureInfo, dict[str, NDArray[Any]]]:
    """Read an exposure, check it, and find out what its noise is like.

    Returns and raises what `described` does.

    Raises
    ------
    BadInput
        It cannot be read.
    Retryable
        Reading failed in a way that may pass.
    """
    return described(read(source, settings))
