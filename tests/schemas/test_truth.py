import pyarrow.compute as pc

from flows.simulation.exposure import simulate_exposure
from flows.simulation.presets import find_preset
from schemas.objects import BANDS
from schemas.truth import TRUTH, TRUTH_OBJECT


def test_simulator_fills_it_within_the_stated_ranges():
    truth = simulate_exposure(find_preset("ztf", 10, (300, 320)), 1).truth
    TRUTH.check(truth)
    assert set(truth["kind"].to_pylist()) <= {"streak", "point", "satellite"}
    streaks = truth.filter(pc.field("kind") == "streak")
    assert len(streaks) == 10
    assert 0 <= pc.min(truth["visible"]).as_py() <= pc.max(truth["visible"]).as_py() <= 1
    assert 0 <= pc.min(truth["angle_deg"]).as_py() < pc.max(truth["angle_deg"]).as_py() < 180
    assert pc.min(streaks["length_px"]).as_py() >= 1


def test_has_a_magnitude_in_every_band_that_objects_have():
    assert [name.removesuffix("_mag") for name in TRUTH_OBJECT.schema.names if name.endswith("_mag")] == list(BANDS)
