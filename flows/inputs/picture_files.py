"""Picture files: listing, labels and pixels."""

import csv
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.inputs.files import csv_separator, is_special
from schemas.errors import BadInput, read_failure

SUFFIXES = (".jpg", ".jpeg", ".png", ".fits", ".fits.gz", ".fits.fz", ".fit", ".fit.gz", ".fts")

LARGEST = 100_000_000
"""Maximum number of pixels of a picture that is unpacked as a whole: with a copy, up to 0.8 GiB. JPEG can be unpacked
at an eighth of its size, and FITS is read row by row."""

BLOCK = 1024
"""Rows of FITS read, and of other pictures converted, at a time."""

_SIDE = ("thumbs.db", "desktop.ini", "readme", "readme.md", "readme.txt", "license", "license.txt")
"""Names, in lower case, of files commonly found beside pictures that are certainly not pictures."""

_MOST_KINDS = 12
"""Maximum number of suffixes of other files that are named."""

_LOCATION = ("location", "path", "file", "image")
_LABEL = ("label", "class")

_STARTS = {
    b"SIMPLE": "FITS", b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"\x1f\x8b": "gzip", b"GIF8": "GIF", b"RIFF": "WebP",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP", b"%PDF": "PDF",
}  # fmt: skip
"""First bytes of a file -> its kind, whatever its name."""

_COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("i", "r", "g"))
"""Names of three HDUs with red, green and blue; bands are in order of decreasing wavelength."""


@dataclass(frozen=True)
class PictureFile:
    """Picture file and its label, "" if it has none."""

    path: Path
    label: str


def list_pictures(*sources: Path, say: Callable[[str], None] = lambda line: None) -> tuple[PictureFile, ...]:
    """Return the pictures in folders and tables, sorted by path or in the order of the rows.

    Parameters
    ----------
    sources
        Folders: a picture's label is the name of the folder it is in; directly in the source it has none. Symbolic
        links are followed. Hidden files, files without the suffix of a picture, and what cannot be read (broken links,
        links to an enclosing folder, pipes, folders without permission) are left out. Or CSV files (commas, semicolons
        or tabs) with the columns ``location`` (relative to the file's folder) and ``label`` (empty: to be classified);
        missing pictures are listed, too, unless all are missing.
    say
        Receives a message if other files are left out: how many, and their suffixes.

    Raises
    ------
    BadInput
        A source is of another kind, there are no pictures, a column is missing, or all files are missing.
    """
    others = Counter[str]()
    found = tuple(file for source in sources for file in _of_source(source, others))
    if others:
        say(_left_out(others))
    return found


def _left_out(others: Counter[str]) -> str:
    """Return how many files are not pictures, and their suffixes."""
    number, kinds = others.total(), sorted(others)
    named = ", ".join(kinds[:_MOST_KINDS]) + (", ..." if len(kinds) > _MOST_KINDS else ".")
    what = "file of another kind is" if number == 1 else "files of other kinds are"
    return f"{number} {what} left out: {named}"


def _of_source(source: Path, others: Counter[str]) -> tuple[PictureFile, ...]:
    """Return the pictures in a folder or table; add the suffixes of other files to ``others``."""
    if source.is_dir():
        found = tuple(_of_folder(source, "", others))
        if not found:
            problem = f"holds no picture: {', '.join(SUFFIXES)}."
            raise BadInput("no_pictures", str(source), problem, "name a folder of pictures, or of folders of them.")
        return found
    if source.is_file() and source.suffix.lower() == ".csv":
        return _of_table(source)
    problem = "is neither a folder nor a CSV file." if source.exists() else "does not exist."
    raise BadInput("no_pictures", str(source), problem, "name a folder of pictures, or a CSV of location and label.")


def _of_folder(
    folder: Path, label: str, others: Counter[str], within: frozenset[Path] = frozenset()
) -> Iterator[PictureFile]:
    within |= {folder.resolve()}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        others[f"folder that cannot be opened ({read_failure(error)})"] += 1
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir() and path.resolve() in within:
            others["link to a folder around it"] += 1
        elif path.is_dir():
            yield from _of_folder(path, path.name, others, within)
        elif path.is_file() and path.name.lower().endswith(SUFFIXES):
            yield PictureFile(path, label)
        elif path.is_file() and path.name.lower() not in _SIDE:
            others[path.suffix.lower() or "without an ending"] += 1
        elif not path.is_file():
            others["link to nothing" if path.is_symlink() else "pipe or socket"] += 1


