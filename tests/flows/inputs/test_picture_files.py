import gzip
import os
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from flows.inputs import picture_files
from flows.inputs.picture_files import PictureFile, list_pictures, read_picture, split_pictures
from schemas.errors import BadInput

RNG = np.random.default_rng(1)
PIXELS = RNG.integers(0, 256, (30, 40, 3)).astype(np.uint8)


def written(path, pixels=PIXELS, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def test_a_folder_of_folders_is_labelled_by_them(tmp_path):
    for name in ("b/spirals/2.png", "b/spirals/1.JPG", "ellipticals/3.jpeg", "4.png", ".hidden/5.png", "b/.6.png"):
        written(tmp_path / name, format="PNG" if name.endswith("png") else "JPEG")
    (tmp_path / "b/notes.txt").write_text("no picture")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [(one.path.relative_to(tmp_path).as_posix(), one.label) for one in list_pictures(tmp_path)]
    assert found == [
        ("4.png", ""),
        ("b/spirals/1.JPG", "spirals"), ("b/spirals/2.png", "spirals"), ("ellipticals/3.jpeg", "ellipticals"),
    ]  # fmt: skip


def test_files_of_other_kinds_are_told_in_one_line(tmp_path):
    lines = []
    written(tmp_path / "a/1.png")
    for name in (".hidden.txt", "Thumbs.db", "README"):
        (tmp_path / "a" / name).write_text("x")
    list_pictures(tmp_path, say=lines.append)
    assert lines == []
    (tmp_path / "one.TIFF").write_text("x")
    list_pictures(tmp_path, say=lines.append)
    (tmp_path / "a/b").mkdir()
    for name in ("a/2.webp", "a/b/3.npy", "a/b/4.txt", "a/b/5.txt"):
        (tmp_path / name).write_text("x")
    written(tmp_path / "more/1.png")
    (tmp_path / "more/picture").write_text("x")
    list_pictures(tmp_path / "a", tmp_path / "more", say=lines.append)
    assert lines == [
        "1 file of another kind is left out: .tiff.",
        "5 files of other kinds are left out: .npy, .txt, .webp, without an ending.",
    ]
    for n in range(20):
        (tmp_path / f"more/x.{n:02d}").write_text("x")
    list_pictures(tmp_path / "more", say=lines.append)
    kinds = ", ".join(f".{n:02d}" for n in range(12))
    assert lines[-1] == f"21 files of other kinds are left out: {kinds}, ..."


def test_links_are_followed_and_what_cannot_be_read_is_told(tmp_path):
    lines = []
    written(tmp_path / "elsewhere/set/1.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/spirals").symlink_to(tmp_path / "elsewhere/set")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "in/pipe.png")
    found = list_pictures(tmp_path / "in", say=lines.append)
    assert found == (PictureFile(tmp_path / "in/spirals/1.png", "spirals"),)
    assert lines == [
        "3 files of other kinds are left out: link to a folder around it, link to nothing, pipe or socket."
    ]


@pytest.mark.parametrize("header", ["location,label", "Path,Class", "note,image,label"])
def test_a_table_names_files_and_labels(tmp_path, header):
    written(tmp_path / "in/1.png")
    first = "x," if header.startswith("note") else ""
    (tmp_path / "t.csv").write_text(f"{header}\n{first}in/1.png,spiral\n{first}{tmp_path / 'in/1.png'},\n", "utf-8-sig")
    expected = PictureFile(tmp_path / "in/1.png", "spiral"), PictureFile(tmp_path / "in/1.png", "")
    assert list_pictures(tmp_path / "t.csv") == expected


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("", "missing_columns", "location and label are needed"),
        ("name,label\n1.png,a\n", "missing_columns", r"\['label', 'name'\]"),
        ("location,label\n", "no_pictures", "no rows"),
        ("location,label\n1.png,a\n2.png,b\n", "missing_files", r"2 files, of which none is there: .*1.png.*2.png"),
        ("location,label\n,a\n,b\n", "missing_files", "no location in row 1, and in 1 more"),
        ("location,label\nhttps://a.org/1.png,a\n", "missing_files", "on the web, such as .https://a.org/1.png"),
        (b"location,label\n\xff\xfe,a\n", "unreadable_table", "is not CSV"),
        ('location,label\n1.png,a\n"2.png,b\n3.png,b\n', "unreadable_table", "is not CSV"),
        ('location,label\n1.png,a\n"2.png,b\n3.png,"b"\n', "unreadable_table", "is not CSV"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, content, code, said):
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=said) as refused:
        list_pictures(tmp_path / "t.csv")
    assert refused.value.code == code


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_may_have_semicolons_or_tabs_and_empty_rows(tmp_path, mark):
    written(tmp_path / "a,b.png")
    (tmp_path / "t.csv").write_text(f"id{mark}Location{mark}Label\r\n1{mark}a,b.png{mark}spiral\r\n{mark}{mark}\r\n")
    assert list_pictures(tmp_path / "t.csv") == (PictureFile(tmp_path / "a,b.png", "spiral"),)


