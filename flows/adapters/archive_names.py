"""Names by which archives tie files to a difference image."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_ZTF_PLANES = {"sciimg": "science", "mskimg": "mask", "diffimgpsf": "psf", "refimg": "template"}
_ZTF = re.compile(
    r"(?P<stem>ztf_.+)_(?P<product>scimrefdiffimg|sciimg|mskimg|diffimgpsf|refimg|[a-z]+cat|sciimgdaopsfcent|refcov|refunc)"
    r"\.fits(\.fz|\.gz)?"
)
_ZTF_STEM = re.compile(r"ztf_\d{14}_(?P<field>\d{6})_(?P<band>z\w)_c(?P<ccd>\d\d)_\w_q(?P<quadrant>\d)")
_RUBIN = re.compile(r"(?P<product>difference|science|template)Exp_(?P<stem>.+)\.fits(\.fz|\.gz)?")


def is_sibling(path: str) -> bool:
    """Tell whether a file name is that of a product which goes with a difference image."""
    name = PurePosixPath(path).name
    if ztf := _ZTF.fullmatch(name):
        return ztf["product"] != "scimrefdiffimg"
    rubin = _RUBIN.fullmatch(name)
    return rubin is not None and rubin["product"] != "difference"


def siblings(name: str, beside: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Find the files that go with a difference image.

    Parameters
    ----------
    name
        Of the difference image: ``ztf_<time>_<field>_<filter>_c<ccd>_o_q<quadrant>_scimrefdiffimg.fits.fz``, or
        ``differenceExp_<camera>_<band>_<visit>_<detector>.fits``.
    beside
        Names in the same folder.

    Returns
    -------
    tuple of (plane, name)
        ZTF's science, mask and PSF share the name's stem; the reference image has that of its field, filter, CCD and
        quadrant (https://irsa.ipac.caltech.edu/docs/program_interface/ztf_metadata.html). Rubin's are
        ``scienceExp_...`` and ``templateExp_...``.
    """
    planes = {}
    for other in sorted(beside, reverse=True):
        if plane := _ztf_plane(name, other) or _rubin_plane(name, other):
            planes[plane] = other
    return tuple(sorted(planes.items()))


def _ztf_plane(name: str, other: str) -> str | None:
    ours, theirs = _ZTF.fullmatch(name), _ZTF.fullmatch(other)
    if not ours or not theirs or ours["product"] != "scimrefdiffimg":
        return None
    stems = {ours["stem"]}
    if parts := _ZTF_STEM.fullmatch(ours["stem"]):
        stems.add(f"ztf_{parts['field']}_{parts['band']}_c{parts['ccd']}_q{parts['quadrant']}")
    return _ZTF_PLANES.get(theirs["product"]) if theirs["stem"] in stems else None


def _rubin_plane(name: str, other: str) -> str | None:
    ours, theirs = _RUBIN.fullmatch(name), _RUBIN.fullmatch(other)
    if not ours or not theirs or ours["product"] != "difference" or theirs["product"] == "difference":
        return None
    return theirs["product"] if ours["stem"] == theirs["stem"] else None
