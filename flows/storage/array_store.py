"""Arrays of nights and patches in sharded Zarr: one group per dataset and night or patch, complete or absent.

Also arrays too large for memory, which are mapped from unnamed files while they are used.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from mmap import MADV_DONTNEED, mmap
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.runtime.parallel import side_by_side
from flows.storage.atomic import new_folder
from flows.storage.bucket_path import BucketPath, files_below, folder_digest
from flows.storage.layout import dataset_folder, patch_path, staging_folder
from flows.storage.writing import writing
from flows.storage.zarr_tiles import compressors
from kernels.compiled import njit
from schemas.dataset import ArrayOf
from schemas.errors import BadInput, Misconfigured
from schemas.ledger import DatasetRecord
from schemas.patch import PatchKey
from schemas.pixels import is_large

if TYPE_CHECKING:
    import zarr

ARRAY_VERSION = 1
"""Version of the layout and the attributes. Readers refuse later versions."""

CHUNK = 128
"""Number of rows compressed together."""

SHARD = 32 * CHUNK
"""Number of rows per file. Each file is written whole by one call."""

_IN_MEMORY = 64 * 2**20  # bytes; larger arrays are mapped from a file


def scratch_folder(out: Path) -> Path:
    """Return the folder for temporary files; on this machine if the output folder is in a bucket."""
    return Path(gettempdir()) if isinstance(out, BucketPath) else staging_folder(out)


class Scratch:
    """Arrays mapped from unnamed files, of which only a little is in memory at a time.

    The kernel loads the pages of a file that are accessed, with some around them, and writes changed ones back. While
    this is open, a thread keeps dropping them from the process; pages needed again are mapped again, usually from the
    kernel's cache, which is not charged to any process. So any function works on an array larger than memory if it
    accesses it piece by piece. The thread is compiled code that runs beside Python's.

    Parameters
    ----------
    folder
        Folder for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._maps = folder, list[mmap]()
        self._places = np.zeros((_MOST_ARRAYS, 2), np.uint64)
        self._over = Event()
        self._thread = Thread(target=self._run, name="scratch", daemon=True)

    def __enter__(self) -> Self:
        if hasattr(_libc, "malloc_trim"):
            _libc.malloc_trim(0)  # return what the allocator kept from earlier work
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._maps:
            self._thread.join()
        self._maps.clear()

    def allocate(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array of zeros.

        Raises
        ------
        Retryable, Misconfigured
            The disk is full; the folder cannot be written.
        """
        array, pages = _mapped(self._folder, shape, dtype)
        self._places[len(self._maps)] = array.ctypes.data, array.nbytes
        self._maps.append(pages)  # keeps the mapping, so that its addresses stay valid
        if len(self._maps) == 1:
            self._thread.start()
        return array

    def _run(self) -> None:
        while not self._over.is_set():
            _let_go(self._places, _ROUNDS)


_MOST_ARRAYS = 16
_ROUNDS = 250  # half a second, during which Python may do other things
_WAIT_US = 500

_libc = ctypes.CDLL(None)
_madvise, _usleep = _libc.madvise, _libc.usleep
_madvise.argtypes, _madvise.restype = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int), ctypes.c_int
_usleep.argtypes, _usleep.restype = (ctypes.c_uint32,), ctypes.c_int


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _let_go(places: NDArray[np.uint64], rounds: int) -> None:
    """Drop the pages at the given (address, bytes) again and again."""
    for _ in range(rounds):
        for i in range(len(places)):
            if places[i, 1] > 0:
                _madvise(places[i, 0], places[i, 1], MADV_DONTNEED)
        _usleep(_WAIT_US)


def _mapped(folder: Path, shape: tuple[int, ...], dtype: str) -> tuple[NDArray[Any], mmap]:
    """Return an array of zeros mapped from an unnamed file, and its pages; disk space is allocated at once (Linux)."""
    size = prod(shape) * np.dtype(dtype).itemsize
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            os.truncate(file.fileno(), size)
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)
            pages = mmap(file.fileno(), size)
    return np.frombuffer(pages, dtype).reshape(shape), pages


Allocate = Callable[[tuple[int, ...], str], Any]
"""Function that returns an array of zeros with a given shape and dtype."""


@contextmanager
def room_for(shape: tuple[int, ...], out: Path) -> Iterator[Allocate | None]:
    """Yield a function that allocates planes of an image of ``shape`` if it is large; None if memory is enough."""
    if not is_large(shape):
        yield None
        return
    with Scratch(scratch_folder(out)) as scratch:
        yield scratch.allocate


class ArrayAttributes(BaseModel):
    """Attributes of the Zarr group of an array."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = ARRAY_VERSION
    dataset: str
    digest: str
    rows: int
    settings: dict[str, Any]


class ArrayStore:
    """Store of groups ``OUT/catalogs/<dataset>/night=<night>/<dataset>.zarr`` with an array and the ids of its rows.

    Groups of patches are ``dataset/Norder=<k>/Dir=<d>/Npix=<n>.zarr``.

    A group appears under its name only when it is complete, and replaces an earlier one in one step.

    Parameters
    ----------
    out
        Output folder.
    room
        Allocates arrays too large for memory, as `Scratch.allocate` does; None: they are mapped from files whose pages
        stay in memory while there is room.
    """

    def __init__(self, out: Path, room: Allocate | None = None) -> None:
        self._out, self._room = out, room

    def path(self, dataset: ArrayOf, key: PatchKey | str) -> Path:
        """Return the path of an array of a patch or a whole night."""
        if isinstance(key, PatchKey):
            return patch_path(self._out, dataset.name, key, ".zarr")
        return dataset_folder(self._out, dataset.name, key) / f"{dataset.name}.zarr"

    def allocate(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array of zeros: in memory or, if it is large, mapped from an unnamed file."""
        if prod(shape) * np.dtype(dtype).itemsize <= _IN_MEMORY:
            return np.zeros(shape, dtype)
        if self._room is not None:
            made: NDArray[Any] = self._room(shape, dtype)
            return made
        return _mapped(scratch_folder(self._out), shape, dtype)[0]

    def publish(
        self,
        dataset: ArrayOf,
        key: PatchKey | str,
        values: NDArray[Any],
        digest: str,
        ids: Mapping[str, NDArray[np.int64]] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> DatasetRecord:
        """Write an array of a patch or a whole night, shard by shard, and return its ledger record.

        Parameters
        ----------
        dataset
            Declared form of the array.
        key
            Patch, or night.
        values
            Array whose first axis runs over the rows.
        digest
            Digest of its inputs.
        ids : (n,) each
            Ids of the rows, by name; stored in the same group.
        settings
            Settings section used to make it.

        Raises
        ------
        DatasetError
            The array does not have the declared form.
        Retryable, Misconfigured
            It cannot be written: see `flows.storage.atomic.write_file`.
        """
        import zarr  # as in `flows.storage.zarr_tiles`

        dataset.check(values)
        path = self.path(dataset, key)
        attributes = ArrayAttributes(
            dataset=dataset.name, digest=digest, rows=len(values), settings=dict(settings or {})
        )
        with new_folder(path) as staged:
            group = zarr.create_group(staged, zarr_format=3, attributes=attributes.model_dump(mode="json"))
            for name, column in (ids or {}).items():
                _write(group, name, column, (dataset.dims[0],), "")
            _write(group, dataset.name, values, dataset.dims, dataset.unit)
        return self.record(path)

    def record(self, path: Path) -> DatasetRecord:
        """Return the ledger record of a published array; errors as in `read_attributes`."""
        found = read_attributes(path)
        name = path.relative_to(self._out).as_posix()
        return DatasetRecord(path=name, digest=found.digest, rows=found.rows, sha256=folder_digest(path))

    def read_path(self, path: Path, dataset: ArrayOf) -> NDArray[Any]:
        """Return a published array; a large one is mapped from a file. Errors as in `read_attributes`."""
        import zarr

        read_attributes(path)
        try:
            with local_copy(path) as folder:
                stored = zarr.open_array(folder / dataset.name, mode="r")
                values = self.allocate(stored.shape, dataset.dtype)
                for start in range(0, len(values), SHARD):
                    values[start : start + SHARD] = stored[start : start + SHARD]
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise _damaged(path, f"cannot be read: {type(error).__name__}: {error}.") from error
        dataset.check(values)
        return values

    def read_rows(self, dataset: ArrayOf, night: str, ids: str, wanted: Collection[int]) -> dict[int, NDArray[Any]]:
        """Return rows of the arrays of a night's patches, by their ids in the array ``ids``.

        Errors as in `read_attributes`.
        """
        import zarr

        found = {}
        for path in sorted(dataset_folder(self._out, dataset.name, night).glob("dataset/Norder=*/Dir=*/Npix=*.zarr")):
            read_attributes(path)
            try:
                with local_copy(path) as folder:
                    known, values = (zarr.open_array(folder / name, mode="r") for name in (ids, dataset.name))
                    rows = np.asarray(known[:])
                    for row in np.flatnonzero(np.isin(rows, list(wanted))).tolist():
                        found[int(rows[row])] = np.asarray(values[row])
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                raise _damaged(path, f"cannot be read: {type(error).__name__}: {error}.") from error
        return found


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a local folder with the files below ``path``: that folder itself, or a temporary copy of objects.

    Raises
    ------
    OSError, Misconfigured, Retryable
        It cannot be read, or there is no space for the copy.
    """
    if not isinstance(path, BucketPath):
        yield path
        return
    with TemporaryDirectory(prefix="nightstride-") as folder:

        def fetch(file: Path) -> None:
            there, content = Path(folder) / file.relative_to(path).as_posix(), file.read_bytes()
            with writing(there):
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(content)

        side_by_side(fetch, files_below(path), remote=True)
        yield Path(folder)


def read_attributes(path: Path) -> ArrayAttributes:
    """Read the metadata of a published array.

    Raises
    ------
    BadInput
        It is missing or damaged.
    Misconfigured
        It was written by another version.
    """
    try:
        found = json.loads((path / "zarr.json").read_bytes())["attributes"]
        if int(str(found["schema_version"])) != ARRAY_VERSION:
            raise Misconfigured(
                "other_version",
                str(path),
                f"has schema version {found['schema_version']}, this nightstride reads version {ARRAY_VERSION}.",
                "use the version of nightstride that wrote it, or another --out.",
            )
        return ArrayAttributes.model_validate(found)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise _damaged(path, f"metadata cannot be read: {type(error).__name__}: {error}.") from error


def _write(group: "zarr.Group", name: str, values: NDArray[Any], dims: tuple[str, ...], unit: str) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(CHUNK, *values.shape[1:]),
        shards=(SHARD, *values.shape[1:]),
        compressors=compressors("lz4", values.dtype),
        # No chunk consists of -1 only, so none is left out; in pictures, chunks of zeros are.
        fill_value=0 if values.dtype.kind == "u" else -1,
        dimension_names=dims,
        attributes={"unit": unit},
    )
    for start in range(0, len(values), SHARD):
        array[start : start + SHARD] = np.asarray(values[start : start + SHARD])


def _damaged(path: Path, problem: str) -> BadInput:
    return BadInput("damaged_array", str(path), problem, "remove the folder and run the night again.")