def test_files_that_are_not_there_do_not_take_the_others_down(tmp_path):
    written(tmp_path / "1.png")
    names = ["1.png", "gone.png", "x" * 300 + ".png", "zero\0.png", "."]
    (tmp_path / "t.csv").write_text("location,label\n" + "".join(f"{name},a\n" for name in names))
    there, *others = list_pictures(tmp_path / "t.csv")
    assert read_picture(there.path, 99).shape == PIXELS.shape
    for one in others:
        with pytest.raises(BadInput, match="cannot be read as a picture"):
            read_picture(one.path, 99)


def test_a_folder_that_may_not_be_opened_is_told(tmp_path, monkeypatch):
    lines = []
    written(tmp_path / "in/1.png")
    (tmp_path / "in/locked").mkdir()
    opened = type(tmp_path).iterdir

    def refused(path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(type(tmp_path), "iterdir", refused)
    assert list_pictures(tmp_path / "in", say=lines.append) == (PictureFile(tmp_path / "in/1.png", ""),)
    assert lines == ["1 file of another kind is left out: folder that cannot be opened (Permission denied)."]


def test_an_empty_folder_and_what_is_not_there_are_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no picture"):
        list_pictures(tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        list_pictures(tmp_path / "none")
    with pytest.raises(BadInput, match="neither a folder nor a CSV"):
        list_pictures(written(tmp_path / "1.png"))


def test_a_picture_is_read_as_it_is(tmp_path):
    np.testing.assert_array_equal(read_picture(written(tmp_path / "1.png"), 100), PIXELS)
    jpeg = written(tmp_path / "1.jpg", quality=95)
    np.testing.assert_array_equal(read_picture(jpeg, 100), np.asarray(Image.open(jpeg)))
    two = written(tmp_path / "two.png", PIXELS[:1, :2])
    np.testing.assert_array_equal(read_picture(two, 100), PIXELS[:1, :2])


def test_it_shrinks_to_the_means_of_its_parts(tmp_path):
    found = read_picture(written(tmp_path / "1.png"), 20)
    means = PIXELS.reshape(15, 2, 20, 2, 3).mean((1, 3))
    assert found.shape == (15, 20, 3)
    np.testing.assert_allclose(found, means, atol=1)
    assert read_picture(written(tmp_path / "2.png", PIXELS[:1]), 7).shape == (1, 7, 3)


def test_every_mode_becomes_eight_bits_of_three_colours(tmp_path):
    gray = np.repeat(np.asarray(Image.fromarray(PIXELS).convert("L"))[..., None], 3, 2)
    np.testing.assert_array_equal(read_picture(written(tmp_path / "gray.png", mode="L"), 99), gray)
    palette = written(tmp_path / "palette.png", mode="P")
    np.testing.assert_array_equal(read_picture(palette, 99), np.asarray(Image.open(palette).convert("RGB")))
    cmyk = written(tmp_path / "cmyk.jpg", mode="CMYK", quality=95)
    np.testing.assert_array_equal(read_picture(cmyk, 99), np.asarray(Image.open(cmyk).convert("RGB")))
    deep = RNG.integers(0, 65536, (30, 40)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_allclose(read_picture(tmp_path / "deep.png", 99)[..., 1], deep / 257, atol=0.51)


def test_what_is_transparent_lies_on_black(tmp_path):
    alpha = RNG.integers(0, 256, (30, 40, 1)).astype(np.uint8)
    Image.fromarray(np.concatenate([PIXELS, alpha], 2)).save(tmp_path / "1.png")
    np.testing.assert_allclose(read_picture(tmp_path / "1.png", 99), PIXELS * (alpha / 255.0), atol=1)


def test_the_camera_that_was_turned_is_turned_back(tmp_path):
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "1.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "1.png", 99), np.rot90(PIXELS, -1))


def test_fits_is_stretched_and_what_is_no_number_is_black(tmp_path):
    values = RNG.normal(100, 5, (50, 60)).astype(np.float32)
    values[20:30, 20:30] += 500
    values[0, 0] = np.nan
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(values)]).writeto(tmp_path / "1.fits")
    found = read_picture(tmp_path / "1.fits", 100)
    assert found.shape == (50, 60, 3)
    assert (found[0, 0] == 0).all()
    flat, given = found[..., 0].ravel(), values.ravel()
    order = np.argsort(np.nan_to_num(given, nan=-1.0))
    assert (np.diff(flat[order].astype(int)) >= 0).all(), "brighter is never darker"
    assert found[20:30, 20:30].min() > 245
    colours = np.stack([values, 2 * values, values[::-1]])
    fits.writeto(tmp_path / "3.fits", colours)
    three = read_picture(tmp_path / "3.fits", 100)
    np.testing.assert_array_equal(three[..., 0], found[..., 0])
    np.testing.assert_array_equal(three[..., 2], found[::-1, :, 0])


RAMP = np.arange(50 * 60, dtype=np.float64).reshape(50, 60)


def stored_as(kind, path):
    """Write `RAMP` as FITS keeps it in one of its ways."""
    image = fits.PrimaryHDU(RAMP.astype(np.float32))
    if kind == "unsigned":
        image = fits.PrimaryHDU(RAMP.astype(np.uint16))
    elif kind == "scaled":
        image.scale("int16", bscale=0.5, bzero=100)
    elif kind == "blank":
        image = fits.PrimaryHDU(RAMP.astype(np.int16))
        image.header["BLANK"] = -1
    elif kind == "axes of one":
        image = fits.PrimaryHDU(RAMP[None, None])
    elif kind == "compressed":
        image = fits.CompImageHDU(RAMP.astype(np.uint16))
    image.writeto(path)


@pytest.mark.parametrize("kind", ["unsigned", "scaled", "blank", "axes of one", "compressed"])
def test_fits_shows_the_same_however_its_numbers_are_kept(tmp_path, kind):
    stored_as("float", tmp_path / "1.fits")
    stored_as(kind, tmp_path / "2.fits")
    for longest in (20, 100):
        first, second = (read_picture(tmp_path / name, longest).astype(int) for name in ("1.fits", "2.fits"))
        assert np.abs(first - second).max() <= 1


def test_fits_shows_the_same_in_any_unit(tmp_path):
    values = RNG.normal(100, 5, (50, 60))
    for unit in (1.0, 1e-32, 1e32):  # the second: watts per square metre and hertz
        fits.writeto(tmp_path / f"{unit}.fits", values * unit)
        found = read_picture(tmp_path / f"{unit}.fits", 99)
        np.testing.assert_allclose(found, read_picture(tmp_path / "1.0.fits", 99), atol=1)


def test_three_planes_below_an_axis_of_one_are_colours(tmp_path):
    fits.writeto(tmp_path / "1.fits", np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]])[None])
    found = read_picture(tmp_path / "1.fits", 100)
    np.testing.assert_array_equal(found[..., 1], found[::-1, :, 0])
    np.testing.assert_array_equal(found[..., 2], found[:, ::-1, 0])


