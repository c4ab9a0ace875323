import gzip
import io
import warnings
import zlib
from contextlib import suppress

import aiohttp
import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from hypothesis import given
from hypothesis import strategies as st

from flows.inputs.fits_damage import bad_checksum, damage, gzip_damage, truncated
from schemas.errors import BadInput, Misconfigured, Retryable

PACKED = gzip.compress(bytes(range(256)) * 40, mtime=0)


def decoded(content):
    with gzip_damage("a.fits.gz"):
        return gzip.decompress(content)


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("two\nlines"), OSError("Header missing END card."), zlib.error("bad"),
              gzip.BadGzipFile("no gzip"), TypeError(), MemoryError(), IndexError("i")],
)  # fmt: skip
def test_what_bytes_make_libraries_raise_is_damage(error):
    with pytest.raises(BadInput) as caught, damage("/raw/a.fits"):
        raise error
    assert (caught.value.code, caught.value.where) == ("damaged", "/raw/a.fits")
    assert type(error).__name__ in caught.value.problem
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (fits.VerifyError("Unparsable card (NAXIS1), fix it first with .verify('fix')."), "standard: its card NAXIS1"),
        (fits.VerifyError("Card 'GAIN' is not FITS standard (invalid value)."), "standard: its card GAIN"),
        (KeyError("Keyword 'NAXIS1' not found."), "decoded: its header has no NAXIS1"),
    ],
)
def test_what_is_wrong_with_a_header_is_told_without_a_librarys_words(error, says):
    with pytest.raises(BadInput, match=rf"{says}[\w ]*\. To fix, ") as caught, damage("/raw/a.fits"):
        raise error
    assert "verify(" not in str(caught.value)


def test_gzip_that_is_cut_off_or_damaged_is_told_without_a_librarys_words():
    whole = gzip.compress(bytes(range(256)) * 9)
    for data, code, says in (
        (whole[:-20], "truncated", "gzipped is cut off"),
        (whole[:-8] + bytes(8), "bad_checksum", "its CRC differs"),
        (whole[:10] + b"\xff" * 30, "bad_checksum", "gzipped is damaged"),
    ):
        with pytest.raises(BadInput, match=says) as caught, gzip_damage("a.fits.gz"):
            gzip.decompress(data)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file"), PermissionError(13, "may not"), OSError(28, "No space left"),
        ConnectionResetError("gone"), TimeoutError(), aiohttp.ClientPayloadError("cut off"),
        Retryable("a", "b", "c.", "d."), Misconfigured("a", "b", "c.", "d."), BadInput("mine", "b", "c.", "d."),
        KeyboardInterrupt(), SystemExit(3),
    ],
)  # fmt: skip
def test_what_is_not_about_bytes_goes_on_as_it_is(error):
    with pytest.raises(type(error)) as caught, damage("/raw/a.fits"):
        raise error
    assert caught.value is error


def test_warnings_of_astropy_alone_are_silenced_and_only_meanwhile():
    with damage("a.fits"):
        warnings.warn("an IRAF date", AstropyWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="of ours"), damage("a.fits"):
        warnings.warn("of ours", UserWarning, stacklevel=1)
    with pytest.warns(AstropyWarning, match="later"):
        warnings.warn("later", AstropyWarning, stacklevel=1)


@given(st.integers(0, 4000), st.integers(1, 255))
def test_fits_with_a_changed_byte_is_read_or_refused(place, change):
    file = io.BytesIO()
    fits.PrimaryHDU(np.arange(100.0).reshape(10, 10)).writeto(file)
    content = bytearray(file.getvalue())
    content[place] ^= change
    # Warnings are errors here, and what is neither read nor refused would end the test.
    with suppress(BadInput), damage("a.fits"), fits.open(io.BytesIO(bytes(content))) as hdus:
        np.asarray(hdus[0].data)


@given(st.integers(2, len(PACKED) - 1))  # less does not say that it is a gzip
def test_a_gzip_that_ends_early_is_truncated(length):
    assert decoded(b"") == b""
    with pytest.raises(BadInput, match=r"a\.fits\.gz.*the file ends too early") as caught:
        decoded(PACKED[:length])
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("place", [0, 1, len(PACKED) // 2, len(PACKED) - 8, len(PACKED) - 1])
def test_a_changed_byte_of_a_gzip_is_a_wrong_checksum(place):
    changed = bytearray(PACKED)
    changed[place] ^= 0x55
    with pytest.raises(BadInput) as caught:
        decoded(bytes(changed))
    assert caught.value.code == "bad_checksum"
    assert 'fits.checksum = "ignore"' in caught.value.remedy
    assert decoded(PACKED) == bytes(range(256)) * 40


def test_refusals_say_what_and_what_to_do():
    assert str(truncated("a", "3 of 9 bytes")) == "a: the file ends too early: 3 of 9 bytes. To fix, fetch it again."
    assert "the bytes do not fit their checksum: DATASUM." in str(bad_checksum("a", "DATASUM"))
