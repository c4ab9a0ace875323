from dataclasses import replace

from flows.report.causes import CauseRow, cause_rows, cause_words, refused_words
from flows.report.night import read_night
from kernels.vetoes.counts import count_causes
from schemas.cause_count import CauseCount

COUNTS = {
    "spike": CauseCount(refused=1200, published=1),
    "bleed": CauseCount(),
    "cosmic_ray": CauseCount(refused=3),
    "satellite": CauseCount(published=2),
}


def test_night_sums_its_exposures_and_leaves_out_what_did_not_occur(kit, tmp_path):
    kit.night(tmp_path, visits=3)
    night = read_night(tmp_path, kit.NIGHT, None)
    exposures = tuple(
        replace(one, record=one.record.model_copy(update={"causes": COUNTS})) for one in night.exposures[:2]
    )
    assert cause_rows(replace(night, exposures=exposures)) == (
        CauseRow("diffraction spike", "2,400", "2"),
        CauseRow("cosmic ray", "6", "0"),
        CauseRow("satellite", "0", "4"),
    )


def test_a_line_names_what_was_refused():
    assert refused_words(COUNTS) == "diffraction spike 1,200, cosmic ray 3"
    assert refused_words({}) == "–"


def test_every_cause_that_is_counted_has_words():
    import numpy as np

    for name in count_causes(np.zeros(0, int), np.zeros(0, bool)):
        assert cause_words(name)
    assert cause_words("a_later_cause") == "a later cause"