@pytest.mark.parametrize(
    ("names", "order"),
    [("RED GREEN BLUE", (0, 1, 2)), ("G I R", (1, 2, 0)), ("b g r", (2, 1, 0)), ("SCI ERR DQ", (0, 0, 0))],
)
def test_three_hdus_are_colours_if_they_are_named_so(tmp_path, names, order):
    planes = np.random.default_rng(3).normal(size=(3, 40, 50)).astype(np.float32)
    hdus = [fits.ImageHDU(plane, name=name) for plane, name in zip(planes, names.split(), strict=True)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "hdus.fits")
    fits.PrimaryHDU(planes[list(order)]).writeto(tmp_path / "cube.fits")
    assert np.array_equal(read_picture(tmp_path / "hdus.fits", 64), read_picture(tmp_path / "cube.fits", 64))


def test_hdus_of_other_sizes_are_no_colours(tmp_path):
    planes = [np.arange(12.0 * n).reshape(3 * n, 4) for n in (1, 1, 2)]
    hdus = [fits.ImageHDU(plane, name=name) for plane, name in zip(planes, "RGB", strict=True)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "hdus.fits")
    picture = read_picture(tmp_path / "hdus.fits", 64)
    assert picture.shape == (3, 4, 3)
    assert (picture == picture[..., :1]).all()


