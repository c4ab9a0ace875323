import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from flows.adapters.npz_stack import stack_form, stack_image
from schemas.errors import BadInput


def stack(count=4, shape=(30, 33), dtype="<f4"):
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
    images = stack(dtype=dtype)
    found = stack_image(packed(images, deflated=deflated), "x.npz", index)
    np.testing.assert_array_equal(found, images[index])
    assert found.dtype == images.dtype


def test_form_needs_no_pixels():
    form = stack_form(packed(stack()), "x.npz")
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
def test_no_such_image(index):
    refused("no_such_image", lambda: stack_image(packed(stack()), "x.npz", index))


@pytest.mark.parametrize(
    ("images", "code"),
    [
        (stack()[0], "wrong_dimensions"),
        (np.asfortranarray(stack()), "wrong_dimensions"),
        (stack().astype(complex), "wrong_dtype"),
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


@pytest.mark.parametrize("deflated", [False, True])
def test_damaged_archives(deflated):
    good = packed(stack(), deflated=deflated).getvalue()
    refused("damaged", lambda: stack_form(io.BytesIO(good[: len(good) // 2]), "x.npz"))
    refused("damaged", lambda: stack_form(io.BytesIO(b"PK\x03\x04"), "x.npz"))


def test_corrupt_deflated_pixels():
    images = stack(shape=(100, 100))
    good = bytearray(packed(images, deflated=True).getvalue())
    middle = len(good) // 2
    good[middle : middle + 200] = bytes(200)
    refused("damaged", lambda: stack_image(io.BytesIO(bytes(good)), "x.npz", 3))


def test_member_shorter_than_its_header_says():
    file = io.BytesIO()
    whole = io.BytesIO()
    np.save(whole, stack())
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.npy", whole.getvalue()[:-5000])
    refused("truncated", lambda: stack_image(file, "x.npz", 3))
