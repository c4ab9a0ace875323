import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from astropy.io import fits
from fsspec.implementations.local import LocalFileSystem

from flows.inputs.files import read_bytes
from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.inputs.source_state import stat_of
from flows.inputs.sources import MANIFEST, files_of, list_sources, read_manifest
from schemas.errors import BadInput, Misconfigured
from schemas.settings import Settings

SETTINGS = Settings()
FITS = b"SIMPLE  =                    T" + b" " * 2850


def names(*inputs):
    return [Path(source.uri).name for source in list_sources([str(one) for one in inputs], SETTINGS)]


def place(folder, *files):
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FITS)
    return folder


def refused(code, *inputs):
    with pytest.raises(Misconfigured) as caught:
        list_sources([str(one) for one in inputs], SETTINGS)
    assert caught.value.code == code
    return str(caught.value)


def test_a_folder_is_searched_to_its_depth_in_order(tmp_path):
    place(tmp_path, "b/2.fits", "b/deep/1.fits.fz", "a/3.fit", "a/.hidden.fits", ".Trash-0/files/4.fits")
    (tmp_path / "a" / "notes.txt").write_text("clouds at midnight")
    (tmp_path / "a" / "truth.parquet").write_bytes(b"PAR1")
    assert names(tmp_path) == ["3.fit", "2.fits", "1.fits.fz"]


def test_content_counts_where_the_name_says_nothing(tmp_path):
    place(tmp_path, "exposure-17")
    assert names(tmp_path) == ["exposure-17"]


def test_a_stack_goes_by_its_content(tmp_path):
    np.savez(tmp_path / "made.npz", data=np.zeros((2, 30, 30), np.float32))
    stack = (tmp_path / "made.npz").rename(tmp_path / "stack.dat")
    for given in (stack, tmp_path):
        assert list_sources([str(given)], SETTINGS) == [Source(str(stack), index=index) for index in (0, 1)]


def test_gzip_and_zip_files_count_if_they_hold_images(tmp_path):
    (tmp_path / "exposure").write_bytes(gzip.compress(FITS))
    (tmp_path / "table").write_bytes(gzip.compress(b"kind,visit"))
    (tmp_path / "cut").write_bytes(gzip.compress(FITS)[:8])
    (tmp_path / "no-gzip").write_bytes(b"\x1f\x8b and nothing more")
    (tmp_path / "no-zip").write_bytes(b"PK\x03\x04 and nothing more")
    for name, arrays in {
        "other": {"weights": np.zeros((2, 30, 30))},
        "information": {"data": np.array([None, []], object)},
        "flat": {"data": np.zeros((30, 30))},
    }.items():
        np.savez(tmp_path / "made.npz", **arrays)
        (tmp_path / "made.npz").rename(tmp_path / name)
    assert names(tmp_path) == ["exposure"]


def test_tables_beside_a_solved_image_are_no_images(tmp_path):
    """As solve-field of astrometry.net leaves them: field.wcs is a header alone, the others are tables."""
    fits.PrimaryHDU(np.zeros((9, 9), np.float32)).writeto(tmp_path / "field.new")
    table = fits.BinTableHDU.from_columns([fits.Column("X", "E", array=np.arange(5.0))])
    for name in ("axy", "corr", "match", "rdls"):
        table.writeto(tmp_path / f"field.{name}")
    fits.PrimaryHDU().writeto(tmp_path / "field.wcs")
    place(tmp_path, "damaged")
    card = b"ZIMAGE  = abc".ljust(80)
    (tmp_path / "odd.new").write_bytes(
        (tmp_path / "field.new").read_bytes().replace(b"END".ljust(80), card + b"END".ljust(80), 1)
    )
    assert names(tmp_path) == ["damaged", "field.new", "odd.new"]
    assert names(tmp_path / "field.axy") == ["field.axy"]  # who names it hears why not


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.fits.bz2", b"BZh9"),
        ("b.FITS.Z", b"\x1f\x9d\x90"),
        ("c.fits.xz", b"\xfd7zXZ\0"),
        ("d.fits.zst", b"(\xb5/\xfd"),
    ],
)
def test_an_image_packed_in_another_way_is_not_passed_over(tmp_path, name, start):
    (tmp_path / name).write_bytes(start + bytes(90))
    (source,) = list_sources([str(tmp_path)], SETTINGS)
    with pytest.raises(BadInput, match=r"To fix, unpack it, or pack it with gzip or fpack\.") as caught:
        probe(source, SETTINGS)
    assert caught.value.code == "not_fits"


