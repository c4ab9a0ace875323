import numpy as np

from kernels.vetoes.counts import COUNTED, count_causes
from schemas.cause_count import CauseCount
from schemas.dia_source import DetectionFlag as Flag


def test_one_with_two_flags_counts_under_both_and_others_not_at_all():
    flags = np.array([Flag.SPIKE | Flag.BLEED, Flag.SPIKE, Flag.MASKED | Flag.SATELLITE, Flag.SPIKE, 0])
    counts = count_causes(flags, np.array([False, True, True, False, False]))
    assert counts["spike"] == CauseCount(refused=2, published=1)
    assert counts["bleed"] == CauseCount(refused=1)
    assert counts["satellite"] == CauseCount(published=1)
    assert counts["cosmic_ray"] == CauseCount()
    assert len(counts) == len(COUNTED)


def test_without_candidates_all_is_zero():
    assert set(count_causes(np.empty(0, np.int32), np.empty(0, bool)).values()) == {CauseCount()}
