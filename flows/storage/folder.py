"""Checks of folders and files before writing."""

import errno
from pathlib import Path
from tempfile import TemporaryFile

from flows.storage.bucket_path import BucketPath
from flows.storage.layout import is_output
from flows.storage.writing import writing
from schemas.errors import Misconfigured


def writable_folder(path: Path, option: str = "--out", mode: int = 0o777) -> None:
    """Make a folder with its parents, if it does not exist, and check that files can be created in it.

    Parameters
    ----------
    path
        Local path of the folder.
    option
        Option by which the user gave it.
    mode
        Mode of a new folder, before the umask.

    Raises
    ------
    Misconfigured
        It cannot be made, or files cannot be created in it (``not_writable``).
    Retryable
        The disk is full.
    """
    with writing(path):
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(path, "the folder cannot be made there", error, option) from error
        try:
            with TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise _refused(path, "no file can be made in this folder", error, option) from error


def require_folder(path: Path, option: str) -> None:
    """Raise unless the folder for a file exists and is writable; it is not created.

    Raises
    ------
    Misconfigured
        ``no_folder``; ``not_writable``.
    Retryable
        The disk is full.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        what = "is a file, no folder" if folder.exists() else "is not there"
        remedy = f"make it first (mkdir -p {folder}), or choose another {option}."
        raise Misconfigured("no_folder", f"{option} {path}", f"{folder} {what}.", remedy)
    writable_folder(folder, option)


def require_apart(path: Path, out: Path) -> None:
    """Raise ``overwrites_input`` if a file to be written is the table that is read, or would be inside its folder.

    An existing folder is refused too (``not_writable``). The output folder of a run accepts any file.
    """
    require_no_folder(out)
    if isinstance(path, BucketPath) or is_output(path):
        return
    table, written = path.resolve(), out.resolve()
    if table == written or table in written.parents:
        problem = f"would be written over, or into, the table {path}."
        raise Misconfigured("overwrites_input", f"--out {out}", problem, "choose another --out.")


def require_no_folder(out: Path) -> None:
    """Raise ``not_writable`` if a file to be written is a folder."""
    if out.is_dir():
        raise Misconfigured("not_writable", f"--out {out}", "is a folder, no file.", "choose another --out.")


def require_ending(path: Path, option: str, ending: str, what: str, usual: str) -> None:
    """Raise ``other_format`` unless a file name has the ending of the only format in which ``what`` is written.

    ``usual`` is the suggested stem for a name without one.
    """
    if path.suffix.lower() != ending:
        form = {".png": "PNG", ".parquet": "Parquet"}[ending]
        problem = f"does not end in {ending}, and {what} are written as {form} alone."
        raise Misconfigured("other_format", f"{option} {path}", problem, f"name it {path.stem or usual}{ending}.")


def _refused(path: Path, what: str, error: OSError, option: str) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error  # `writing` reports the free space
    why = "its file system takes none" if error.errno == errno.ENOENT else error.strerror
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        file = next((one for one in (path, *path.parents) if one.exists() and not one.is_dir()), path)
        why = f"{file} is a file" if file.exists() else f"{file} is a link to nothing"
    return Misconfigured(
        "not_writable", str(path), f"{what}: {why}.", f"choose another {option}, a folder where you may write."
    )
