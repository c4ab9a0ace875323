"""Light curves as astropy tables, and how they look in a notebook."""

from base64 import b64encode
from io import BytesIO

import numpy as np
from astropy.table import QTable

_SHOWN = ("time", "band", "flux", "fluxErr")


class LightCurve(QTable):
    """Light curve by time: an astropy `QTable`, which a notebook shows with a picture of the fluxes in each band.

    ``meta["of"]`` says what it is of (object, tracklet or detection), ``meta["id"]`` of which. The picture needs the
    columns ``time``, ``band``, ``flux`` and ``fluxErr``, and a flux that is known.
    """

    def _repr_html_(self) -> str:
        table: str = super()._repr_html_()
        picture = self._repr_png_()
        if picture is None:
            return table
        return f'<img alt="{self._told()}" src="data:image/png;base64,{b64encode(picture).decode()}"/>{table}'

    def _repr_png_(self) -> bytes | None:
        if not set(_SHOWN) <= set(self.colnames) or not np.isfinite(self["flux"].value).any():
            return None
        from matplotlib.figure import Figure  # takes as long to import as all the rest

        figure = Figure(figsize=(6.4, 3), dpi=100, layout="constrained")
        axes = figure.add_subplot(xlabel="MJD (TAI)", ylabel="flux (nJy)", title=self._told())
        axes.ticklabel_format(axis="x", useOffset=False)
        bands = np.asarray(self["band"]).astype(str)
        for band in sorted(set(bands)):
            own = bands == band
            flux, error = (self[name].value[own] for name in ("flux", "fluxErr"))
            axes.errorbar(self["time"].mjd[own], flux, np.nan_to_num(error), fmt="o", ms=4, label=band)
        axes.legend(title="band")
        axes.grid(alpha=0.3)
        file = BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()

    def _told(self) -> str:
        return f"{self.meta.get('of', 'detections')} {self.meta.get('id', '')}".strip()
