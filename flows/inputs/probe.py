"""Reading an exposure of whatever format: its identity, or all of it."""

from typing import NoReturn

from flows.inputs.files import content_kind, file_system, open_part, patient, read_failures
from flows.inputs.fits_exposure import fits_identity, read_fits
from flows.inputs.npz_llnl import read_stack_image, stack_key
from flows.inputs.source import RawExposure, Source
from schemas.errors import BadInput, Retryable
from schemas.exposure import ExposureKey
from schemas.settings import Settings


def probe(source: Source, settings: Settings) -> ExposureKey:
    """Tell from the headers which exposure a source is; no pixel is read.

    Raises
    ------
    BadInput
        The file cannot be an exposure: not an image file, truncated, or a keyword is missing or invalid.
        ``unreadable_folder``: it is a folder that cannot be listed.
    Retryable
        Reading failed in a way that may pass.
    """
    if _kind(source) == "zip":
        return patient(source.uri, lambda: stack_key(source.uri, source.index))
    return patient(source.uri, lambda: fits_identity(source, settings.fits)).key


def read(source: Source, settings: Settings) -> RawExposure:
    """Read an exposure with all its planes.

    Raises
    ------
    BadInput
        Its bytes, headers or pixels break a rule; the message says which.
    Retryable
        Reading failed in a way that may pass.
    """
    if _kind(source) == "zip":
        return read_stack_image(source.uri, source.index)
    return read_fits(source, settings.fits)


def _kind(source: Source) -> str:
    if source.index is not None:
        return "zip"
    if source.is_folder:
        _refuse_folder(source.uri)
    return patient(source.uri, lambda: _content_kind(source.uri))


def _content_kind(uri: str) -> str:
    with open_part(uri) as file:
        return content_kind(file.read(9), uri)


def _refuse_folder(uri: str) -> NoReturn:
    """Say why a folder could not be listed: by trying again."""
    try:
        with read_failures(uri):
            fs, path = file_system(uri)
            fs.ls(path)
    except BadInput as error:
        raise BadInput(
            "unreadable_folder",
            uri,
            f"the folder cannot be listed, so its exposures are not searched: {error.__cause__}.",
            "permit reading it (chmod u+rx), or leave it out.",
        ) from error
    raise Retryable("io_error", uri, "the folder could not be listed at first.", "run again.")