def _of_table(source: Path) -> tuple[PictureFile, ...]:
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, delimiter=csv_separator(first), strict=True)
            header = {name.strip().lower(): name for name in rows.fieldnames or ()}
            location, label = (
                next((header[one] for one in names if one in header), None) for names in (_LOCATION, _LABEL)
            )
            if location is None or label is None:
                problem = f"has the columns {sorted(header)}; location and label are needed."
                raise BadInput("missing_columns", str(source), problem, "name the columns location and label.")
            given = [((row[location] or "").strip(), (row[label] or "").strip()) for row in rows]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise BadInput(
            "unreadable_table", str(source), f"is not CSV: {read_failure(error)}.", "write it as UTF-8, with commas."
        ) from error
    return _of_rows(source, given)


def _of_rows(source: Path, given: Sequence[tuple[str, str]]) -> tuple[PictureFile, ...]:
    """Return the pictures named in the rows of a table; empty rows are ignored."""
    found = [PictureFile(source.parent / location, label) for location, label in given if location or label]
    if not found:
        raise BadInput("no_pictures", str(source), "has no rows.", "give a row for each picture.")
    if unnamed := [row for row, (location, label) in enumerate(given, 1) if label and not location]:
        problem = f"has no location in row {unnamed[0]}" + (
            f", and in {len(unnamed) - 1} more." if unnamed[1:] else "."
        )
        raise BadInput("missing_files", str(source), problem, "name a file, or leave the row out.")
    if not any(_is_there(one.path) for one in found):
        if web := next((location for location, _ in given if "://" in location), ""):
            problem = f"names addresses on the web, such as {web!r}."
            raise BadInput("missing_files", str(source), problem, "download them, and name the files.")
        named = ", ".join(_short(one.path) for one in found[:3])
        problem = f"names {len(found)} files, of which none is there: {named}."
        raise BadInput(
            "missing_files", str(source), problem, f"put them below {source.parent}, or name them by their whole path."
        )
    return tuple(found)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def _short(path: Path) -> str:
    """Return a path on one line, of at most 200 characters."""
    line = " ".join(str(path).split())
    return line if len(line) <= 200 else f"{line[:197]}..."


def read_picture(path: Path, longest: int) -> NDArray[np.uint8]:
    """Return a picture as RGB, (ny, nx, 3), at most ``longest`` px on its longer side.

    Transparent parts become black; more than 8 bits are scaled to 8; a FITS image is stretched with the inverse
    hyperbolic sine between its 1 and 99.7 percentiles, with NaN as black.

    Parameters
    ----------
    path
        JPEG, PNG, or FITS with a two-dimensional image, or three planes or HDUs (`_COLOURS`) for red, green and blue;
        leading axes of length one are ignored. Its first bytes, not its name, decide what it is.
    longest
        Maximum size, px, at least 1.

    Raises
    ------
    BadInput
        The file cannot be read, is not such a picture, is blank (all pixels equal or NaN), or is too large
        (``unreadable_picture``, ``too_large``).
    """
    kind = _kind(path)
    if kind in ("FITS", "gzip"):
        return _read_fits(path, longest, packed=kind == "gzip")
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # `LARGEST` limits unpacking instead
    with _explained(path), Image.open(path, formats=("JPEG", "PNG")) as image:
        factor, (nx, ny) = max(image.size) / longest, image.size
        image.draft(image.mode, (int(nx / factor) or 1, int(ny / factor) or 1))
        if image.size[0] * image.size[1] > LARGEST:
            raise _too_large(path, image.size)
        ImageOps.exif_transpose(image, in_place=True)
        shrunk = _eight_bits(image)
        _require_content(path, shrunk.getextrema())
        factor = max(shrunk.size) / longest
        if factor > 1:
            size = [max(1, round(one / factor)) for one in shrunk.size]
            shrunk = shrunk.resize(size, Image.Resampling.BOX)
        return np.asarray(shrunk)


