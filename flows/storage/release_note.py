"""Note in a data release about itself: ``release.json`` in its folder."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.storage.layout import RELEASE
from schemas.errors import BadInput


class ReleaseNote(BaseModel):
    """Content of ``release.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    name: str
    created_at: Annotated[str, Field(description="UTC, ISO 8601.")]
    software: Annotated[str, Field(description="Version of nightstride.")]
    nights: tuple[str, ...]
    exposures: Annotated[int, Field(ge=0, description="Records of exposures, done or not.")]
    rows: Annotated[dict[str, int], Field(description="Dataset -> published rows.")]
    ledger: Annotated[str, Field(description="SHA-256 over the records of all exposures.")]
    models: Annotated[dict[str, str], Field(description="Folder below models/ -> SHA-256 of the weights.")]
    weights_missing: Annotated[
        tuple[str, ...], Field(description="Models of which only the card is here: their weights are gone.")
    ] = ()


def read_note(out: Path) -> ReleaseNote | None:
    """Return the note of a release; None if the folder is not a release.

    Raises
    ------
    BadInput
        It cannot be read (``damaged_release``).
    """
    path = out / RELEASE
    if not path.is_file():
        return None
    try:
        return ReleaseNote.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(
            "damaged_release", str(path), f"cannot be read: {error.strerror}.", "copy the release again."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        problem = f"is damaged: {f'its field {field} is missing or wrong' if field else 'it is not JSON'}."
        raise BadInput("damaged_release", str(path), problem, "copy the release again.") from error
