import pytest

from flows.adapters.archive_names import siblings
from flows.fetch.ztf_quadrant import ZtfQuadrant
from schemas.errors import Misconfigured

ROW = {
    "field": "600", "ccdid": "5", "qid": "2", "filtercode": "zr", "imgtypecode": "o", "filefracday": "20180411467847",
}  # fmt: skip


def test_places_are_those_of_the_archives_documentation():
    quadrant = ZtfQuadrant.of_row(ROW, "here")
    stem = "sci/2018/0411/467847/ztf_20180411467847_000600_zr_c05_o_q2"
    assert {product: quadrant.path(product) for product in ("difference", "science", "mask", "psf", "template")} == {
        "difference": f"{stem}_scimrefdiffimg.fits.fz",
        "science": f"{stem}_sciimg.fits",
        "mask": f"{stem}_mskimg.fits",
        "psf": f"{stem}_diffimgpsf.fits",
        "template": "ref/000/field000600/zr/ccd05/q2/ztf_000600_zr_c05_q2_refimg.fits",
    }
    assert (
        ZtfQuadrant.of_row({**ROW, "field": "1574", "ccdid": "16"}, "")
        .path("template")
        .startswith("ref/001/field001574/zr/ccd16/q2/")
    )


def test_a_run_takes_the_files_for_one_exposure():
    quadrant = ZtfQuadrant.of_row(ROW, "here")
    names = [quadrant.path(product).split("/")[-1] for product in ("science", "mask", "psf", "template")]
    difference = quadrant.path("difference").split("/")[-1]
    assert dict(siblings(difference, names)) == dict(zip(("science", "mask", "psf", "template"), names, strict=True))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("field", "../1"), ("field", ""), ("ccdid", "17"), ("ccdid", "0"), ("qid", "5"), ("filtercode", "z/"),
        ("imgtypecode", ".."), ("filefracday", "2018041146784"), ("filefracday", None),
    ],
)  # fmt: skip
def test_what_cannot_be_part_of_a_name_is_refused(column, value):
    with pytest.raises(Misconfigured, match=f"column {column}") as caught:
        ZtfQuadrant.of_row({**ROW, column: value}, "here")
    assert caught.value.code == "bad_answer"
