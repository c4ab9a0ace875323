"""Light curves as astropy tables, with pictures for notebooks."""

from html import escape

import numpy as np
from astropy.table import QTable
from astropy.time import Time
from astropy.units import Quantity

from flows.results.page.picture import figure_uri

_DRAWN = ("time", "band", "flux", "fluxErr")


class LightCurve(QTable):
    """Light curve by time: an astropy `QTable`, which a notebook shows with a plot of the fluxes in each band.

    ``meta["of"]`` is what was measured (object, tracklet or detection), and ``meta["id"]`` is its id. The plot needs
    the columns ``time``, ``band``, ``flux`` and ``fluxErr`` with their units, and at least one known flux.
    """

    def _repr_html_(self) -> str:
        table: str = super()._repr_html_()
        picture = self._picture()
        if picture is None:
            return table
        return f'<img alt="{escape(self._told())}" src="{picture}"/>{table}'

    def _picture(self) -> str | None:
        """Return the fluxes against time, as a PNG in a ``data:`` URL; None if there is nothing to draw."""
        if not set(_DRAWN) <= set(self.colnames) or not isinstance(self["time"], Time):
            return None
        flux, error = self["flux"], self["fluxErr"]
        if not (isinstance(flux, Quantity) and isinstance(error, Quantity)) or not np.isfinite(flux.value).any():
            return None
        from matplotlib.figure import Figure  # slow to import

        figure = Figure(figsize=(6.4, 3), dpi=100, layout="constrained")
        first = int(np.floor(self["time"].mjd.min()))
        days = f"days after MJD {first} ({self['time'].scale.upper()})"
        axes = figure.add_subplot(xlabel=days, ylabel=f"flux ({flux.unit})", title=self._told())
        bands = np.asarray(self["band"]).astype(str)
        bars = np.maximum(np.nan_to_num(error.to_value(flux.unit)), 0)
        for band in sorted(set(bands)):
            own = bands == band
            axes.errorbar(self["time"].mjd[own] - first, flux.value[own], bars[own], fmt="o", ms=4, label=band)
        axes.legend(title="band")
        axes.grid(alpha=0.3)
        return figure_uri(figure)

    def _told(self) -> str:
        return f"{self.meta.get('of', 'detections')} {self.meta.get('id', '')}".strip()
