import heapq
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.scale.capacity_model import SURVEYS, Constants, constants, flow_bytes, need, worker_bytes, workers_for
from benchmarks.speed.exposure_cost import exposure_costs
from flows.nights.nightly import LEAST_TASKS
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from schemas.settings import Settings

BYTES_FACTOR, SECONDS_FACTOR = 1.3, 5.0
"""Within which the model is held to agree with a run, either way."""

LINES = {name: {"fixed": 1.0, "per_pixel": 2.0} for name in ("plan", "store", "search", "finish", "book")}
LINES |= {name: {"fixed": 1000.0, "per_pixel": 4.0} for name in ("input", "tiles", "catalogues", "ledger")}
KNOWN = Constants(LINES, 10.0, {"scheduler": 3.0, "flow": 20.0}, {"flow": 8.0})


def within(found, told, factor):
    return told / factor <= found <= told * factor


def test_an_exposure_is_a_line_in_its_pixels():
    found = need((100, 200), KNOWN, Settings())
    assert found.seconds["store"] == 1 + 2 * 20_000
    assert found.bytes["tiles"] == 1000 + 4 * 20_000
    assert found.flop == 200_000
    assert found.worker_s == 3 * found.seconds["store"]


def test_an_exposure_of_either_survey_is_one_task_of_many_and_six_of_few():
    for survey in SURVEYS.values():
        counts = [sum(need(survey.shape, KNOWN, Settings(), searches).tasks.values()) for searches in (1, LEAST_TASKS)]
        assert counts == [1, 6]


@pytest.mark.parametrize("within_s", [20, 60, 300])
def test_so_many_workers_are_enough_whatever_the_order(within_s):
    """By list scheduling of whole exposures in a thousand orders, with times that scatter about the mean."""
    survey = SURVEYS["ztf"]
    found = replace(
        need((1, 1), KNOWN, Settings()), seconds={"store": 2.0, "search": 4.0, "finish": 3.0}, tasks={"search": 1}
    )
    count = workers_for(survey, found, within_s)
    rng = np.random.default_rng(5)
    for _ in range(1000):
        spread = rng.uniform(0.0, 9.0, survey.detectors)
        times = np.minimum(spread * 9 / spread.mean(), 9.0)
        free = [0.0] * count
        for time in times:
            heapq.heapreplace(free, free[0] + time)
        assert max(free) <= within_s


def test_more_time_never_takes_more_workers_and_the_next_visit_waits_for_none():
    survey = SURVEYS["rubin"]
    found = replace(
        need((1, 1), KNOWN, Settings()), seconds={"store": 2.0, "search": 4.0, "finish": 3.0}, tasks={"search": 4}
    )
    counts = [workers_for(survey, found, seconds) for seconds in (7, 10, 30, 60, 10_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == int(np.ceil(189 * 9 / survey.cadence_s))
    assert workers_for(survey, found, found.path_s) is None
    assert workers_for(survey, replace(found, flow_s=1.0), 60) is None


def test_memory_grows_with_the_exposures_only_where_it_was_found_to():
    assert flow_bytes(1000, KNOWN) - flow_bytes(0, KNOWN) == 1000 * 8 * 1024
    assert worker_bytes((4000, 4072), 0, Settings()) > worker_bytes((3080, 3072), 0, Settings())


@pytest.mark.slow
def test_the_model_tells_what_an_exposure_takes(tmp_path):
    """Of a size that none of the constants was measured on, through all that workers and flow do with it."""
    simulate_night(SimulatedNight(find_preset("rubin", 3, (400, 400)), 31, 2, 1, tmp_path / "raw", science=False))
    told = need((400, 400), constants("rubin", science=False), Settings())
    _, cost = exposure_costs(tmp_path / "raw", tmp_path / "out", Settings())  # the first one compiles
    for name, size in told.bytes.items():
        assert within(cost[name], size, BYTES_FACTOR), name
    assert within(cost["store"] + cost["search"] + cost["finish"], told.worker_s, SECONDS_FACTOR)
