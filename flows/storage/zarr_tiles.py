"""Exposures as sharded Zarr: one group per exposure, one array per plane, one or a few files per array."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.storage.atomic import new_folder
from flows.storage.shards import ShardedArray
from schemas.dataset import ArrayOf
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import SCHEMA_VERSION, ExposureInfo
from schemas.pixels import BAND, DIFFERENCE, MASK, SCIENCE, TEMPLATE, VARIANCE, band_rows, is_large
from schemas.settings import TileSettings

if TYPE_CHECKING:
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

PLANES = {plane.name: plane for plane in (DIFFERENCE, MASK, VARIANCE, SCIENCE, TEMPLATE)}
"""Planes that an exposure may have; the first two are required."""

WHOLE = 4200
"""Longest side of a plane stored as one file, px; larger planes have several files with sides of about this."""

_PIPELINE = Lock()


class TileAttributes(BaseModel):
    """Attributes of the Zarr group of an exposure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    exposure: ExposureInfo


def write_exposure(
    path: Path, info: ExposureInfo, planes: Mapping[str, Any], settings: TileSettings, digest: str
) -> None:
    """Write an exposure to ``path`` in one step, replacing an existing one.

    Each call writes every shard once and completely: tasks that write parts of the same shard silently lose data
    (https://github.com/zarr-developers/zarr-python/issues/3682). Every chunk has a CRC-32C.

    Parameters
    ----------
    path
        ``OUT/tiles/<night>/<visit>-<detector>.zarr``.
    info
        Metadata, stored as attributes.
    planes
        ``difference`` and ``mask``, and any of ``variance``, ``science``, ``template``: (ny, nx) of ``info.shape``,
        dtypes as in `schemas.pixels`. Arrays, or objects whose rows ``[y0:y1]`` can be read; they are read in blocks of
        the rows of a shard.
    settings
        Sides of a tile and of a chunk, px, and compression.
    digest
        Digest of the input of the exposure.

    Raises
    ------
    BadInput
        A plane is missing or has another shape or dtype.
    Misconfigured
        Chunks do not fill a tile, or the folder cannot be written.
    Retryable
        The disk is full.
    """
    import zarr  # imported here and below, since a process that only plans a night does not need it

    _check(path, info, planes, settings)
    with new_folder(path) as staged:
        attributes = TileAttributes(digest=digest, exposure=info).model_dump(mode="json")
        group = zarr.create_group(staged, zarr_format=3, attributes=attributes)
        arrays = {name: _create(group, PLANES[name], info, settings) for name in sorted(planes)}
        rows = shard_shape(info.shape, settings)[0]
        for y0 in range(0, info.shape[0], rows):
            for name, array in arrays.items():
                write_block(array, y0, 0, planes[name][y0 : y0 + rows])


def write_block(array: "zarr.Array[Any]", y0: int, x0: int, block: np.ndarray) -> None:
    """Write ``block`` at pixel (y0, x0) of ``array``, if it covers whole shards.

    Raises
    ------
    Misconfigured
        The block covers part of a shard: such a write could be lost if another task writes the rest.
    """
    shard = array.shards or array.chunks
    starts, ends = (y0, x0), (y0 + block.shape[0], x0 + block.shape[1])
    for start, end, side, length in zip(starts, ends, shard, array.shape, strict=True):
        if start % side or (end % side and end != length) or not 0 <= start < end <= length:
            raise Misconfigured(
                "partial_shard",
                str(array.store_path),
                f"pixels {start} to {end} of an axis of {length} do not cover whole shards of {side}: several tasks "
                "that write to one shard lose data.",
                "let one task write each shard, from one multiple of its side to the next.",
            )
    array[y0 : ends[0], x0 : ends[1]] = block