def test_what_a_file_is_its_first_bytes_say(tmp_path):
    stored_as("float", tmp_path / "1.fits")
    expected = read_picture(tmp_path / "1.fits", 100)
    for name in ("1.png", "1.fit", "1.FTS"):
        (tmp_path / name).write_bytes((tmp_path / "1.fits").read_bytes())
        np.testing.assert_array_equal(read_picture(tmp_path / name, 100), expected)
    written(tmp_path / "a.png").rename(tmp_path / "a.fits")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.fits", 100), PIXELS)
    assert [one.path.name for one in list_pictures(tmp_path)] == ["1.FTS", "1.fit", "1.fits", "1.png", "a.fits"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.tiff", "is TIFF, not JPEG, PNG or FITS"), ("x.gif", "is GIF, not"), ("x.webp", "is WebP, not"),
        ("x.bmp", "is BMP, not"),
    ],
)  # fmt: skip
def test_another_kind_is_named(tmp_path, name, said):
    written(tmp_path / name).rename(tmp_path / "x.png")
    with pytest.raises(BadInput, match=said):
        read_picture(tmp_path / "x.png", 100)


def test_a_cube_is_refused_with_its_shape_and_cut_pixels_are_told(tmp_path):
    fits.writeto(tmp_path / "1.fits", np.stack([RAMP] * 5))
    with pytest.raises(BadInput, match="has images of 5 x 50 x 60, none of two dimensions, or of three planes"):
        read_picture(tmp_path / "1.fits", 100)
    stored_as("float", tmp_path / "2.fits")
    (tmp_path / "2.fits").write_bytes((tmp_path / "2.fits").read_bytes()[:6000])
    with pytest.raises(BadInput, match=r"cannot be read as a picture: it is cut off\. To fix, "):
        read_picture(tmp_path / "2.fits", 100)
    (tmp_path / "3.fits").touch()
    with pytest.raises(BadInput, match="is empty: 0 bytes"):
        read_picture(tmp_path / "3.fits", 100)


def test_fits_shrinks_in_rows_to_the_means_of_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_files, "BLOCK", 8)
    values = RNG.normal(0, 1, (50, 64)).astype(np.float32)
    values[:4, :4] = np.nan
    fits.writeto(tmp_path / "1.fits", values)
    with fits.open(tmp_path / "1.fits") as hdus:
        found, extremes = picture_files._rows(hdus[0], None, 4)
    expected = [[np.mean(values[y : y + 4, x : x + 4]) for x in range(0, 64, 4)] for y in range(0, 50, 4)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert extremes == (np.nanmin(values), np.nanmax(values))
    assert read_picture(tmp_path / "1.fits", 16).shape == (13, 16, 3)


@pytest.mark.parametrize("name", ["1.png", "1.jpg", "1.fits"])
@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_what_is_damaged_is_refused_with_a_reason(tmp_path, name, damage):
    path = tmp_path / name
    if name == "1.fits":
        fits.writeto(path, PIXELS[..., 0].astype(np.float32))
    else:
        written(path)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"%PDF-1.4 no picture"}[damage])
    with pytest.raises(BadInput, match="To fix, ") as refused:
        read_picture(path, 100)
    assert refused.value.code == "unreadable_picture"
    assert str(path) in str(refused.value)


