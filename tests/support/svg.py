"""Reading charts: what they show is read off their own ticks."""

import numpy as np
import pytest


def scales(svg):
    """Functions from places on the drawing to values, across and upward, by the ticks at its edges."""
    ticks = [one for one in svg.iter("text") if one.get("class") == "tick"]
    left = [one for one in ticks if one.get("text-anchor") == "end"]
    below = [one for one in ticks if one.get("text-anchor") == "middle"]
    lines = [float(one.get("y1")) for one in svg.iter("line") if one.get("class") == "grid"]
    assert [float(one.get("y")) for one in left] == pytest.approx([one + 4 for one in lines], abs=0.06)
    found = []
    for places, texts in (([float(one.get("x")) for one in below], below), (lines, left)):
        values = [float(one.text.replace(",", "")) for one in texts]
        assert len(values) >= 2
        found.append(np.poly1d(np.polyfit(places, values, 1)))
    return found


def frame(svg):
    """Edges of the drawing: left, right, and the y of its base."""
    (base,) = (one for one in svg.iter("line") if one.get("class") == "base")
    assert base.get("y1") == base.get("y2")
    return float(base.get("x1")), float(base.get("x2")), float(base.get("y1"))
