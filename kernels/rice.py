"""Rice-compressed, quantised images of FITS files, a whole image at a time."""

import numba as nb
import numpy as np
from numpy.typing import NDArray

_RANDOM = 10_000
_PLAIN = 25  # this many low bits and more: all 32 as they are
_ZERO = -2147483646  # stands for 0.0 in the second dithering method


def _zeros_in_front() -> NDArray[np.uint8]:
    """Give the number of zero bits before the first one, of each byte."""
    return np.array([8 - int(byte).bit_length() for byte in range(256)], np.uint8)


def _dither() -> NDArray[np.float32]:
    """Give the random numbers of the FITS standard (Park & Miller 1988, Comm. ACM 31, 1192; seed 1)."""
    numbers, seed = np.empty(_RANDOM, np.float32), 1
    for place in range(_RANDOM):
        seed = 16807 * seed % 2147483647
        numbers[place] = seed / 2147483647
    return numbers


_ZEROS, _DITHER = _zeros_in_front(), _dither()


def rice_image(
    heap: NDArray[np.uint8],
    rows: NDArray[np.int32],
    scale: NDArray[np.float64],
    zero: NDArray[np.float64],
    width: int,
    *,
    block: int,
    seed: int,
    keep_zeros: bool,
    blank: int | None,
) -> NDArray[np.float32] | None:
    """Decompress an image of which each row was quantised with subtractive dithering and compressed by itself.

    Parameters
    ----------
    heap : (size,) uint8
        Compressed bytes of all rows.
    rows : (ny, 2) int32
        Length and offset of each row in ``heap``, bytes; a row of length 0 is stored in another way, and left NaN.
    scale, zero : (ny,)
        Of each row: value = scale (integer - random number + 1/2) + zero.
    width
        Pixels in a row.
    block
        Pixels that share a number of low bits (``BLOCKSIZE``).
    seed
        Place in the random numbers of the first row (``ZDITHER0``).
    keep_zeros
        ``SUBTRACTIVE_DITHER_2``: one integer stands for 0.
    blank
        Integer that stands for NaN.

    Returns
    -------
    (ny, width) float32, or None
        None if a row is not within the heap, or ends too early: then the bytes are damaged.

    Notes
    -----
    RICE_1 with 4 bytes per integer and the dithering are those of the FITS standard 4.0 (2018), sections 10.2.2 and
    10.4.1; Rice, Yeh & Miller 1993, "Algorithms for a very high speed universal noiseless coding module", JPL.
    """
    length, start = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    if ((length != 0) & ((length < 4) | (start < 0) | (start + length > heap.size))).any():
        return None
    image = np.full((len(rows), width), np.nan, np.float32)
    whole = _image(
        heap,
        rows,
        scale,
        zero,
        block,
        seed,
        _ZEROS,
        _DITHER,
        (blank is not None, np.int32(blank or 0), keep_zeros),
        image,
    )
    return image if whole else None


@nb.njit(cache=True)
def _image(
    heap: NDArray[np.uint8],
    rows: NDArray[np.int32],
    scale: NDArray[np.float64],
    zero: NDArray[np.float64],
    block: int,
    seed: int,
    zeros: NDArray[np.uint8],
    dither: NDArray[np.float32],
    special: tuple[bool, np.int32, bool],
    image: NDArray[np.float32],
) -> bool:
    integers = np.empty(image.shape[1], np.int32)
    for row in range(rows.shape[0]):
        start = rows[row, 1]
        if rows[row, 0] == 0:
            continue
        if not _integers(heap[start : start + rows[row, 0]], block, zeros, integers):
            return False
        place, x = (row + seed - 1) % dither.size, 0
        while x < integers.size:
            random = dither[int(dither[place] * np.float32(500.0)) :]
            end = min(x + random.size, integers.size)
            _values(integers[x:end], random, scale[row], zero[row], special, image[row, x:end])
            place, x = (place + 1) % dither.size, end
    return True


@nb.njit(cache=True)
def _values(
    integers: NDArray[np.int32],
    random: NDArray[np.float32],
    scale: float,
    zero: float,
    special: tuple[bool, np.int32, bool],
    values: NDArray[np.float32],
) -> None:
    has_blank, blank, keep_zeros = special
    for x in range(integers.size):
        # No branches: several pixels are done at a time.
        value = np.float32((np.float64(integers[x]) - np.float64(random[x]) + 0.5) * scale + zero)
        value = np.float32(0.0) if keep_zeros & (integers[x] == _ZERO) else value
        values[x] = np.float32(np.nan) if has_blank & (integers[x] == blank) else value


@nb.njit(cache=True, inline="always")
def _filled(code: NDArray[np.uint8], position: int, bits: np.uint64, held: int) -> tuple[int, np.uint64, int]:
    """Take more bytes of the code, so that more than 32 bits are held if there are so many."""
    if held <= 32:
        if position + 4 <= code.size:
            word = np.uint64(code[position]) << np.uint64(24) | np.uint64(code[position + 1]) << np.uint64(16)
            word |= np.uint64(code[position + 2]) << np.uint64(8) | np.uint64(code[position + 3])
            return position + 4, bits | word << np.uint64(32 - held), held + 32
        while position < code.size:
            bits |= np.uint64(code[position]) << np.uint64(56 - held)
            position, held = position + 1, held + 8
    return position, bits, held


@nb.njit(cache=True)
def _integers(code: NDArray[np.uint8], block: int, zeros: NDArray[np.uint8], integers: NDArray[np.int32]) -> bool:
    """Decode one row; tell whether the code holds it all."""
    last = np.uint32(0)
    for byte in range(4):
        last = np.uint32(last << np.uint32(8)) | np.uint32(code[byte])
    position, bits, held = 4, np.uint64(0), 0  # the next bits of the code, at the top of 64, and how many they are
    for first in range(0, integers.size, block):
        position, bits, held = _filled(code, position, bits, held)
        low = int(bits >> np.uint64(59)) - 1
        bits, held = bits << np.uint64(5), held - 5
        for x in range(first, min(first + block, integers.size)):
            if low >= 0:  # else all are as the one before
                high, width = 0, 32 if low == _PLAIN else low
                position, bits, held = _filled(code, position, bits, held)
                if low != _PLAIN:
                    step = zeros[bits >> np.uint64(56)]
                    while step == 8 and held > 0:
                        high, bits, held = high + 8, bits << np.uint64(8), held - 8
                        position, bits, held = _filled(code, position, bits, held)
                        step = zeros[bits >> np.uint64(56)]
                    high, bits, held = high + step, bits << np.uint64(step + 1), held - step - 1
                    position, bits, held = _filled(code, position, bits, held)
                difference = np.uint32(np.uint64(high) << np.uint64(low))
                if width:
                    difference |= np.uint32(bits >> np.uint64(64 - width))
                    bits, held = bits << np.uint64(width), held - width
                half = difference >> np.uint32(1)
                last = np.uint32(last + (~half if difference & np.uint32(1) else half))
            integers[x] = np.int32(last)
        if held < 0:
            return False
    return True