def test_a_pattern_finds_hidden_files_only_if_it_asks_for_them(tmp_path):
    place(tmp_path, "a.fits", "._a.fits")
    assert names(tmp_path / "*.fits") == ["a.fits"]
    assert list(files_of(f"{tmp_path}/*")) == [f"{tmp_path}/a.fits"]
    assert names(tmp_path / ".*.fits") == ["._a.fits"]


def test_files_globs_and_repetitions(tmp_path):
    place(tmp_path, "x1.fits", "x2.fits", "y.fits")
    assert names(tmp_path / "y.fits", tmp_path / "x*.fits", tmp_path) == ["y.fits", "x1.fits", "x2.fits"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    place(tmp_path, "night[1].fits", "night1.fits")
    assert names(tmp_path / "night[1].fits") == ["night[1].fits"]


def test_siblings_go_with_their_difference_image(tmp_path):
    stem = "ztf_20190922290868_000397_zi_c15_o_q4"
    products = ("scimrefdiffimg.fits.fz", "sciimg.fits", "mskimg.fits", "diffimgpsf.fits")
    place(tmp_path, *(f"{stem}_{product}" for product in products), "ztf_000397_zi_c15_q4_refimg.fits")
    place(tmp_path, "ztf_20190922290868_000397_zi_c15_o_q3_sciimg.fits")
    expected = {
        "mask": f"{stem}_mskimg.fits",
        "psf": f"{stem}_diffimgpsf.fits",
        "science": f"{stem}_sciimg.fits",
        "template": "ztf_000397_zi_c15_q4_refimg.fits",
    }
    for given in (tmp_path, tmp_path / f"{stem}_scimrefdiffimg.fits.fz", tmp_path / "*.fits*"):
        (source,) = list_sources([str(given)], SETTINGS)
        assert {plane: Path(uri).name for plane, uri in source.siblings} == expected
        assert all(Path(uri).is_file() for _, uri in source.siblings)


def test_stacks_give_one_source_an_image(tmp_path):
    np.savez(tmp_path / "asteroid_difference_images_2.npz", data=np.zeros((3, 30, 30), np.float32))
    np.savez(tmp_path / "asteroid_injected_information_2.npz", data=np.array([None, []], object))
    found = list_sources([str(tmp_path)], SETTINGS)
    assert [source.index for source in found] == [0, 1, 2]


def test_a_broken_stack_is_listed_so_that_it_is_quarantined(tmp_path):
    (tmp_path / "asteroid_difference_images_3.npz").write_bytes(b"PK\x03\x04 and nothing more")
    assert list_sources([str(tmp_path)], SETTINGS) == [Source(str(tmp_path / "asteroid_difference_images_3.npz"))]


def test_urls_stay_urls(tmp_path):
    for name in ("n1/a.fits", "n1/b/c.fits"):
        with fsspec.open(f"memory://listing/{name}", "wb") as file:
            file.write(FITS)
    found = [source.uri for source in list_sources(["memory://listing"], SETTINGS)]
    assert found == ["memory://listing/n1/a.fits", "memory://listing/n1/b/c.fits"]
    assert [source.uri for source in list_sources(["memory://listing/n1/*.fits"], SETTINGS)] == found[:1]
    for uri in found:
        with fsspec.open(uri, "rb") as file:
            assert file.read() == FITS


def test_a_manifest_in_a_folder_speaks_for_it(tmp_path):
    place(tmp_path, "diff.fits", "sci.fits", "other.fits")
    (tmp_path / "exposures.csv").write_text("difference,science,band\ndiff.fits,sci.fits,g\n")
    for given in (tmp_path, tmp_path / "exposures.csv"):
        (source,) = list_sources([str(given)], SETTINGS)
        assert source == Source(
            str(tmp_path / "diff.fits"), (("science", str(tmp_path / "sci.fits")),), None, (("band", "g"),)
        )


def test_what_does_not_exist(tmp_path):
    assert "gone" in refused("no_such_input", tmp_path / "gone")
    refused("no_such_input", tmp_path / "*.fits")
    refused("no_such_input", "nonsense://bucket/x")
    assert "is empty, as from an unset variable" in refused("no_such_input", "")


def test_nothing_to_do(tmp_path):
    (tmp_path / "notes.txt").write_text("clouded out")
    refused("no_exposures", tmp_path)
    refused("no_exposures")


LIST = """
import os, sys
from flows.inputs.probe import probe
from flows.inputs.sources import list_sources
from schemas.errors import BadInput
from schemas.settings import Settings
os.seteuid(65534)
for source in list_sources(sys.argv[1:], Settings()):
    try:
        print(source.uri)
        source.is_folder and probe(source, Settings())
    except BadInput as error:
        print(error.code, error)
"""


def listed_by_another(root, locked, *inputs):
    """Lines of what someone sees who may not list ``locked``."""
    locked.chmod(0o311)
    script = LIST if os.geteuid() == 0 else LIST.replace("os.seteuid(65534)", "")
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, inputs)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    locked.chmod(0o755)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(str(root), "R").splitlines()


