"""Nights of bodies on orbits about the Sun among false detections, published without pixels."""

import numpy as np

from benchmarks.motion.linking import several_nights
from kernels.sky.times import night_label
from tests.support.ades import publish_rows
from tests.support.tracklets import place, source_id

OBSCODE = "I41"


def night_rows():
    """Rows of `dia_source` of three nights of two visits, by night, and the body of each id; -1: none."""
    ra, dec, mjd, owner = several_nights(np.random.default_rng(7), 12, 0.5, side=3.0)
    rows, bodies = {}, {}
    for visit, moment in enumerate(sorted(set(mjd))):
        here = np.flatnonzero(mjd == moment)
        ids = [source_id(visit, 5, rank) for rank in range(len(here))]
        bodies |= dict(zip(ids, owner[here].tolist(), strict=True))
        rows.setdefault(night_label(moment, -116.86), []).extend(
            place(ra[n], dec[n], 0, midpointMjdTai=mjd[n], diaSourceId=one, trailLength=None)
            for n, one in zip(here, ids, strict=True)
        )
    return {night: rows[night] for night in sorted(rows)[:3]}, bodies


def publish_nights(out):
    """Publish them; return their rows by night."""
    rows, _ = night_rows()
    for night, own in rows.items():
        publish_rows(out, own, night=night)
    return rows
