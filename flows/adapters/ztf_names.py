"""The ZTF archive's names for files that belong together."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_PLANES = {"sciimg": "science", "mskimg": "mask", "diffimgpsf": "psf", "refimg": "template"}
_NAME = re.compile(
    r"(?P<stem>ztf_.+)_(?P<product>scimrefdiffimg|sciimg|mskimg|diffimgpsf|refimg|[a-z]+cat|sciimgdaopsfcent|refcov|refunc)"
    r"\.fits(\.fz|\.gz)?"
)
_STEM = re.compile(r"ztf_\d{14}_(?P<field>\d{6})_(?P<band>z\w)_c(?P<ccd>\d\d)_\w_q(?P<quadrant>\d)")


def is_sibling(name: str) -> bool:
    """Tell whether a file name is that of a product which goes with a difference image."""
    found = _NAME.fullmatch(PurePosixPath(name).name)
    return found is not None and found["product"] != "scimrefdiffimg"


def siblings(name: str, beside: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Find the files that go with a difference image.

    Parameters
    ----------
    name
        Of the difference image: ``ztf_<time>_<field>_<filter>_c<ccd>_o_q<quadrant>_scimrefdiffimg.fits.fz``.
    beside
        Names in the same folder.

    Returns
    -------
    tuple of (plane, name)
        Science, mask and PSF share the name's stem; the reference image has that of its field, filter, CCD and
        quadrant (https://irsa.ipac.caltech.edu/docs/program_interface/ztf_metadata.html).
    """
    found = _NAME.fullmatch(name)
    if not found or found["product"] != "scimrefdiffimg":
        return ()
    stems = {found["stem"]}
    if parts := _STEM.fullmatch(found["stem"]):
        stems.add(f"ztf_{parts['field']}_{parts['band']}_c{parts['ccd']}_q{parts['quadrant']}")
    planes = {}
    for other in sorted(beside, reverse=True):
        match = _NAME.fullmatch(other)
        if match and match["stem"] in stems and (plane := _PLANES.get(match["product"])):
            planes[plane] = other
    return tuple(sorted(planes.items()))
