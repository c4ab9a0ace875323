"""Map of detections on the sky, for notebooks."""

import numpy as np
import pyarrow as pa

from flows.results.catalogue_rows import RowSource
from flows.results.page.axes import Axis, value_axis
from flows.results.page.scatter import Dots, scatter_chart
from flows.runtime.words import counted

MOST = 2000
"""Largest number of detections drawn."""

CERTAIN = 0.5
"""Minimum reliability of a detection drawn in colour."""

_STYLE = """<style>.ns-sky {max-width: 32em} .ns-sky text {fill: currentColor; font: 13px sans-serif}
.ns-sky line {stroke: currentColor; stroke-opacity: .3} .ns-sky .dots {stroke-width: 4; stroke-linecap: round}
.ns-sky .rest {stroke: currentColor; stroke-opacity: .3} .ns-sky .sure {stroke: #d9730d}</style>"""


def sky_picture(rows: RowSource) -> str:
    """Return a map of detections in right ascension and declination as inline SVG; "" if none has a position.

    North is up, east to the left; the scales of both axes differ.

    Parameters
    ----------
    rows
        Rows of `dia_source`; only the first `MOST` are drawn.
    """
    read = rows.read(["ra", "dec", "reliability"], None, MOST + 1)
    found = read[:MOST].filter(read[:MOST]["ra"].is_valid())
    if not len(found):
        return ""
    ra, dec, reliability = (_numbers(found, name) for name in found.schema.names)
    middle = np.degrees(np.angle(np.exp(1j * np.radians(ra)).sum())) % 360
    ra = middle + (ra - middle + 180) % 360 - 180  # keep a field around 0 h together
    east, upward = value_axis("RA, deg", ra.tolist()), value_axis("Dec, deg", dec.tolist())
    sure = reliability >= CERTAIN
    dots = [Dots(style, ra[chosen], dec[chosen]) for style, chosen in (("rest", ~sure), ("sure", sure))]
    told = f"{counted(len(found), 'detection')} on the sky"
    chart = scatter_chart(Axis(east.name, east.high, east.low), upward, dots, told)
    first = f", of the first {MOST:,}" if len(read) > MOST else ""
    return f'{_STYLE}<div class="ns-sky">{chart}<p>{told}{first}; in colour: reliability {CERTAIN} and more.</p></div>'


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table[name].to_numpy(), np.float64)