def refuse_pipe(path: Path) -> None:
    """Raise ``unreadable_picture`` for a pipe, socket or device, whose bytes may never come, or never end."""
    try:
        special = is_special(path)
    except (OSError, ValueError):  # told by what reads it
        return
    if special:
        problem = "is a pipe, a socket or a device, not a file."
        raise BadInput("unreadable_picture", str(path), problem, "leave it out, or name a picture.")


def _kind(path: Path) -> str:
    """Return the kind of a file from its first bytes: FITS, gzip, JPEG or PNG; others are refused."""
    refuse_pipe(path)
    with _explained(path), path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise BadInput("unreadable_picture", str(path), "is empty: 0 bytes.", "write the file again from its source.")
    kind = next((name for first, name in _STARTS.items() if start.startswith(first)), None)
    if kind not in ("FITS", "gzip", "JPEG", "PNG"):
        problem = f"is {kind}, not JPEG, PNG or FITS." if kind else "is neither JPEG, PNG nor FITS by its first bytes."
        raise BadInput("unreadable_picture", str(path), problem, "write the file again, as JPEG, PNG or FITS.")
    return kind


def _eight_bits(image: Any) -> Any:
    """Return a Pillow image as RGB."""
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image)
        small = np.empty(values.shape, np.uint8)
        for y in range(0, len(values), BLOCK):  # in blocks of rows, as the wider dtype takes much memory
            small[y : y + BLOCK] = (np.clip(values[y : y + BLOCK], 0, 65535).astype(np.uint32) + 128) // 257
        return Image.fromarray(small).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        opaque = Image.new("RGB", image.size)
        for y in range(0, image.height, BLOCK):  # in blocks of rows: there would be five copies
            part = image.crop((0, y, image.width, min(y + BLOCK, image.height))).convert("RGBA")
            opaque.paste(
                Image.alpha_composite(Image.new("RGBA", part.size, (0, 0, 0, 255)), part).convert("RGB"), (0, y)
            )
        return opaque
    return image if image.mode == "RGB" else image.convert("RGB")


