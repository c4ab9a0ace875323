"""The output folder as it is given on the command line."""

from pathlib import Path

import typer

from schemas.errors import Misconfigured


def output_folder(given: str) -> Path:
    """Give the path of a local folder or of an ``s3://`` URL.

    Raises
    ------
    typer.BadParameter
        It can be no place for results.
    """
    from flows.adapters.bucket_path import located

    try:
        return located(str(given))
    except Misconfigured as error:
        raise typer.BadParameter(str(error)) from error
