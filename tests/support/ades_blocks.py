"""A block of a report with all elements that ours can have."""

from dataclasses import replace

from flows.publish.ades_record import AdesContext, Reduction, ades_observation
from kernels.orbits.designations import Designation
from schemas.ades import AdesTelescope
from tests.support.ades import measured
from tests.support.tracklets import place, source_id

CONTEXT = AdesContext(
    "I41", "A. Sender", ("B. Measurer", "C. Other"), AdesTelescope(design="Schmidt", aperture=1.22, detector="CCD"),
    institution="An <Institute> & Co.", observers=("D. Observer",), funding_source="Nobody", comments=("One.", "Two."),
)  # fmt: skip
REDUCTION = Reduction("I41", "CCD", "Gaia2", "PS1_DR1", {"r": "Pr"}, 2.2)


def block(changes=None):
    """Header and observations: three of a tracklet, of which the second may be changed, and two known objects."""
    named = [*[Designation()] * 3, Designation(permanent="433"), Designation(provisional="2014 AA360")]
    rows = []
    for n, one in enumerate(named):
        row = place(150.0 + 0.01 * n, 20.0, n) | measured(trailLength=9.0, trailAngle=30.0)
        row |= {"diaSourceId": source_id(100 + n, 5, 0), "visit": 100 + n, "detector": 5, "trailClass": ""}
        rows.append(ades_observation(row, one, "N000001" if n < 3 else f"N00000{n}", REDUCTION))
    rows[1] = replace(rows[1], **(changes or {}))
    return CONTEXT, rows
