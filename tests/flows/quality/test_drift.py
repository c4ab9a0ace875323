import numpy as np

from flows.quality.drift import drifts
from kernels.feature_bins import FEATURES
from schemas.quality import BandMeasures, Sketch
from schemas.quality_settings import QualitySettings

SETTINGS = QualitySettings()


def night(rng, centre=0.0, n=1500):
    """Reliability drawn about a place that moves; S/N that does not."""
    values = {"reliability": 1 / (1 + np.exp(-rng.normal(1 + centre, 1, n))), "snr": 5 * rng.lognormal(0.5, 0.5, n)}
    sketches = []
    for name, drawn in values.items():
        counts = FEATURES[name].histogram(drawn)
        sketches.append(Sketch(feature=name, counts=tuple((int(k), int(counts[k])) for k in np.flatnonzero(counts))))
    return BandMeasures(
        instrument="ZTF", band="r", exposures=9, search="s", models=(), measures=(), sketches=tuple(sketches)
    )


def found(now, reference):
    return {one.feature: one for one in drifts(now, reference, SETTINGS)}


def test_what_moves_is_named_and_what_does_not_is_not():
    rng = np.random.default_rng(1)
    judged = found(night(rng, 0.8), [night(rng) for _ in range(20)])
    assert (judged["reliability"].verdict, judged["snr"].verdict) == ("warn", "pass")
    assert "20 earlier nights" in judged["reliability"].problem


def test_equal_nights_do_not_drift():
    rng = np.random.default_rng(2)
    reference = [night(rng) for _ in range(20)]
    assert not any(one.verdict == "warn" for _ in range(50) for one in drifts(night(rng), reference, SETTINGS))


def test_nights_that_always_move_do_not_drift():
    rng = np.random.default_rng(3)
    reference = [night(rng, rng.normal(0, 0.6)) for _ in range(30)]
    alarms = [found(night(rng, rng.normal(0, 0.6)), reference)["reliability"].verdict == "warn" for _ in range(50)]
    assert np.mean(alarms) <= 0.1


def test_few_nights_or_values_are_no_history():
    rng = np.random.default_rng(4)
    assert {one.verdict for one in drifts(night(rng, 2.0), [night(rng)] * 13, SETTINGS)} == {"no_history"}
    empty = night(rng).model_copy(update={"sketches": (Sketch(feature="snr", counts=()),)})
    assert drifts(empty, [night(rng)] * 20, SETTINGS) == ()
