import pytest

from flows.inputs import siblings as module
from flows.inputs.siblings import archive_plane, beside, siblings, stem_of

STEM = "ztf_20190922290868_000397_zi_c15_o_q4"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{STEM}_scimrefdiffimg.fits.fz", "difference"),
        (f"/data/{STEM}_sciimg.fits", "science"),
        (f"s3://bucket/{STEM}_mskimg.fits", "mask"),
        (f"{STEM}_diffimgpsf.fits", "psf"),
        (f"{STEM}_psfcat.fits", "other"),
        ("ztf_000397_zi_c15_q4_refimg.fits", "template"),
        ("differenceExp_LSSTCam_g_2019122600000_000.fits", "difference"),
        ("scienceExp_LSSTCam_g_2019122600000_000.fits", "science"),
        ("templateExp_LSSTCam_g_2019122600000_000.fits", "template"),
        ("FinalDifference.fits", None),
        ("my_sciimg.fits", None),
    ],
)
def test_tells_exposures_from_what_goes_with_them(name, expected):
    assert archive_plane(name) == expected
    assert (stem_of(name) is not None) is (expected == "difference")


def test_copies_of_a_difference_image_share_what_tells_its_exposure():
    """Packed or not, and wherever they lie; another quadrant's is another."""
    plain, packed = f"{STEM}_scimrefdiffimg.fits", f"s3://bucket/{STEM}_scimrefdiffimg.fits.fz"
    assert stem_of(plain) == stem_of(packed) == ("ztf", STEM)
    assert stem_of(f"{STEM[:-1]}3_scimrefdiffimg.fits") != stem_of(plain)


def test_only_the_same_exposure_counts():
    others = [
        f"{STEM}_sciimg.fits",
        f"{STEM[:-1]}3_sciimg.fits",
        "ztf_000397_zi_c15_q3_refimg.fits",
        "ztf_000397_zr_c15_q4_refimg.fits",
        f"{STEM}_psfcat.fits",
    ]
    assert siblings(f"{STEM}_scimrefdiffimg.fits.fz", beside(others)) == (("science", f"{STEM}_sciimg.fits"),)


def test_rubin_planes_share_the_rest_of_the_name():
    tail = "LSSTCam_g_2019122600000_000.fits"
    others = [f"scienceExp_{tail}", f"templateExp_{tail}", "scienceExp_LSSTCam_g_2019122600000_001.fits"]
    assert siblings(f"differenceExp_{tail}", beside(others)) == (
        ("science", f"scienceExp_{tail}"),
        ("template", f"templateExp_{tail}"),
    )


def test_other_names_have_none():
    assert siblings("FinalDifference.fits", beside([f"{STEM}_sciimg.fits"])) == ()
    assert siblings(f"{STEM}_sciimg.fits", beside([f"{STEM}_mskimg.fits"])) == ()


def test_of_two_files_of_one_plane_the_first_by_name_goes():
    plain, packed = f"{STEM}_sciimg.fits", f"{STEM}_sciimg.fits.fz"
    for others in ([plain, packed], [packed, plain]):
        assert siblings(f"{STEM}_scimrefdiffimg.fits.fz", beside(others)) == (("science", plain),)


def test_what_goes_with_one_of_many_is_found_without_looking_at_all(monkeypatch):
    """A night of ZTF in one folder has 44,800 difference images and three files beside each."""
    stems = [f"ztf_2019092229{number:04d}_000397_zi_c15_o_q4" for number in range(500)]
    others = beside(f"{stem}_{product}.fits" for stem in stems for product in ("sciimg", "mskimg", "diffimgpsf"))
    looked = []
    parse = module._parts
    monkeypatch.setattr(module, "_parts", lambda name: looked.append(name) or parse(name))
    for stem in stems:
        found = siblings(f"{stem}_scimrefdiffimg.fits.fz", others)
        assert [plane for plane, _ in found] == ["mask", "psf", "science"]
        assert all(name.startswith(stem) for _, name in found)
    assert len(looked) == len(stems)
