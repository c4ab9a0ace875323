"""The usual compressed image of an archive, decompressed as a whole; astropy takes half of its time between rows."""

import zlib
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from kernels.rice import rice_image

_DITHERS = {"SUBTRACTIVE_DITHER_1": False, "SUBTRACTIVE_DITHER_2": True}
_COLUMNS = {"COMPRESSED_DATA", "ZSCALE", "ZZERO"}
_GZIP = "GZIP_COMPRESSED_DATA"
_GZIP_HEADER = 16 + zlib.MAX_WBITS


def rice_pixels(data: bytes, hdus: fits.HDUList, index: int) -> NDArray[np.float32] | None:
    """Give the pixels of an image if it is of the usual form: floats, quantised with dithering, RICE_1, row by row.

    Parameters
    ----------
    data
        The file's bytes.
    hdus
        The same, opened with ``disable_image_compression=True``.
    index
        Of the HDU.

    Returns
    -------
    (ny, nx) float32, or None
        None if it is of another form, or damaged: astropy reads any form, and says what is wrong.
    """
    header = hdus[index].header
    if not _usual(header):
        return None
    kind, place = hdus[index].columns.dtype.newbyteorder(">"), hdus.fileinfo(index)["datLoc"]
    if not set(kind.names or ()) >= _COLUMNS or "ZBLANK" in kind.names or kind["COMPRESSED_DATA"].base != ">i4":
        return None
    try:
        table = np.frombuffer(data, kind, header["NAXIS2"], place)
        heap = np.frombuffer(data, np.uint8)[place + header.get("THEAP", table.nbytes) : place + hdus[index].size]
        image = rice_image(
            heap,
            table["COMPRESSED_DATA"].astype(np.int32),
            table["ZSCALE"].astype(np.float64),
            table["ZZERO"].astype(np.float64),
            header["ZNAXIS1"],
            block=_parameters(header).get("BLOCKSIZE", 32),
            seed=header.get("ZDITHER0", 0),
            keep_zeros=_DITHERS[header["ZQUANTIZ"]],
            blank=header.get("ZBLANK", header.get("BLANK")),
        )
        return None if image is None else _with_other_rows(image, table, heap)
    except (ValueError, IndexError, zlib.error):
        return None


def _usual(header: fits.Header) -> bool:
    return bool(
        header.get("ZIMAGE")
        and header.get("ZCMPTYPE") == "RICE_1"
        and header.get("ZBITPIX") == -32
        and header.get("ZQUANTIZ") in _DITHERS
        and header.get("ZNAXIS") == 2
        and header.get("ZTILE1", header["ZNAXIS1"]) == header["ZNAXIS1"]
        and header.get("ZTILE2", 1) == 1
        and header["NAXIS2"] == header["ZNAXIS2"]
        and _parameters(header).get("BYTEPIX", 4) == 4
        and header.get("BSCALE", 1) == 1
        and header.get("BZERO", 0) == 0
    )


def _parameters(header: fits.Header) -> dict[str, Any]:
    """Parameters of the compression: ZNAMEn -> ZVALn."""
    return {header[f"ZNAME{n}"]: header.get(f"ZVAL{n}") for n in range(1, 9) if f"ZNAME{n}" in header}


def _with_other_rows(
    image: NDArray[np.float32], table: NDArray[Any], heap: NDArray[np.uint8]
) -> NDArray[np.float32] | None:
    """Put in the rows that no quantisation would have made shorter: their floats are gzipped."""
    for row in np.flatnonzero(table["COMPRESSED_DATA"][:, 0] == 0):
        if _GZIP not in (table.dtype.names or ()):
            return None
        length, offset = table[_GZIP][row].tolist()
        image[row] = np.frombuffer(zlib.decompress(heap[offset : offset + length].tobytes(), _GZIP_HEADER), ">f4")
    return image
