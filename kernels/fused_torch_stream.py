"""Search of many images in host memory on a torch device, copying and searching at the same time."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from traceback import clear_frames
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.fused_torch import TorchSearch, host_tensor

SLOTS = 3
"""Images on their way: one is filled from pageable memory, one is copied to the device, one is searched."""


@dataclass(frozen=True)
class HostImage:
    """An image, or a tile of one, in host memory; see `TorchSearch.search` for the fields."""

    image: NDArray[np.float32]
    usable: NDArray[np.bool_]
    background: float
    grid: tuple[int, int]


@dataclass(frozen=True)
class ImageHits:
    """Windows of an image that reach the floor.

    Parameters
    ----------
    index : (n,) int64
        Their numbers, ascending.
    logit : (n,) float32
        Their log odds.
    unscored
        Windows that could not be scored.
    """

    index: NDArray[np.int64]
    logit: NDArray[np.float32]
    unscored: int


class _Slot:
    """Page-locked memory, its twin on the device, and what has happened to both."""

    def __init__(self, device: torch.device, pixels: int, area: int) -> None:
        gpu = device.type == "cuda"
        module = torch.get_device_module(device)
        self.host: tuple[torch.Tensor, ...] = (
            torch.empty(pixels, pin_memory=gpu),
            torch.empty(area, dtype=torch.bool, pin_memory=gpu),
        )
        self.device: tuple[torch.Tensor, ...] = (
            torch.empty(pixels, device=device),
            torch.empty(area, dtype=torch.bool, device=device),
        )
        self.copied, self.searched = module.Event(), module.Event()

    def drop(self) -> None:
        """Let go of the memory, whoever still holds the slot."""
        self.host = self.device = ()


class TorchStream:
    """Searches images one after the other while the next ones are read and copied.

    A context manager: at its end a search that still runs is stopped, and the memory of the host and of the device is
    given back, after an error, too. One search at a time, from one thread.

    Parameters
    ----------
    search
        What scores them. Only hits at or above its ``floor`` come back, all scored windows if it has none.
    stride
        Step between windows, pixels.
    largest
        (bands, ny, nx) that no image exceeds in number of pixels.

    Examples
    --------
    >>> with TorchStream(search, stride=7, largest=(1, 4072, 4000)) as stream:  # doctest: +SKIP
    ...     for hits in stream.search(images):
    ...         print(len(hits.index))

    Notes
    -----
    A thread takes the images from their iterator, so that reading overlaps with the search, fills page-locked memory
    with them and starts the copies in a stream of its own; events tell both streams when a slot is theirs. The search
    stays in the caller's current stream: the matrix library keeps a workspace for each stream that it has ever seen.
    """

    def __init__(self, search: TorchSearch, stride: int, largest: tuple[int, int, int]) -> None:
        self._search, self._stride = search, stride
        self._module = torch.get_device_module(search.device)
        self._copying = self._module.Stream(search.device)
        bands, ny, nx = largest
        self._slots = [_Slot(search.device, bands * ny * nx, ny * nx) for _ in range(SLOTS)]
        self._open = True
        self._reader: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)
        self._module.synchronize(self._search.device)
        for slot in self._slots:
            slot.drop()
        if self._search.device.type == "cuda":
            _empty_caches()

    def search(self, images: Iterable[HostImage]) -> Iterator[ImageHits]:
        """Give the hits of each image, in order.

        Raises
        ------
        RuntimeError
            The stream is closed, or its last search has neither ended nor been closed.
        Exception
            Whatever the iterator of the images raises.
        """
        self._require_open()
        return self._run(iter(images))

    def _run(self, source: Iterator[HostImage]) -> Iterator[ImageHits]:
        self._require_open()
        if self._reader is not None:
            raise RuntimeError("this stream is searching already: let that search end, or close it")
        reader = self._reader = ThreadPoolExecutor(1)
        try:
            loads: deque[Future[tuple[_Slot, HostImage] | None]] = deque(
                reader.submit(self._load, source, slot) for slot in self._slots
            )
            while loads:
                loaded = loads.popleft().result()
                if loaded is None:
                    continue
                hits = self._hits(*loaded)
                loads.append(reader.submit(self._load, source, loaded[0]))
                yield hits
                self._require_open()
        except BaseException as error:
            clear_frames(error.__traceback__)  # they hold tensors for as long as somebody holds the error
            raise
        finally:
            reader.shutdown(cancel_futures=True)
            self._reader = None

    def _require_open(self) -> None:
        if not self._open:
            raise RuntimeError("this stream is closed: search, and use up what the search gives, inside its with block")

    def _load(self, source: Iterator[HostImage], slot: _Slot) -> tuple[_Slot, HostImage] | None:
        """Read the next image and start its copy to the device. In the reader's thread."""
        image = next(source, None)
        if image is None:
            return None
        slot.copied.synchronize()
        with self._module.stream(self._copying):
            self._copying.wait_event(slot.searched)
            for values, host, device in zip((image.image, image.usable), slot.host, slot.device, strict=True):
                host[: values.size].copy_(host_tensor(values).reshape(-1))
                device[: values.size].copy_(host[: values.size], non_blocking=True)
            slot.copied.record(self._copying)
        return slot, image

    @torch.inference_mode()
    def _hits(self, slot: _Slot, host: HostImage) -> ImageHits:
        """Search what lies in the slot; only hits leave the device."""
        current = self._module.current_stream(self._search.device)
        slot.copied.wait(current)
        image, usable = (
            flat[: values.size].view(values.shape)
            for flat, values in zip(slot.device, (host.image, host.usable), strict=True)
        )
        logits = self._search.score(image, usable, host.background, host.grid, self._stride)
        slot.searched.record(current)
        floor = self._search.floor
        index = (logits > -torch.inf if floor is None else logits >= floor).nonzero()[:, 0]
        unscored = int(torch.isneginf(logits).sum())
        return ImageHits(index.cpu().numpy(), logits[index].cpu().numpy(), unscored)


def _empty_caches() -> None:
    """Give back what torch keeps for later, on the device and page-locked on the host."""
    torch.cuda.empty_cache()
    if hasattr(torch.accelerator, "empty_host_cache"):
        torch.accelerator.empty_host_cache()
    else:  # the only way before it had a public name
        torch._C._host_emptyCache()
