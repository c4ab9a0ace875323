import errno
import hashlib
import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from flows.inputs.ingest import prepare
from flows.inputs.npz_llnl import (
    image_count,
    is_truth,
    read_stack_image,
    stack_form,
    stack_image,
    stack_key,
    zip_damage,
)
from flows.inputs.sources import list_sources
from schemas.errors import BadInput
from schemas.settings import Settings


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "asteroid_difference_images_12.npz"
    images = np.random.default_rng(1).normal(0, 5, (3, 60, 70))
    np.savez(path, data=images)
    return str(path), images


def test_each_image_is_an_exposure_without_time_place_or_scale(stack):
    path, images = stack
    assert image_count(path) == 3
    for index, source in enumerate(list_sources([path], Settings())):
        info, planes = prepare(source, Settings())
        assert (info.visit, info.detector) == (12000 + index, 0)
        assert info.flags == ("assumed_psf", "no_time", "no_wcs", "no_zero_point")
        assert (info.wcs_header, info.zero_point) == (None, None)
        np.testing.assert_array_equal(planes["difference"], images[index].astype(np.float32))
        assert info.source_uri == f"{path}[{index}]"


def test_the_digest_is_of_the_image_alone(stack, tmp_path):
    path, images = stack
    digests = {read_stack_image(path, index).source_sha256 for index in range(3)}
    assert len(digests) == 3
    other = tmp_path / "asteroid_difference_images_13.npz"
    np.savez_compressed(other, data=images[1:])
    assert read_stack_image(str(other), 0).source_sha256 == read_stack_image(path, 1).source_sha256
    expected = hashlib.sha256(b"((60, 70), '<f8')" + images[0].tobytes()).hexdigest()
    assert read_stack_image(path, 0).source_sha256 == expected


def test_visits_of_different_files_differ():
    keys = {
        stack_key(f"/d/{name}.npz", index).visit
        for name in ("images_1", "images_2", "images_10", "night", "field")
        for index in (0, 99, 999)
    }
    assert len(keys) == 15
    assert max(keys) < 2**42


def test_the_longest_visit_fits():
    assert stack_key("x_999999999.npz", 999).visit < 2**42
    assert 1000 * (2**32 - 1) + 999 < 2**42  # CRC-32 of a name without a number


@pytest.mark.parametrize("index", [-1, 1000])
def test_no_such_image(index):
    with pytest.raises(BadInput, match="must be 0 to 999"):
        stack_key("x_1.npz", index)


def test_a_file_whose_images_could_not_be_counted_says_why(tmp_path):
    path = tmp_path / "x_1.npz"
    path.write_bytes(b"PK\x03\x04")
    refused("damaged", lambda: stack_key(str(path), None))
    path.write_bytes(packed(stack_npz_stack()).getvalue())
    refused("no_such_image", lambda: stack_key(str(path), None))


def test_truth_is_no_exposure():
    assert is_truth("/d/asteroid_injected_information_3.npz")
    assert not is_truth("/d/asteroid_difference_images_3.npz")


def stack_npz_stack(count=4, shape=(30, 33), dtype="<f4"):
    return np.random.default_rng(1).normal(0, 100, (count, *shape)).astype(dtype)


def packed(images, *, deflated=False):
    file = io.BytesIO()
    (np.savez_compressed if deflated else np.savez)(file, extra=np.arange(100), data=images)
    file.seek(0)
    return file


@settings(max_examples=20)
@given(
    index=st.integers(0, 3),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", "<i2", "u1"]),
    deflated=st.booleans(),
)
def test_each_image_is_what_numpy_reads(index, dtype, deflated):
    images = stack_npz_stack(dtype=dtype)
    found = stack_image(packed(images, deflated=deflated), "x.npz", index)
    np.testing.assert_array_equal(found, images[index])
    assert found.dtype == images.dtype


def test_form_needs_no_pixels():
    form = stack_form(packed(stack_npz_stack()), "x.npz")
    assert form.shape == (4, 30, 33)
    assert form.image_bytes == 30 * 33 * 4


@pytest.mark.parametrize("deflated", [False, True])
def test_memory_holds_no_more_than_two_images(tmp_path, deflated):
    """120 MB of pixels in 30 images of 4 MB."""
    path = tmp_path / "stack.npz"
    images = np.zeros((30, 1000, 1000), np.float32)
    images[29] = 7
    (np.savez_compressed if deflated else np.savez)(path, data=images)
    del images
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            found = stack_image(file, str(path), 29)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found == 7).all()
    assert peak < 2 * found.nbytes


def refused(code, call):
    with pytest.raises(BadInput) as caught:
        call()
    assert caught.value.code == code


@pytest.mark.parametrize("index", [-1, 4])
def test_npz_stack_no_such_image(index):
    refused("no_such_image", lambda: stack_image(packed(stack_npz_stack()), "x.npz", index))


