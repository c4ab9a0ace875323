import io

import numpy as np
import pytest
from astropy.io import fits

from flows.adapters.fits_rice import rice_pixels


def file_of(image, **options):
    made = fits.CompImageHDU(image, **({"compression_type": "RICE_1", "quantize_level": 4.0} | options))
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), made]).writeto(file)
    return file.getvalue()


def read(data):
    with fits.open(io.BytesIO(data), disable_image_compression=True, memmap=False) as hdus:
        return rice_pixels(data, hdus, 1)


@pytest.fixture
def sky():
    image = np.random.default_rng(1).normal(100, 5, (40, 300)).astype(np.float32)
    image[3:5] = np.nan  # rows that are not quantised, but gzipped
    image[7] = 12.5
    image[20:30, 100:] = np.nan
    return image


@pytest.mark.parametrize("method", [1, 2])
def test_reads_what_astropy_reads(sky, method):
    data = file_of(sky, quantize_method=method, dither_seed=77)
    found = read(data)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, fits.getdata(io.BytesIO(data)))


@pytest.mark.parametrize(
    "options",
    [
        {"compression_type": "GZIP_2"},
        {"quantize_method": -1},
        {"tile_shape": (20, 20)},
        {"tile_shape": (2, 300)},
    ],
)
def test_leaves_other_forms_to_astropy(sky, options):
    assert read(file_of(sky, **options)) is None


def test_leaves_whole_numbers_to_astropy(sky):
    assert read(file_of(np.nan_to_num(sky).astype(np.int16))) is None


def test_leaves_damage_to_astropy(sky):
    data = bytearray(file_of(sky))
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        place = hdus.fileinfo(1)["datLoc"]
    data[place + 1] ^= 64  # length of the first row
    assert read(bytes(data)) is None


def test_leaves_images_that_are_not_compressed_alone(sky):
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(sky)]).writeto(file)
    assert read(file.getvalue()) is None