NOTHING = {
    "black.png": (np.zeros((30, 40, 3), np.uint8), "all pixels are 0."),
    "gray.jpg": (np.full((30, 40), 77, np.uint8), "all pixels are 77."),
    "colour.png": (np.full((30, 40, 3), (9, 9, 200), np.uint8), "all pixels are 9, 9, 200."),
    "transparent.png": (np.concatenate([PIXELS, np.zeros_like(PIXELS[..., :1])], 2), "all pixels are 0."),
    "dim.png": (RNG.integers(0, 100, (30, 40)).astype(np.uint16), "all pixels are 0."),
    "flat.fits": (np.full((50, 41), 0.1, np.float32), "all pixels are 0.1."),
    "holes.fits": (np.where(RNG.random((50, 41)) < 0.5, np.nan, -3.5), "all pixels are -3.5."),
    "nan.fits": (np.full((3, 50, 41), np.nan), "no pixel is a number."),
    "infinite.fits": (np.where(RNG.random((50, 41)) < 0.5, np.inf, -np.inf), "no pixel is a number."),
    "colour.fits": (np.full((3, 50, 41), np.array([1, 2, np.nan])[:, None, None]), "all pixels are 1, 2."),
}


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("longest", [7, 100])
def test_a_picture_without_content_is_refused_with_what_its_pixels_are(tmp_path, name, longest):
    path, (values, said) = tmp_path / name, NOTHING[name]
    fits.writeto(path, values) if name.endswith("fits") else written(path, values)
    with pytest.raises(BadInput) as refused:
        read_picture(path, longest)
    assert (refused.value.code, refused.value.problem) == ("unreadable_picture", f"shows nothing: {said}")
    assert "leave it out" in refused.value.remedy


def test_one_pixel_or_one_plane_of_content_is_enough_at_any_size(tmp_path):
    values = np.zeros((3, 50, 41), np.float32)
    values[1, 20, 20] = 5
    fits.writeto(tmp_path / "1.fits", values)
    pixels = np.zeros((50, 41, 3), np.uint8)
    pixels[20, 20, 1] = 1
    written(tmp_path / "1.png", pixels)
    for name in ("1.fits", "1.png"):
        assert read_picture(tmp_path / name, 100)[20, 20].argmax() == 1
        assert read_picture(tmp_path / name, 1).shape == (1, 1, 3)


def test_what_cannot_be_unpacked_in_parts_may_not_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_files, "LARGEST", 1000)
    for name in ("1.png", "1.jpg"):
        with pytest.raises(BadInput, match="40 x 30 px, 1,000 px at most") as refused:
            read_picture(written(tmp_path / name), 100)
        assert refused.value.code == "too_large"
    assert read_picture(tmp_path / "1.jpg", 20).shape == (15, 20, 3), "a JPEG is unpacked smaller"