@pytest.mark.parametrize(
    ("images", "code"),
    [
        (stack_npz_stack()[0], "wrong_dimensions"),
        (np.asfortranarray(stack_npz_stack()), "wrong_dimensions"),
        (stack_npz_stack().astype(complex), "wrong_dtype"),
        (np.array([None, "x"], object).reshape(2, 1, 1), "wrong_dtype"),
        (np.array([[["text"]]]), "wrong_dtype"),
    ],
)
def test_arrays_that_are_no_images(images, code):
    refused(code, lambda: stack_form(packed(images), "x.npz"))


def test_an_image_that_no_memory_holds():
    file = io.BytesIO()
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1, 100_000, 100_000)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.npy", header.getvalue())
    refused("too_large", lambda: stack_form(file, "x.npz"))


def test_other_archives():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "no pixels")
    refused("missing_member", lambda: stack_form(file, "x.npz"))


def zipped(data, kind=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("data.npy", data)
    return bytearray(file.getvalue())


def in_numpys_form(header):
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def test_an_archive_that_nothing_can_be_read_of_ends_no_listing(tmp_path):
    """One with a password, one of which LZMA cannot make anything, and one whose header exhausts Python's parser."""
    locked, packed = zipped(bytes(100)), zipped(in_numpys_form(b"{}"), zipfile.ZIP_LZMA)
    locked[6] |= 1
    locked[locked.find(b"PK\x01\x02") + 8] |= 1
    packed[45:60] = bytes(one ^ 0x55 for one in packed[45:60])
    for data in (locked, packed, zipped(in_numpys_form(b"-" * 9000 + b"1"))):
        (tmp_path / "x.npz").write_bytes(data)
        refused("damaged", lambda: image_count(str(tmp_path / "x.npz")))
        assert len(list_sources([str(tmp_path)], Settings())) == 1


@pytest.mark.parametrize("deflated", [False, True])
def test_damaged_archives(deflated):
    good = packed(stack_npz_stack(), deflated=deflated).getvalue()
    refused("damaged", lambda: stack_form(io.BytesIO(good[: len(good) // 2]), "x.npz"))
    refused("damaged", lambda: stack_form(io.BytesIO(b"PK\x03\x04"), "x.npz"))
    header = packed(stack_npz_stack()).getvalue().replace(b"), }", b" , }")  # the end of the shape
    refused("damaged", lambda: stack_form(io.BytesIO(header), "x.npz"))


def test_a_directory_that_points_before_the_file_is_damage_and_a_disk_that_fails_is_not(tmp_path):
    path = tmp_path / "x.npz"
    good = bytearray(packed(stack_npz_stack()).getvalue())
    end = good.rindex(b"PK\x05\x06")
    good[end + 16 : end + 20] = (len(good) * 2).to_bytes(4, "little")  # where the directory begins
    path.write_bytes(good)
    refused("damaged", lambda: image_count(str(path)))
    with pytest.raises(OSError, match="Input/output"), zip_damage("x.npz"):
        raise OSError(errno.EIO, "Input/output error")


def test_corrupt_deflated_pixels():
    images = stack_npz_stack(shape=(100, 100))
    good = bytearray(packed(images, deflated=True).getvalue())
    middle = len(good) // 2
    good[middle : middle + 200] = bytes(200)
    refused("damaged", lambda: stack_image(io.BytesIO(bytes(good)), "x.npz", 3))


def test_member_shorter_than_its_header_says():
    file = io.BytesIO()
    whole = io.BytesIO()
    np.save(whole, stack_npz_stack())
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.npy", whole.getvalue()[:-5000])
    refused("truncated", lambda: stack_image(file, "x.npz", 3))


@pytest.mark.parametrize("deflated", [False, True])
def test_a_stack_cannot_claim_more_images_than_its_bytes_hold(deflated):
    """242 bytes that claim 10**12 images would be listed for ever."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 28, 28)})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        archive.writestr("data.npy", head.getvalue())
    with pytest.raises(BadInput, match=r"claims 1000000000000 images") as caught:
        stack_form(file, "x.npz")
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("shape", [(0, 30, 30), (2, 0, 30), (2, 30, 0)])
def test_a_stack_without_pixels(shape):
    file = io.BytesIO()
    np.savez(file, data=np.zeros(shape, np.float32))
    with pytest.raises(BadInput, match="no image") as caught:
        stack_form(file, "x.npz")
    assert caught.value.code == "wrong_dimensions"


def test_a_member_that_ends_before_the_image_that_its_header_promises():
    file, member = io.BytesIO(), io.BytesIO()
    npy.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (9, 30, 33)})
    member.write(stack_npz_stack().tobytes())
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", member.getvalue())
    np.testing.assert_array_equal(stack_image(file, "x.npz", 3), stack_npz_stack()[3])
    for index in (4, 5, 8):
        refused("truncated", lambda index=index: stack_image(file, "x.npz", index))
