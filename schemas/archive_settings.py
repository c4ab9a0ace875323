"""Settings of archives: repositories of a Butler, and downloads."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator


class ButlerSettings(BaseModel):
    """Datasets of a Butler repository to search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: Annotated[str, Field(description="Expression of the Butler's query language; empty: all.")] = ""
    collections: Annotated[
        tuple[str, ...], Field(description="Searched in this order; none: the repository's defaults, else all.")
    ] = ()
    dataset_types: Annotated[
        tuple[str, ...], Field(min_length=1, description="Names of difference images; patterns with *.")
    ] = ("*_differenceExp", "difference_image")


class FetchSettings(BaseModel):
    """Downloads from an archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(description="Address of the archive's image service.")] = (
        "https://irsa.ipac.caltech.edu/ibe"
    )
    connections: Annotated[int, Field(gt=0, le=64, description="Files at a time.")] = 4
    max_gib: Annotated[
        float | None, Field(gt=0, description="Most to be fetched by one call, GiB; null: no limit.")
    ] = 100.0
    retries: Annotated[int, Field(ge=0, description="Attempts after the first that bring nothing.")] = 5
    backoff_s: Annotated[float, Field(ge=0, description="Wait before the first of them, s; doubled each time.")] = 1.0
    timeout_s: Annotated[float, Field(gt=0, description="Longest silence of the archive, s.")] = 60.0

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", value):
            raise ValueError("must be http:// or https:// and a host, without a query")
        return value.rstrip("/")
