import pytest

from flows.adapters.archive_names import is_sibling, siblings

STEM = "ztf_20190922290868_000397_zi_c15_o_q4"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{STEM}_scimrefdiffimg.fits.fz", False),
        (f"/data/{STEM}_sciimg.fits", True),
        (f"s3://bucket/{STEM}_mskimg.fits", True),
        (f"{STEM}_diffimgpsf.fits", True),
        (f"{STEM}_psfcat.fits", True),
        ("ztf_000397_zi_c15_q4_refimg.fits", True),
        ("differenceExp_LSSTCam_g_2019122600000_000.fits", False),
        ("scienceExp_LSSTCam_g_2019122600000_000.fits", True),
        ("templateExp_LSSTCam_g_2019122600000_000.fits", True),
        ("FinalDifference.fits", False),
        ("my_sciimg.fits", False),
    ],
)
def test_tells_exposures_from_what_goes_with_them(name, expected):
    assert is_sibling(name) is expected


def test_only_the_same_exposure_counts():
    beside = [
        f"{STEM}_sciimg.fits",
        f"{STEM[:-1]}3_sciimg.fits",
        "ztf_000397_zi_c15_q3_refimg.fits",
        "ztf_000397_zr_c15_q4_refimg.fits",
        f"{STEM}_psfcat.fits",
    ]
    assert siblings(f"{STEM}_scimrefdiffimg.fits.fz", beside) == (("science", f"{STEM}_sciimg.fits"),)


def test_rubin_planes_share_the_rest_of_the_name():
    tail = "LSSTCam_g_2019122600000_000.fits"
    beside = [f"scienceExp_{tail}", f"templateExp_{tail}", "scienceExp_LSSTCam_g_2019122600000_001.fits"]
    assert siblings(f"differenceExp_{tail}", beside) == (
        ("science", f"scienceExp_{tail}"),
        ("template", f"templateExp_{tail}"),
    )


def test_other_names_have_none():
    assert siblings("FinalDifference.fits", [f"{STEM}_sciimg.fits"]) == ()
    assert siblings(f"{STEM}_sciimg.fits", [f"{STEM}_mskimg.fits"]) == ()
