import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.rice import rice_image


def packed(image, level, method, seed):
    """Compress by astropy; give the arguments of `rice_image`, and what astropy reads."""
    made = fits.CompImageHDU(
        image, compression_type="RICE_1", quantize_level=level, quantize_method=method, dither_seed=seed
    )
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), made]).writeto(file)
    expected = fits.getdata(io.BytesIO(file.getvalue()))
    with fits.open(io.BytesIO(file.getvalue()), disable_image_compression=True, memmap=False) as hdus:
        header, kind = hdus[1].header, hdus[1].columns.dtype.newbyteorder(">")
        start = hdus.fileinfo(1)["datLoc"]
        table = np.frombuffer(file.getvalue(), kind, header["NAXIS2"], start)
        heap = np.frombuffer(file.getvalue(), np.uint8, header["PCOUNT"], start + table.nbytes)
    rows, scale, zero = (table[name] for name in ("COMPRESSED_DATA", "ZSCALE", "ZZERO"))
    arguments = (heap, rows.astype(np.int32), scale.astype(float), zero.astype(float), image.shape[1])
    options = {"seed": header["ZDITHER0"], "keep_zeros": method == 2, "blank": header.get("ZBLANK"), "block": 32}
    return arguments, options, expected


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(12, 300)),
    sigma=st.sampled_from([0.0, 0.01, 5.0, 3e4]),
    level=st.sampled_from([0.5, 4.0, 16.0, 1e4]),
    method=st.sampled_from([1, 2]),
    seed=st.integers(1, 10_000),
    strange=st.sampled_from([0.0, 0.05, 0.7]),
)
def test_gives_what_astropy_gives(shape, sigma, level, method, seed, strange):
    rng = np.random.default_rng(seed)
    image = rng.normal(100, sigma, shape).astype(np.float32)
    image[rng.random(shape) < strange] = np.nan
    image[rng.random(shape) < strange] = 0
    image[rng.random(shape) < strange / 10] = 1e5
    arguments, options, expected = packed(image, level, method, seed)
    found = rice_image(*arguments, **options)
    quantised = arguments[1][:, 0] > 0
    np.testing.assert_array_equal(found[quantised], expected[quantised])
    assert np.isnan(found[~quantised]).all()


@pytest.fixture
def good():
    image = np.random.default_rng(1).normal(100, 5, (6, 200)).astype(np.float32)
    return packed(image, 4.0, 1, 42)


@pytest.mark.parametrize(("column", "value"), [(0, 3), (0, 20), (0, 10**6), (1, -5), (1, 10**6)])
def test_rows_that_are_not_there_are_noticed(good, column, value):
    (heap, rows, *rest), options, _ = good
    rows = rows.copy()
    rows[2, column] = value
    assert rice_image(heap, rows, *rest, **options) is None


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_garbage_does_no_harm(seed):
    rng = np.random.default_rng(seed)
    heap = rng.integers(0, 256 if seed % 2 else 3, 500).astype(np.uint8)
    rows = np.array([[100, 0], [4, 100], [396, 104]], np.int32)
    found = rice_image(heap, rows, np.ones(3), np.zeros(3), 300, block=32, seed=1, keep_zeros=False, blank=None)
    assert found is None or found.shape == (3, 300)