def _read_fits(path: Path, longest: int, packed: bool) -> NDArray[np.uint8]:
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    # Without a memory map: astropy scales no integers in one, and rows are only read when needed anyway.
    with _explained(path), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore", AstropyWarning)  # real headers break rules that do not matter here
        with fits.open(file, memmap=False) as hdus:
            shapes = [hdu.shape for hdu in hdus if hdu.is_image and len(hdu.shape)]
            images = [hdu for hdu in hdus if hdu.is_image and _is_picture(hdu.shape)]
            if not images:
                raise _no_picture(path, shapes)
            ny, nx = images[0].shape[-2:]
            if packed and ny * nx > LARGEST:  # it is unpacked as a whole
                raise _too_large(path, (nx, ny))
            factor = max(1, -(-max(ny, nx) // longest))
            read = [_rows(image, plane, factor) for image, plane in _planes(images)]
    _require_content(path, [extremes for _, extremes in read])
    shrunk = [means for means, _ in read]
    return np.stack([_stretched(one) for one in (shrunk * 3 if len(shrunk) == 1 else shrunk)], -1)


def _planes(images: Sequence[Any]) -> list[tuple[Any, int | None]]:
    """Return the HDUs for red, green and blue, or the first one, each with its plane if it has three.

    HDUs count as colours only if three of equal size are named so (`_COLOURS`); others may be errors or masks.
    """
    first, named = images[0], {hdu.name.strip().lower(): hdu for hdu in images if hdu.shape == images[0].shape}
    for names in _COLOURS:
        if set(names) <= set(named):
            return [(named[name], None) for name in names]
    return [(first, plane) for plane in (range(3) if first.shape[-3:-2] == (3,) else (None,))]


def _no_picture(path: Path, shapes: Sequence[tuple[int, ...]]) -> BadInput:
    has = f"images of {', '.join(' x '.join(map(str, one)) for one in shapes[:3])}, none" if shapes else "no image"
    problem = f"has {has} of two dimensions, or of three planes."
    return BadInput("unreadable_picture", str(path), problem, "put one image, or red, green and blue, into it.")


def _is_picture(shape: tuple[int, ...]) -> bool:
    *leading, planes = (1, *shape[:-2])
    return len(shape) >= 2 and set(leading) <= {1} and planes in (1, 3) and min(shape) > 0


def _rows(image: Any, plane: int | None, factor: int) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the means of squares of ``factor`` px, smaller at the far edges, and the minimum and maximum pixel.

    Rows are read in blocks. If all are NaN, the minimum is infinite and the maximum minus infinity.
    """
    ny, nx = image.shape[-2:]
    place = tuple(0 if one == 1 else plane for one in image.shape[:-2])
    step = factor * max(1, BLOCK // factor)
    across = np.arange(0, nx, factor)
    parts, least, largest = [], np.inf, -np.inf
    for y in range(0, ny, step):
        where = (slice(y, min(y + step, ny)), slice(0, nx))
        block = np.asarray(image.section[(*place, *where)], np.float64)
        down = np.arange(0, len(block), factor)
        known = np.isfinite(block)
        least = min(least, float(block.min(initial=np.inf, where=known)))
        largest = max(largest, float(block.max(initial=-np.inf, where=known)))
        sums, counts = (
            np.add.reduceat(np.add.reduceat(values, down, 0), across, 1)
            for values in (np.where(known, block, 0.0), known.astype(np.float64))
        )
        parts.append(np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0))
    return np.concatenate(parts), (least, largest)


def _require_content(path: Path, extremes: Sequence[tuple[float, float]]) -> None:
    """Refuse a picture if each plane, according to its minimum and maximum, is constant or all NaN."""
    if any(least < largest for least, largest in extremes):
        return
    values = [f"{least:g}" for least, largest in extremes if least == largest]
    said = f"all pixels are {', '.join(values[:1] if len(set(values)) == 1 else values)}"
    problem = f"shows nothing: {said if values else 'no pixel is a number'}."
    raise BadInput("unreadable_picture", str(path), problem, "leave it out, or write the file again from its source.")


def _stretched(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(known, (1.0, 99.7))
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / ((high - low) or 1.0), 0, 1)
    return np.asarray(np.round(255 * np.arcsinh(10 * scaled) / np.arcsinh(10)), np.uint8)


def _too_large(path: Path, size: Sequence[int]) -> BadInput:
    problem = f"has {size[0]} x {size[1]} px, {LARGEST:,} px at most are unpacked at a time."
    return BadInput("too_large", str(path), problem, "make it smaller, or write it as JPEG or as uncompressed FITS.")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Convert the errors of readers on damaged files to our own."""
    try:
        yield
    except BadInput:
        raise
    except MemoryError:
        raise
    except Exception as error:
        text = " ".join(read_failure(error).split())[:200].rstrip(".") or type(error).__name__
        problem = f"cannot be read as a picture: {text}."
        raise BadInput(
            "unreadable_picture", str(path), problem, "write the file again, as JPEG, PNG or FITS."
        ) from error


def split_pictures(
    digests: Sequence[str], codes: Sequence[int], shares: Sequence[float], seed: int
) -> tuple[NDArray[np.int64], ...]:
    """Split the pictures of each class into parts of given sizes; copies of a picture stay together.

    Parameters
    ----------
    digests, codes
        Digest and class of each picture; the split depends only on these and the seed, not on the pictures' order or
        number.
    shares
        Fraction of each part; they sum to 1.
    seed
        Seed of the split.

    Returns
    -------
    tuple of (n,) int64
        Sorted indices of the pictures in each part.
    """
    code_of: dict[str, int] = {}
    for digest, code in sorted(zip(digests, codes, strict=True)):
        code_of.setdefault(digest, code)
    edges, part_of = np.cumsum(shares)[:-1], dict[str, int]()
    for code in sorted(set(code_of.values())):
        names = sorted(digest for digest, own in code_of.items() if own == code)
        order = np.random.default_rng([seed, code]).permutation(len(names))
        bounds = np.round(edges * len(names))
        part_of |= {names[n]: int(np.searchsorted(bounds, place, side="right")) for place, n in enumerate(order)}
    parts = np.array([part_of[digest] for digest in digests], np.int64)
    return tuple(np.flatnonzero(parts == part) for part in range(len(shares)))
