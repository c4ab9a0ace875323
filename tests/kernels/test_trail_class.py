import numpy as np

from kernels.candidates import Candidate
from kernels.psf import moffat_mixture
from kernels.segment import Segment
from kernels.trail_class import classify

MASK = np.zeros((600, 600), np.uint16)


def classes(*candidates):
    return classify(candidates, MASK, 250.0, moffat_mixture(2.3, 3.0), 2.3)


def candidate(x, y, length, angle=0.0, snr=20.0, logits=(1.0,), flashes=False):
    return Candidate(Segment(x, y, length, angle, snr), logits, flashes)


def test_long_trails_flashes_and_the_rest():
    found = classes(
        candidate(300, 300, 400), candidate(300, 100, 90), candidate(300, 500, 350, flashes=True), candidate(9, 9, 0)
    )
    assert {one.candidate.trail.y: one.trail_class for one in found} == {
        300: "satellite", 500: "glint_trail", 100: "", 9: ""
    }  # fmt: skip
    assert all((one.half_width > 0) == (one.trail_class != "") for one in found)


def test_a_satellite_takes_what_lies_in_its_light_with_its_hits():
    bright = candidate(300, 300, 400, snr=3000.0, logits=(5.0,))
    found = classes(bright, candidate(280, 305, 4, snr=9.0, logits=(2.0, 3.0)), candidate(300, 330, 20))
    satellite, other = found
    assert sorted(satellite.candidate.logits) == [2, 3, 5]
    assert (other.candidate.trail.y, other.trail_class) == (330, "")


def test_what_crosses_it_stays():
    found = classes(candidate(300, 300, 400, snr=300.0), candidate(300, 300, 40, angle=70.0))
    assert len(found) == 2
