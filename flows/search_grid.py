"""Where the search of a run puts its scores."""

from flows.adapters.weights import read_card
from schemas.search_grid import SearchGrid
from schemas.settings import DetectSettings


def search_grid(settings: DetectSettings) -> SearchGrid:
    """Give the grid of the detector that the settings name: its card's, or, of a search of windows, the settings' own.

    Raises
    ------
    Misconfigured
        There is no such detector.
    """
    own = read_card("detect", settings.model).input.get("grid")
    return SearchGrid(settings.window, settings.stride, 0, settings.window) if own is None else SearchGrid(**own)
