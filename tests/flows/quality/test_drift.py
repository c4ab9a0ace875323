import numpy as np
import pytest

from benchmarks.drift_alarms import alarms
from benchmarks.drift_alarms import night as ordinary
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


def test_nights_without_a_feature_are_not_nights_to_compare_it_with():
    """Of 20 nights 13 have a value of S/N: too few; 14 are enough."""
    rng = np.random.default_rng(5)
    now, full = night(rng, n=40), [night(rng, n=40) for _ in range(20)]

    def lacking(one):
        sketches = (one.sketches[0], Sketch(feature="snr", counts=()))
        return one.model_copy(update={"sketches": sketches})

    for lacks, verdict in ((7, "no_history"), (6, "pass"), (20, "no_history")):
        judged = found(now, [lacking(one) for one in full[:lacks]] + full[lacks:])
        assert (judged["snr"].verdict, judged["reliability"].verdict) == (verdict, "pass")
        assert "20 earlier nights" in found(night(rng, 2.0), full)["reliability"].problem


@pytest.mark.parametrize(("detections", "shift"), [(10, 3.0), (20, 2.0), (40, 1.5)])
def test_ordinary_nights_do_not_warn_and_a_drift_in_few_detections_does(detections, shift):
    assert alarms(detections, 0.0, 0.2, 20, 1)[1] <= 1
    warned, _, without = alarms(detections, shift, 0.0, 20, 2)
    assert warned >= 16
    assert without == 0


def test_where_no_drift_could_be_told_there_is_no_verdict():
    rng = np.random.default_rng(6)
    reference = [ordinary(rng, 40) for _ in range(20)]
    few = ordinary(rng, 3, shift=4.0)
    assert {one.verdict for one in drifts(few, reference, SETTINGS)} == {"no_history"}
    wild = [ordinary(rng, 200, 0.0, 2.0) for _ in range(20)]
    assert {one.verdict for one in drifts(ordinary(rng, 200), wild, SETTINGS)} == {"no_history"}


def test_features_of_earlier_versions_are_passed_over():
    rng = np.random.default_rng(7)
    old = Sketch(feature="noise", counts=((300, 9),))
    reference = [night(rng).model_copy(update={"sketches": (old,)})] * 20
    assert drifts(reference[0], reference, SETTINGS) == ()
