"""Files that belong to a difference image according to the archives' naming schemes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

_ZTF_PLANES = {"sciimg": "science", "mskimg": "mask", "diffimgpsf": "psf", "refimg": "template"}
_ZTF = re.compile(
    r"(?P<stem>ztf_.+)_(?P<product>scimrefdiffimg|sciimg|mskimg|diffimgpsf|refimg|[a-z]+cat|sciimgdaopsfcent|refcov|refunc)"
    r"\.fits(\.fz|\.gz)?"
)
_ZTF_STEM = re.compile(r"ztf_\d{14}_(?P<field>\d{6})_(?P<band>z\w)_c(?P<ccd>\d\d)_\w_q(?P<quadrant>\d)")
_RUBIN = re.compile(r"(?P<product>difference|science|template)Exp_(?P<stem>.+)\.fits(\.fz|\.gz)?")


class _Parts(NamedTuple):
    """Parts of a file name: survey, stem shared by an exposure's files, and the plane, if it is one."""

    survey: str
    stem: str
    is_difference: bool
    plane: str | None


Stem = tuple[str, str]
"""Survey, and the part that the file names of one exposure share."""

Beside = Mapping[Stem, Sequence[tuple[str, str]]]
"""Stem -> (plane, name) of the files in a folder that belong to a difference image."""


def _parts(path: str) -> _Parts | None:
    name = PurePosixPath(path).name
    if ztf := _ZTF.fullmatch(name):
        product = ztf["product"]
        return _Parts("ztf", ztf["stem"], product == "scimrefdiffimg", _ZTF_PLANES.get(product))
    if rubin := _RUBIN.fullmatch(name):
        own = rubin["product"] == "difference"
        return _Parts("rubin", rubin["stem"], own, None if own else rubin["product"])
    return None


def archive_plane(path: str) -> str | None:
    """Return the plane in a file with an archive's name; "other" for no plane, None for other names."""
    parts = _parts(path)
    return None if parts is None else "difference" if parts.is_difference else parts.plane or "other"


def stem_of(path: str) -> Stem | None:
    """Return the stem of a difference image with an archive's name; None for other files."""
    parts = _parts(path)
    return (parts.survey, parts.stem) if parts is not None and parts.is_difference else None


def beside(names: Iterable[str]) -> Beside:
    """Group the file names of a folder by exposure, once for all its difference images."""
    found: dict[Stem, list[tuple[str, str]]] = {}
    for name in names:
        if (parts := _parts(name)) is not None and parts.plane is not None:
            found.setdefault((parts.survey, parts.stem), []).append((parts.plane, name))
    return found


def siblings(name: str, others: Beside) -> tuple[tuple[str, str], ...]:
    """Find the files that belong to a difference image.

    Parameters
    ----------
    name
        Name of the difference image: ``ztf_<time>_<field>_<filter>_c<ccd>_o_q<quadrant>_scimrefdiffimg.fits.fz``, or
        ``differenceExp_<camera>_<band>_<visit>_<detector>.fits``.
    others
        Files in the same folder, grouped by `beside`.

    Returns
    -------
    tuple of (plane, name)
        ZTF's science, mask and PSF images have the same stem; the name of the reference image is made of field, filter,
        CCD and quadrant (https://irsa.ipac.caltech.edu/docs/program_interface/ztf_metadata.html). Rubin's are
        ``scienceExp_...`` and ``templateExp_...``. If there are several of one plane, the first by name is taken.
    """
    parts = _parts(name)
    if parts is None or not parts.is_difference:
        return ()
    stems = [parts.stem]
    if parts.survey == "ztf" and (of := _ZTF_STEM.fullmatch(parts.stem)):
        stems.append(f"ztf_{of['field']}_{of['band']}_c{of['ccd']}_q{of['quadrant']}")
    found = {pair for stem in stems for pair in others.get((parts.survey, stem), ())}
    return tuple(sorted(dict(sorted(found, reverse=True)).items()))
