import numpy as np

from flows.bench.catalogue import catalogue_of, hits_of
from flows.bench.plain_way import plain_logits
from flows.bench.shipped_net import shipped_net
from schemas.dia_source import DIA_SOURCE


def test_hits_reach_the_threshold():
    logits = np.array([-np.inf, 0.5, 1.0, 2.0, 0.9, 1.5], np.float32)
    hits = hits_of(logits, columns=3, threshold=1.0)
    assert hits.to_pydict() == {"row": [0, 1, 1], "column": [2, 0, 2], "logit": [1.0, 2.0, 1.5]}


def test_bright_streaks_end_in_the_catalogue():
    from tests.flows.bench.bench_support import small_exposure

    exposure, (net, card) = small_exposure(), shipped_net()
    floor = float(np.log(card.threshold / (1 - card.threshold)))
    found = catalogue_of(exposure, plain_logits(exposure.pixels, net), floor)
    assert found.schema.equals(DIA_SOURCE.schema)
    assert len(found) > 3
    nothing = catalogue_of(exposure, np.full(exposure.pixels.grid[0] * exposure.pixels.grid[1], -9, np.float32), floor)
    assert len(nothing) == 0
