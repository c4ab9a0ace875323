"""Errors, classified by how the caller handles them, and help with unknown names."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeVar

Kind = TypeVar("Kind", bound=BaseException)


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text with its control characters escaped; names of files may contain some.

    Line ends are escaped too, unless ``lines`` is true.

    >>> printable("night" + chr(27) + "[2J.fits")
    'night\\x1b[2J.fits'
    """
    if text.isprintable():
        return text
    if lines:
        return "\n".join(map(printable, text.split("\n")))
    return "".join(one if one.isprintable() else one.encode("unicode_escape", "replace").decode() for one in text)


class NightstrideError(Exception):
    """Base class of all nightstride errors, with a place, a problem and a remedy.

    Parameters
    ----------
    code
        Short stable name of the error, e.g. ``"missing_keyword"``.
    where
        File, field or setting at fault.
    problem
        What is wrong with it: the value found and the rule it breaks.
    remedy
        What to do, as the end of the sentence "To fix, ...".
    """

    def __init__(self, code: str, where: str, problem: str, remedy: str) -> None:
        # All four go to the base class so that the error can be pickled.
        super().__init__(code, where, problem, remedy)
        self.code, self.where, self.problem, self.remedy = code, where, problem, remedy

    def __str__(self) -> str:
        return f"{printable(self.where)}: {printable(self.problem, lines=True)} To fix, {printable(self.remedy)}"


class NoWork(NightstrideError):
    """Raised when there is nothing to do; listed as not run, not as a failure."""


class BadInput(NightstrideError):
    """Raised when one exposure cannot be used; it is quarantined with the reason, and the night continues."""


class Retryable(NightstrideError):
    """Raised when the same call may succeed later; it is retried with backoff."""


BACKOFF_S = 0.5
"""Wait before the first retry of a retryable error, s; it doubles with each further retry."""


class Misconfigured(NightstrideError):
    """Raised when no exposure could succeed; the run stops before any work."""


def missing_extra(package: str, extra: str, code: str = "missing_extra", where: str = "") -> Misconfigured:
    """Return the error for a missing package that belongs to one of nightstride's extras.

    Parameters
    ----------
    package, extra
        Names to install.
    code
        Code of the error.
    where
        What needs the package; may be empty.
    """
    problem = f"the package {package} is not installed." if where else "is not installed."
    return Misconfigured(code, where or package, problem, f"pip install 'nightstride[{extra}]'.")


HELD = "locked"
"""Code for an output folder held by another run."""


def exit_code(error: NightstrideError) -> int:
    """Return the exit code for an error: 4 if another run holds OUT, 1 if a retry may succeed, else 2.

    >>> exit_code(Misconfigured("locked", "/out", "another run holds it.", "wait."))
    4
    """
    if error.code == HELD:
        return 4
    return 1 if isinstance(error, Retryable) else 2


def first_of(error: BaseException, kind: type[Kind]) -> Kind | None:
    """Return the first error of a kind in a group, at any depth, or the error itself; None if there is none."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := first_of(one, kind)) is not None), None)
    return error if isinstance(error, kind) else None


NEAR = 0.65
"""Minimum similarity of a suggested name, as in `difflib.get_close_matches`."""


def choice(given: object, known: Iterable[str]) -> str:
    """Return the end of the sentence "To fix, ..." for an unknown name: the most similar one, and all known ones.

    >>> choice("ztg", ["llnl", "ztf"])
    "write 'ztf'; known are llnl, ztf."
    >>> choice("?", ["llnl", "ztf"])
    'choose one of llnl, ztf.'
    >>> choice("models", ["ades", "detect"])
    'choose one of ades, detect.'
    """
    names = list(known)
    near = get_close_matches(str(given), names, 1, NEAR)
    return f"write {near[0]!r}; known are {', '.join(names)}." if near else f"choose one of {', '.join(names)}."


_REASONS = (
    (
        r"Parquet (file size|magic bytes)|[Pp]arquet.*footer|metadata size in footer",
        "it is cut off, or no Parquet file",
    ),
    (r"Couldn't deserialize thrift|TProtocolException|Corrupt|corrupt|page integrity|Invalid base64", "it is damaged"),
    (r"allow_pickle|pickled|unpickl", "it holds Python objects, which are not read, or is something else altogether"),
    (r"Empty CSV file|No data|Input is empty", "it is empty"),
    (r"cannot reshape array of size|buffer is too small for requested array", "it is cut off"),
    (r"malformed node or string", "the header of its array is damaged"),
    (r"Format could not be identified", "neither its name nor its first bytes say what it is"),
    (r"File is not a zip file|BadZipFile|Bad magic number|Bad CRC", "it is cut off, or of another kind"),
)
"""Pattern of a library's message about a file -> our wording."""


_CSV_FIELDS = re.compile(r"CSV parse error: .*?Expected (\d+) columns, got (\d+)", re.DOTALL)
_NOT_TEXT = re.compile(r"[\ufffd\x00-\x08\x0e-\x1f]")


def no_parts(error: BaseException) -> bool:
    """Return whether an fsspec error means that an HTTP server sends only whole files."""
    return isinstance(error, ValueError) and re.search("range requests|streaming HTTP file", str(error)) is not None


def read_failure(error: BaseException) -> str:
    """Return why a file cannot be read, in plain words for known errors, else in those of the library.

    >>> read_failure(OSError("Could not open Parquet input source '<Buffer>': Parquet file size is 12 bytes"))
    'it is cut off, or no Parquet file'
    """
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not text in {error.encoding.upper()}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = f"{type(error).__name__}: {error}"
    if fields := _CSV_FIELDS.search(said):
        line = f"a line has {fields[2]} values where the first has {fields[1]}"
        return "it is not text" if _NOT_TEXT.search(said) else line
    words = next((words for pattern, words in _REASONS if re.search(pattern, said)), None)
    return words or " ".join(str(error).split()).rstrip(".")