@pytest.fixture
def night():
    # Not tmp_path: pytest keeps what is above it to itself, and root has to become someone else here.
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield place(Path(made), "a.fits", "deep/b.fits", "z/c.fits")


def test_a_folder_that_may_not_be_read_is_a_source_that_is_refused(night):
    """To lack its exposures silently would be worse, and so would be to lack the rest of the night."""
    first, folder, reason, last = listed_by_another(night, night / "deep", night)
    assert (first, folder, last) == ("R/a.fits", "R/deep/", "R/z/c.fits")
    assert reason.startswith("unreadable_folder R/deep/: the folder cannot be listed")
    assert "Permission denied" in reason
    assert "chmod" in reason
    folder, reason = listed_by_another(night, night, night)
    assert (folder, reason.split(": ")[0]) == ("R/", "unreadable_folder R/")


def test_a_named_file_needs_no_list_of_its_folder(night):
    assert listed_by_another(night, night / "deep", night / "deep" / "b.fits") == ["R/deep/b.fits"]


def test_a_pipe_is_a_source_that_is_refused_and_nobody_waits_for_it(tmp_path):
    place(tmp_path, "good.fits")
    os.mkfifo(tmp_path / "pipe.fits")
    os.mkfifo(tmp_path / "other")
    (tmp_path / "link.fits").symlink_to("pipe.fits")
    assert names(tmp_path) == ["good.fits", "link.fits", "pipe.fits"]
    for name in ("pipe.fits", "link.fits"):
        with pytest.raises(BadInput, match="not a file") as caught:
            probe(Source(str(tmp_path / name)), SETTINGS)
        assert caught.value.code == "not_a_file"
    refused("no_such_input", tmp_path / "pipe.fits")


def test_a_folder_with_the_name_of_an_image_is_refused_unless_it_holds_one(tmp_path):
    hollow = tmp_path / "raw" / "ztf_20240810140000_000720_zg_c01_o_q2_scimrefdiffimg.fits.fz"
    place(tmp_path / "raw", "a.fits", "unpacked.fits/deep/b.fits", f"{hollow.name}/notes.txt", "sky.fits.d/c.txt")
    (tmp_path / "raw" / "ztf_20240810140000_000720_zg_c01_o_q2_mskimg.fits.fz").mkdir()
    (hollow / "notes.txt").write_text("left")
    (tmp_path / "raw" / "sky.fits.d" / "c.txt").write_text("left")
    found = list_sources([str(tmp_path / "raw")], SETTINGS)
    assert [Path(one.uri).name for one in found] == ["a.fits", "b.fits", hollow.name]
    assert names(hollow) == [hollow.name]
    assert found[-1].refusal.code == "not_a_file"
    assert "is a folder, and no image is in it" in str(found[-1].refusal)


def test_a_name_of_other_bytes_is_refused_and_the_rest_is_found(tmp_path):
    place(tmp_path, "good.fits")
    for name in (b"bad\xff.fits", b"notes\xfe.txt"):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(FITS if name.endswith(b"fits") else b"dry")
    bad, good = list_sources([str(tmp_path)], SETTINGS)
    assert good == Source(str(tmp_path / "good.fits"))
    assert bad.uri == f"{tmp_path}/bad\\xff.fits"
    assert bad.refusal.code == "bad_name"
    assert "rename" in str(bad.refusal)
    bad.uri.encode()


