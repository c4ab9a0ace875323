import pytest

from flows.inputs.manifest import read_manifest
from schemas.errors import Misconfigured


def manifest(tmp_path, text):
    path = tmp_path / "exposures.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_rows_with_planes_and_fields(tmp_path):
    uri = manifest(
        tmp_path,
        "\ufeffdifference, mask, psf, band, visit, zero_point\n"
        "d1.fits, m1.fits, , g, 17, 25.1\n"
        "/abs/d2.fits, s3://bucket/m2.fits, p2.fits, , ,\n",
    )
    first, second = read_manifest(uri)
    assert first.difference == f"{tmp_path}/d1.fits"
    assert first.siblings == (("mask", f"{tmp_path}/m1.fits"),)
    assert first.overrides == (("visit", "17"), ("band", "g"), ("zero_point", "25.1"))
    assert second.difference == "/abs/d2.fits"
    assert second.siblings == (("mask", "s3://bucket/m2.fits"), ("psf", f"{tmp_path}/p2.fits"))
    assert second.overrides == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("difference,colour\nd.fits,red\n", "colour"),
        ("science\ns.fits\n", "must have 'difference'"),
        ("", "must have 'difference'"),
        ("difference,band\nd.fits,g\n,r\n", "line 3"),
    ],
)
def test_errors_name_the_fault(tmp_path, text, words):
    with pytest.raises(Misconfigured, match=words) as caught:
        read_manifest(manifest(tmp_path, text))
    assert caught.value.code == "bad_manifest"


def test_a_manifest_that_is_no_text(tmp_path):
    path = tmp_path / "exposures.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_manifest(str(path))
