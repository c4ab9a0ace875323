"""Log odds of every window of an image from the fused search, on the CPU."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kernels.search.fused_features import crop_features, window_features
from kernels.search.fused_net import Dense, FusedNet, Layers, WindowGrid, layers_of
from kernels.search.linear_chain import LinearChain, Precision
from kernels.search.window_statistics import window_statistics
from kernels.search.windows import MARGIN, require_on_image


@dataclass(frozen=True)
class Screen:
    """Small network that approximates the linear layers of a window network.

    Parameters
    ----------
    layers
        Linear layers with ReLU between them, from the features of a window to an estimate of its log odds.
    level
        Least estimate of windows that are passed to the whole network. It is at most the log odds of a hit, so an
        estimate below it is not a hit.
    batch
        Windows per batch.
    """

    layers: tuple[Dense, ...]
    level: float
    batch: int = 4096

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the estimated log odds of each row of (n, features) float32, (n,) float32.

        An estimate does not depend, to the bit, on the other rows.
        """
        return self._chain(features)

    @cached_property
    def _chain(self) -> LinearChain:
        return LinearChain(self.layers, "float32", self.batch)


def screen_arrays(layers: tuple[Dense, ...]) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a screen's layers by name, for storage."""
    return {
        f"{kind}{n}": values
        for n, layer in enumerate(layers)
        for kind, values in (("weight", layer.weight), ("bias", layer.bias))
    }


def screen_layers(arrays: dict[str, NDArray[np.float32]]) -> tuple[Dense, ...]:
    """Return the layers of a screen from their arrays; the inverse of `screen_arrays`."""
    return tuple(Dense(arrays[f"weight{n}"].copy(), arrays[f"bias{n}"].copy()) for n in range(len(arrays) // 2))


SLAB = 65536
"""Number of windows whose features are held at once."""


@dataclass(frozen=True)
class FusedSearch:
    """Search of all windows of an image, without cutting windows out.

    Parameters
    ----------
    net
        Layers of the network.
    precision
        Precision of the linear layers; everything before them is float32.
    floor
        Log odds of a hit. In bfloat16, windows that reach ``floor - MARGIN`` are recomputed in float32, so that hits
        and their log odds are those of float32; without a floor none are.
    batch
        Windows per call of the linear layers.
    screen
        Screen that rejects windows far below the floor. The remaining windows are computed in float32, whatever the
        precision; the log odds of rejected windows are the screen's estimates, which are below its level.
    """

    net: FusedNet
    precision: Precision = "float32"
    floor: float | None = None
    batch: int = 1024
    screen: Screen | None = None

    def search(
        self,
        image: NDArray[np.float32],
        usable: NDArray[np.bool_],
        background: float,
        grid: tuple[int, int],
        stride: int,
    ) -> tuple[NDArray[np.float32], int]:
        """Return the log odds of every window, and the number of windows without a score.

        Parameters
        ----------
        image : (bands, ny, nx) float32
            Pixels, any unit; values under ``~usable`` and non-finite values do not count.
        usable : (ny, nx) bool
            Pixels that count, the same for all bands.
        background
            Value that replaces pixels that do not count, in the unit of ``image``. Sums are taken relative to it.
        grid
            Rows and columns of windows; window n starts at pixel (n // columns * stride, n % columns * stride).
        stride
            Step between windows, pixels.

        Returns
        -------
        logits : (rows * columns,) float32
            -inf for windows that are more than half unusable or, in any band, without spread.
        unscored : int
            Number of such windows.

        Raises
        ------
        ValueError
            The windows of the grid do not lie on the image.

        Notes
        -----
        A window's log odds do not depend, to the bit, on the image around it, on its position in a batch, or on the
        number of threads.
        """
        require_on_image(image.shape, grid, stride, self.net.side)
        logits = np.empty(grid[0] * grid[1], np.float32)
        tall = max(1, SLAB // max(1, grid[1]))
        unscored = 0
        for row in range(0, grid[0], tall):
            rows = min(tall, grid[0] - row)
            part = slice(row * stride, (row + rows - 1) * stride + self.net.side)
            features, scored = self.features(image[:, part], usable[part], background, (rows, grid[1]), stride)
            found = self.log_odds(features)
            found[~scored] = -np.inf
            logits[row * grid[1] : (row + rows) * grid[1]] = found
            unscored += int((~scored).sum())
        return logits, unscored

    def features(
        self,
        image: NDArray[np.float32],
        usable: NDArray[np.bool_],
        background: float,
        grid: tuple[int, int],
        stride: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the input of the linear layers, (windows, features) float32, and which windows are scored, (windows,).

        Parameters are those of `search`. Features of windows that are not scored have no meaning.
        """
        image, usable = np.ascontiguousarray(image), usable & np.isfinite(image).all(0)
        statistics = window_statistics(image, usable, background, grid, stride, self.net.side)
        windows = WindowGrid(image, usable, np.float32(background), statistics.mean, statistics.inverse, stride)
        features = window_features(windows, self._convolutions)
        far = np.argwhere(statistics.far)
        if len(far):
            crops = _crops(windows, far, self.net.side)
            features[far[:, 0] * grid[1] + far[:, 1]] = crop_features(crops, self._convolutions)
        return features, statistics.scored.ravel()

    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log odds of each row of features, (n, features) -> (n,) float32."""
        if self.screen is not None:
            logits = self.screen(features)
            passed = np.flatnonzero(logits >= self.screen.level)
            logits[passed] = self._exact(features[passed])
            return logits
        logits = self._chain(features)
        if self.precision == "bfloat16" and self.floor is not None:
            near = np.flatnonzero(logits >= self.floor - MARGIN)
            logits[near] = self._exact(features[near])
        return logits

    @cached_property
    def _convolutions(self) -> Layers:
        return layers_of(self.net)

    @cached_property
    def _chain(self) -> LinearChain:
        return LinearChain((*self.net.hidden, self.net.last), self.precision, self.batch)

    @cached_property
    def _exact(self) -> LinearChain:
        return replace(self._chain, precision="float32")


def _crops(windows: WindowGrid, corners: NDArray[np.int64], side: int) -> NDArray[np.float32]:
    """Return z-scored cutouts of windows, computed in float64, (n, bands, side, side)."""
    crops = np.empty((len(corners), len(windows.image), side, side), np.float32)
    background = np.float64(windows.background)
    for crop, (row, column) in zip(crops, corners, strict=True):
        box = (slice(row * windows.stride, row * windows.stride + side),
               slice(column * windows.stride, column * windows.stride + side))  # fmt: skip
        pixels = windows.image[:, *box].astype(np.float64)
        filled = np.where(windows.usable[box], pixels, background) - background
        mean, inverse = windows.mean[:, row, column, None, None], windows.inverse[:, row, column, None, None]
        crop[:] = (filled - mean) * inverse
    return crops