def test_links_to_folders_are_followed_once(tmp_path):
    night = place(tmp_path / "night", "a.fits", "sub/b.fits")
    place(tmp_path / "elsewhere", "c.fits", "deep/d.fits")
    (night / "again").symlink_to("sub")
    (night / "round").symlink_to(".")
    (night / "other").symlink_to("../elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to("../night")
    (night / "nowhere").symlink_to("../gone")
    found = [Path(source.uri).relative_to(night) for source in list_sources([str(night)], SETTINGS)]
    assert found == [Path("a.fits"), Path("sub/b.fits"), Path("other/c.fits"), Path("other/deep/d.fits")]


def test_colons_in_names_mean_nothing(tmp_path):
    place(tmp_path, "a::b.fits", "c::d/e.fits")
    found = [source.uri for source in list_sources([str(tmp_path), str(tmp_path / "a::b.fits")], SETTINGS)]
    assert found == [f"{tmp_path}/a::b.fits", f"{tmp_path}/c::d/e.fits"]
    assert read_bytes(found[0]) == FITS
    assert stat_of(Source(found[1])).size == len(FITS)


def test_a_stack_with_more_images_than_can_be_numbered_has_one_source_for_the_rest(tmp_path):
    np.savez_compressed(tmp_path / "many.npz", data=np.zeros((1500, 3, 3), np.float32))
    found = list_sources([str(tmp_path)], SETTINGS)
    assert [source.index for source in found] == list(range(1001))
    with pytest.raises(BadInput, match="none behind it"):
        probe(found[-1], SETTINGS)


def test_folders_are_listed_once_however_many_images_they_hold(tmp_path, monkeypatch):
    stems = [f"ztf_201909222908{number:02d}_000397_zi_c15_o_q4" for number in range(30)]
    place(tmp_path, *(f"{stem}_{product}.fits" for stem in stems for product in ("scimrefdiffimg", "sciimg")))
    listed = []
    ls = LocalFileSystem.ls
    monkeypatch.setattr(
        LocalFileSystem, "ls", lambda fs, path, **options: listed.append(path) or ls(fs, path, **options)
    )
    assert len(list_sources([str(tmp_path)], SETTINGS)) == 30
    assert len(listed) == 2  # once for what is there, once for what goes with it


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
        ("difference,gain,gain,psf_fwhm_px\nd.fits,1,1,2.5\n", "more than once"),
        ("difference,band\n\nd, 1.fits,g\n", "line 3 has 3 cells for 2 columns"),
        ("difference\n" + "d" * 200_000 + "\n", "cannot be read: line 2: field larger"),
    ],
)
def test_errors_name_the_fault(tmp_path, text, words):
    with pytest.raises(Misconfigured, match=words) as caught:
        read_manifest(manifest(tmp_path, text))
    assert caught.value.code == "bad_manifest"


def test_lines_may_end_in_any_way_and_with_a_comma(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"difference,band\ra.fits,g,\r\nb.fits\n")
    first, second = read_manifest(str(tmp_path / "m.csv"))
    assert (first.difference, first.overrides) == (f"{tmp_path}/a.fits", (("band", "g"),))
    assert (second.difference, second.overrides) == (f"{tmp_path}/b.fits", ())


def test_a_manifest_that_is_no_text(tmp_path):
    path = tmp_path / "exposures.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_manifest(str(path))


@pytest.mark.parametrize(
    "secret",
    [
        "https://alice:hunter2@host/b.fits",
        "https://host/b.fits?token=hunter2",
        "zip://b.fits::http://u:hunter2@h/c.zip",
    ],
)
@pytest.mark.parametrize("column", ["difference", "mask"])
def test_a_row_of_a_manifest_with_a_password_is_refused_without_it(tmp_path, secret, column):
    (tmp_path / "a.fits").write_bytes(b"SIMPLE  =")
    row = {"difference": "a.fits", "mask": "", column: secret}
    (tmp_path / "exposures.csv").write_text(f"difference,mask\n{row['difference']},{row['mask']}\na.fits,\n")
    bad, good = list_sources([str(tmp_path)], Settings())
    assert (bad.refusal.code, bad.siblings) == ("credentials_in_url", ())
    assert "hunter2" not in f"{bad} {bad.refusal}"
    assert good.refusal is None


def test_the_files_of_an_input_are_all_that_is_not_hidden(tmp_path):
    place(tmp_path, "b/2.fits", "a.txt", ".hidden", "b/.hidden.fits")
    assert list(files_of(str(tmp_path))) == [f"{tmp_path}/a.txt", f"{tmp_path}/b/2.fits"]
    assert list(files_of(f"{tmp_path}/[ab]*")) == [f"{tmp_path}/a.txt", f"{tmp_path}/b/2.fits"]
    assert list(files_of(f"{tmp_path}/a.txt")) == [f"{tmp_path}/a.txt"]
    assert list(files_of(f"{tmp_path}/gone")) == []
    (tmp_path / "b" / MANIFEST).write_text("difference\n")
    assert list(files_of(f"{tmp_path}/b")) == []


def test_a_folder_within_that_cannot_be_listed_is_a_source_of_its_own(tmp_path, unlisted):
    place(tmp_path, "a.fits", "locked/b.fits", "gone/c.fits", "disk/lost+found/d.fits", ".hidden/e.fits")
    for name in ("locked", "disk/lost+found", ".hidden"):
        unlisted[f"{tmp_path}/{name}"] = PermissionError("denied")
    unlisted[f"{tmp_path}/gone"] = FileNotFoundError("renamed meanwhile")
    wanted = [f"{tmp_path}/a.fits", f"{tmp_path}/locked/"]
    assert [one.uri for one in list_sources([str(tmp_path)], SETTINGS)] == wanted
    assert list(files_of(str(tmp_path))) == wanted