def compressors(codec: Literal["none", "lz4", "zstd"], dtype: str | np.dtype[Any]) -> "list[BloscCodec | Crc32cCodec]":
    """Return the codecs of a chunk: compression with byte shuffling, then a checksum."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    checksum = Crc32cCodec()
    if codec == "none":
        return [checksum]
    return [BloscCodec(cname=codec, clevel=5, shuffle="shuffle", typesize=np.dtype(dtype).itemsize), checksum]


class TileStore:
    """Stored exposure, open for reading; cheap to open, and safe to open in many processes.

    Attributes
    ----------
    path
        Folder of the Zarr group.
    info
        Metadata of the exposure.
    digest
        Digest of the input of the exposure.
    """

    def __init__(self, path: Path, attributes: TileAttributes, arrays: Mapping[str, ShardedArray]) -> None:
        self.path, self.info, self.digest = path, attributes.exposure, attributes.digest
        self._arrays = arrays

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the exposure at ``path``.

        Raises
        ------
        BadInput
            It is missing, incomplete or damaged, or has another version.
        """
        attributes = _attributes(path)
        info = attributes.exposure
        arrays = {name: _open_array(path, PLANES[name], info) for name in (DIFFERENCE.name, MASK.name, *info.planes)}
        return cls(path, attributes, arrays)

    @property
    def planes(self) -> tuple[str, ...]:
        """Return the names of its planes; ``difference`` and ``mask`` come first."""
        return tuple(self._arrays)

    @property
    def chunk(self) -> tuple[int, int]:
        """Return (ny, nx) of a chunk, which is decompressed at once, px."""
        return self._arrays[DIFFERENCE.name].chunk

    def read(self, plane: str, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
        """Return the pixels [y0:y1, x0:x1] of a plane, half open.

        Raises
        ------
        KeyError
            The exposure has no such plane.
        ValueError
            The range is not within the image.
        BadInput
            A shard is missing, or a chunk does not match its checksum.
        """
        array, (ny, nx) = self._arrays[plane], self.info.shape
        if not (0 <= y0 <= y1 <= ny and 0 <= x0 <= x1 <= nx):
            raise ValueError(f"[{y0}:{y1}, {x0}:{x1}] is not within an image of {ny} x {nx} px")
        try:
            return array.read(y0, x0, y1, x1)
        except (RuntimeError, ValueError, OSError) as error:
            raise _damaged(self.path, f"pixels [{y0}:{y1}, {x0}:{x1}] of {plane} cannot be read: {error}.") from error

    def read_all(self, plane: str, allocate: Callable[..., Any] | None = None) -> np.ndarray:
        """Return a whole plane, in an array from ``allocate`` if given; errors as in `read`."""
        if allocate is None:
            return self.read(plane, 0, 0, *self.info.shape)
        whole: np.ndarray = allocate(self.info.shape, PLANES[plane].dtype)
        for y0, rows in self.bands(plane):
            whole[y0 : y0 + len(rows)] = rows
        return whole

    def bands(self, plane: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield bands of a plane, one chunk high: index of the first row, and pixels; errors as in `read`."""
        (ny, nx), step = self.info.shape, self._arrays[plane].chunk[0]
        for y0 in range(0, ny, step):
            yield y0, self.read(plane, y0, 0, min(y0 + step, ny), nx)


def require_whole(path: Path) -> ExposureInfo:
    """Read every chunk of the exposure at ``path``, and return its metadata.

    Raises
    ------
    BadInput
        As in `TileStore.open`; or a chunk does not match its checksum.
    """
    store = TileStore.open(path)
    for plane in store.planes:
        for _ in store.bands(plane):
            pass
    return store.info


def read_info(path: Path) -> ExposureInfo:
    """Return the metadata of the exposure at ``path`` without opening its planes; errors as in `TileStore.open`."""
    return _attributes(path).exposure


def _check(path: Path, info: ExposureInfo, planes: Mapping[str, Any], settings: TileSettings) -> None:
    if settings.tile % settings.chunk:
        raise Misconfigured(
            "tile_chunk",
            "tiles.chunk",
            f"chunks of {settings.chunk} px do not fill a tile of {settings.tile} px.",
            f"choose a chunk that divides {settings.tile}, e.g. 252 for 1008.",
        )
    expected = {DIFFERENCE.name, MASK.name, *info.planes}
    if set(planes) != expected:
        raise BadInput(
            "planes",
            str(path),
            f"planes {sorted(planes)} where {sorted(expected)} are announced.",
            "give one array for each plane of the exposure.",
        )
    for name, plane in planes.items():
        if plane.dtype != PLANES[name].dtype or plane.shape != info.shape:
            raise BadInput(
                "plane_form",
                f"{path}: {name}",
                f"is {plane.dtype} {plane.shape}, must be {PLANES[name].dtype} {info.shape}.",
                "convert the plane before it is stored.",
            )


def _create(group: "zarr.Group", plane: ArrayOf, info: ExposureInfo, settings: TileSettings) -> "zarr.Array[Any]":
    with _zarrs():
        return group.create_array(
            plane.name,
            shape=info.shape,
            dtype=plane.dtype,
            chunks=(settings.chunk, settings.chunk),
            shards=shard_shape(info.shape, settings),
            compressors=compressors(settings.codec, plane.dtype),
            fill_value=_fill(plane),
            dimension_names=plane.dims,
            attributes={"unit": plane.unit.replace("pixel_unit", info.pixel_unit)},
        )


def shard_shape(shape: tuple[int, int], settings: TileSettings) -> tuple[int, int]:
    """Return (ny, nx) of a file of a plane, px, in whole chunks.

    A small plane is one file; a larger one has several files of whole tiles, or of all columns of some rows.
    """
    across = -(-shape[1] // settings.chunk) * settings.chunk
    if max(shape) <= WHOLE:
        return -(-shape[0] // settings.chunk) * settings.chunk, across
    if is_large(shape):
        return max(band_rows(shape[1], BAND) // settings.chunk, 1) * settings.chunk, across
    side = max(WHOLE // settings.tile, 1) * settings.tile
    return side, side


def _fill(plane: ArrayOf) -> float:
    """Return a fill value that no chunk consists of.

    Chunks that consist of the fill value are not stored, and a shard without chunks has no file; with 0, a lost shard
    would look like an empty one.
    """
    dtype = np.dtype(plane.dtype)
    return float(np.finfo(dtype).min) if dtype.kind == "f" else int(np.iinfo(dtype).max)


def _attributes(path: Path) -> TileAttributes:
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
        version = attributes["exposure"]["schema_version"]
        if version != SCHEMA_VERSION:
            raise BadInput(
                "other_version",
                str(path),
                f"has schema version {version}, this nightstride reads version {SCHEMA_VERSION}.",
                "use the version of nightstride that wrote it, or run the exposure again into another --out.",
            )
        return TileAttributes.model_validate(attributes)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise _damaged(path, f"metadata cannot be read: {type(error).__name__}: {error}.") from error


def _open_array(path: Path, plane: ArrayOf, info: ExposureInfo) -> ShardedArray:
    try:
        array = ShardedArray.open(path / plane.name)
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise _damaged(path, f"plane {plane.name} cannot be opened: {type(error).__name__}: {error}.") from error
    if array.shape != info.shape or array.dtype != plane.dtype:
        raise _damaged(path, f"plane {plane.name} is {array.dtype} {array.shape}, not {plane.dtype} {info.shape}.")
    return array


def _damaged(path: Path, problem: str) -> BadInput:
    return BadInput("damaged_tiles", str(path), problem, "run the exposure again with --tiles.")


@contextmanager
def _zarrs() -> Iterator[None]:
    """Use the zarrs codecs for arrays made or opened in this block only.

    With ``strict``, anything zarrs cannot do is an error, not a silent slow path. The lock is needed because zarr's
    settings belong to the process, not to the thread.
    """
    import zarr

    with _PIPELINE, zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}):
        yield