MEASURE = """
import sys
from pathlib import Path
from flows.inputs.picture_files import read_picture
import PIL.Image, astropy.io.fits
def peak():  # getrusage would count that of the process which has started this one
    return next(int(one.split()[1]) for one in open("/proc/self/status") if one.startswith("VmHWM"))
before = peak()
shape = read_picture(Path(sys.argv[1]), 512).shape
print(shape[0], shape[1], (peak() - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide.jpg", "wide.fits"])
def test_a_picture_of_30000_px_takes_little_memory(tmp_path, name):
    path = tmp_path / name
    if name == "wide.jpg":
        image = Image.new("L", (30_000, 3_000))
        image.paste(200, (0, 0, 10_000, 3_000))
        image.save(path)
    else:
        fits.writeto(path, np.repeat(np.arange(30_000, dtype=np.float32)[:, None], 3_000, 1))
    said = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True).stdout
    ny, nx, mib = map(int, said.split())
    assert max(ny, nx) <= 512
    assert mib < 250, "all of it has 343 MiB in FITS"


@pytest.mark.slow
def test_a_transparent_picture_takes_little_more_memory_than_an_opaque_one(tmp_path):
    image = Image.new("RGBA", (6_000, 6_000), (90, 30, 0, 200))
    image.paste((200, 9, 9, 99), (0, 0, 3_000, 6_000))
    image.save(tmp_path / "wide.png", compress_level=1)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "wide.png")]
    mib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[2])
    assert mib < 350, "with a copy it has 275 MiB"


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2)), min_size=1, max_size=120),
    st.integers(0, 5), st.randoms(use_true_random=False),
)  # fmt: skip
@hypothesis_settings(max_examples=60, deadline=None)
def test_splits_keep_shares_and_copies_whatever_the_order(pictures, seed, random):
    digests, codes = [f"{n:04d}" for n, _ in pictures], [k for _, k in pictures]
    shares = (0.6, 0.2, 0.2)
    parts = split_pictures(digests, codes, shares, seed)
    assert sorted(n for part in parts for n in part) == list(range(len(pictures)))
    of = {digests[n]: number for number, part in enumerate(parts) for n in part}
    for number, part in enumerate(parts):
        assert {of[digests[n]] for n in part} <= {number}
    first = {}
    for digest, code in sorted(zip(digests, codes, strict=True)):
        first.setdefault(digest, code)
    for code in set(first.values()):
        names = [name for name, own in first.items() if own == code]
        for number, share in enumerate(shares):
            assert abs(sum(of[name] == number for name in names) - share * len(names)) <= 1
    order = list(range(len(pictures)))
    random.shuffle(order)
    again = split_pictures([digests[n] for n in order], [codes[n] for n in order], shares, seed)
    assert {order[n] for n in again[0]} == set(parts[0])


def test_the_stretch_of_fits_is_that_of_a_hyperbolic_sine_between_two_percentiles(tmp_path):
    values = np.linspace(0, 1000, 1001, dtype=np.float32).reshape(13, 77)  # percentiles at 10 and 997
    fits.writeto(tmp_path / "1.fits", values)
    found = read_picture(tmp_path / "1.fits", 100)[..., 0].ravel()
    assert (np.diff(found.astype(int)) >= 0).all()
    assert (found[:11] == 0).all()
    assert (found[997:] == 255).all()
    # asinh of 1 and of 5 over that of 10: 0.8814, 2.3124 and 2.9982
    assert (found[109], found[504]) == (75, 197)


def test_a_fits_file_without_a_picture_is_refused(tmp_path):
    for number, shape in enumerate([(5,), (2, 8, 9), (4, 8, 9), (2, 3, 8, 9)]):
        fits.writeto(tmp_path / f"{number}.fits", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
        with pytest.raises(BadInput, match="none of two dimensions") as refused:
            read_picture(tmp_path / f"{number}.fits", 100)
        assert refused.value.code == "unreadable_picture"


@pytest.mark.parametrize(
    ("name", "rows", "good"), [("a.fits.gz", 10, True), ("a.FITS.GZ", 11, False), ("a.fits", 11, True)]
)
def test_fits_that_is_gzipped_may_not_be_too_large(tmp_path, monkeypatch, name, rows, good):
    monkeypatch.setattr(picture_files, "LARGEST", 100)
    fits.PrimaryHDU(np.arange(10.0 * rows).reshape(rows, 10)).writeto(tmp_path / "whole.fits")
    content = (tmp_path / "whole.fits").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    if good:
        assert read_picture(tmp_path / name, 100).shape == (rows, 10, 3)
        return
    with pytest.raises(BadInput, match="10 x 11 px, 100 px at most") as refused:
        read_picture(tmp_path / name, 100)
    assert refused.value.code == "too_large"


def test_a_colour_without_a_number_stays_dark(tmp_path):
    planes = np.stack([np.full((8, 9), np.nan), np.arange(72.0).reshape(8, 9), np.full((8, 9), 3.0)])
    fits.writeto(tmp_path / "a.fits", planes)
    picture = read_picture(tmp_path / "a.fits", 100)
    assert picture.max((0, 1)).tolist() == [0, 255, 0]
