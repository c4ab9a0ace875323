from itertools import product

import numpy as np
import pytest

from benchmarks.guard.drift_alarms import alarms
from benchmarks.guard.drift_alarms import night as ordinary
from flows.results.quality.judge import OUT_OF_REACH, drifts, gates, judge, told
from kernels.statistics.drift import FEATURES
from schemas.quality import BandMeasures, Measure, QualityRecord, QualitySettings, Sketch

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


def sharply_moved():
    rng = np.random.default_rng(8)
    return night(rng, 2.0), [night(rng) for _ in range(20)]


def test_a_drift_is_large_from_the_least_index_on():
    now, reference = sharply_moved()
    psi = found(now, reference)["reliability"].psi
    for least, verdict in ((psi, "warn"), (np.nextafter(psi, 9), "pass")):
        (judged, _) = drifts(now, reference, QualitySettings(drift_psi=least))
        assert judged.verdict == verdict


def test_a_drift_is_farther_than_what_is_usual(monkeypatch):
    now, reference = sharply_moved()
    far = found(now, reference)["reliability"].distance
    assert 0.5 < far < OUT_OF_REACH
    for usual, verdict in (
        (far, "pass"),
        (np.nextafter(far, 0), "warn"),
        (OUT_OF_REACH, "pass"),
        (np.nextafter(OUT_OF_REACH, 1), "no_history"),
    ):
        monkeypatch.setattr("flows.results.quality.judge.usual_distance", lambda *_, usual=usual: usual)
        assert found(now, reference)["reliability"].verdict == verdict


def test_what_chance_alone_reaches_is_out_of_reach(monkeypatch):
    now, reference = sharply_moved()
    monkeypatch.setattr("flows.results.quality.judge.usual_distance", lambda *_: 0.1)
    for least, verdict in ((OUT_OF_REACH, "warn"), (np.nextafter(OUT_OF_REACH, 1), "no_history")):
        monkeypatch.setattr("flows.results.quality.judge.least_distance", lambda *_, least=least: least)
        assert found(now, reference)["reliability"].verdict == verdict


def test_chance_is_that_of_the_values_of_both_sides_and_of_all_features(monkeypatch):
    """n m / (n + m) of 300 and 700 values is 210."""
    rng, asked = np.random.default_rng(9), []
    monkeypatch.setattr(
        "flows.results.quality.judge.least_distance", lambda alpha, features, n: asked.append((alpha, features, n)) or 1
    )
    drifts(night(rng, n=300), [night(rng, n=50)] * 14, SETTINGS)
    assert asked == [(SETTINGS.drift_alpha, 2, 210.0)] * 2


def band(search="s", **values):
    units = {"seeing": "arcsec", "depth": "mag", "detections": "per exposure"}
    measures = tuple(
        Measure(metric=name, unit=units[name], n=3, value=value, reason="" if value is not None else "no zero point")
        for name, value in values.items()
    )
    return BandMeasures(
        instrument="ZTF", band="r", exposures=3, search=search, models=(), measures=measures, sketches=()
    )


SEEING = [2.0 + 0.1 * (place % 5) for place in range(20)]
HISTORY = [band(seeing=value, depth=20.0 + value / 10, detections=10 * value) for value in SEEING]


def judged(now, earlier=HISTORY, **settings):
    return {one.metric: one for one in gates(now, earlier, QualitySettings(**settings))}


@pytest.mark.parametrize(("value", "verdict"), [(2.2, "pass"), (3.1, "warn"), (9.0, "fail"), (0.5, "pass")])
def test_seeing_is_worse_only_where_it_is_larger(value, verdict):
    found = judged(band(seeing=value))["seeing"]
    assert found.verdict == verdict
    assert found.median == 2.2
    assert found.nights == 20
    assert bool(found.problem) == bool(found.remedy) == (verdict != "pass")


def test_depth_is_worse_only_where_it_is_smaller():
    assert judged(band(depth=19.0))["depth"].verdict == "fail"
    assert judged(band(depth=25.0))["depth"].verdict == "pass"


def test_detections_are_worse_on_either_side():
    assert judged(band(detections=1.0))["detections"].verdict == "fail"
    assert judged(band(detections=99.0))["detections"].verdict == "fail"


def test_another_search_is_no_reference_for_what_depends_on_it():
    found = judged(band("t", seeing=9.0, detections=99.0))
    assert (found["seeing"].verdict, found["detections"].verdict) == ("fail", "no_history")


def test_too_few_nights_are_no_history():
    assert judged(band(seeing=9.0), HISTORY[:13])["seeing"].verdict == "no_history"
    assert judged(band(seeing=9.0), HISTORY[:14])["seeing"].verdict == "fail"


def test_limits_hold_without_history_and_against_it():
    limits = {"all": {"seeing": [1.0, 4.0]}}
    assert judged(band(seeing=2.0), [], limits=limits)["seeing"].verdict == "pass"
    found = judged(band(seeing=5.0), [], limits=limits)["seeing"]
    assert (found.verdict, found.limits) == ("fail", (1.0, 4.0))
    assert "5 arcsec, the largest that is allowed is 4 arcsec" in found.problem
    assert judged(band(seeing=0.5), limits=limits)["seeing"].verdict == "fail"


@pytest.mark.parametrize("bounds", [[1.0, 4.0], [1.0, None], [None, 4.0], [None, None]])
@pytest.mark.parametrize("value", [0.999, 1.0, 4.0, 4.001])
def test_a_value_on_its_limit_is_allowed(bounds, value):
    low, high = bounds
    verdict = judged(band(seeing=value), [], limits={"all": {"seeing": bounds}})["seeing"]
    broken = "least" if low and value < 1 else "largest" if high and value > 4 else ""
    assert verdict.verdict == ("fail" if broken else "pass" if low or high else "no_history")
    assert (f"the {broken} that is allowed" if broken else "") in verdict.problem
    assert bool(verdict.problem) is bool(broken)


@pytest.mark.parametrize(
    ("away", "verdict"), [(0.0, "pass"), (5.0, "pass"), (5.01, "warn"), (8.0, "warn"), (8.01, "fail")]
)
def test_a_night_is_warned_of_and_fails_beyond_so_many_sigma(away, verdict):
    """The least sigma of noise is 1 % of the median: 1 adu."""
    for usual, sign, side in product((100.0, -100.0), (1, -1), ("above", "below")):
        even = [one(usual, 9, 0.0, "noise", "adu")] * 30
        found = judged(one(usual + sign * away, 9, 0.0, "noise", "adu"), even)["noise"]
        assert found.verdict == verdict
        said = f"{away:.1f} sigma {side} {usual:g}" in found.problem
        assert said is (verdict != "pass" and (side == "above") is (sign > 0))


def test_one_side_alone_is_worse_where_a_metric_says_so():
    even = [band(seeing=2.0, depth=20.0)] * 30
    for metric, better, worse in (("seeing", 1.0, 3.0), ("depth", 21.0, 19.0)):
        assert judged(band(**{metric: better}), even)[metric].verdict == "pass"
        assert judged(band(**{metric: worse}), even)[metric].verdict == "fail"


def test_of_a_search_that_is_not_known_there_is_no_reference():
    unknown = [band("", seeing=2.0, detections=10.0)] * 30
    found = judged(band("", seeing=2.0, detections=10.0), unknown)
    assert (found["seeing"].nights, found["detections"].nights) == (30, 0)
    assert judged(band(detections=10.0), unknown)["detections"].nights == 0


def test_nights_without_the_value_or_with_another_unit_are_none_to_compare_with():
    lacking = band(depth=None)
    other = one(2.0, 3, metric="seeing", unit="px")
    found = judged(band(seeing=2.0, depth=20.0), [*HISTORY, lacking, other, other])
    assert (found["seeing"].nights, found["depth"].nights) == (20, 20)
    assert judged(band(seeing=2.0), [other] * 20)["seeing"].verdict == "no_history"


@pytest.mark.parametrize("limits", [[20, None], [None, 22], [20, 22]])
def test_any_limit_asks_for_a_value(limits):
    assert judged(band(depth=None), limits={"r": {"depth": limits}})["depth"].verdict == "warn"
    assert judged(band(depth=None), limits={"r": {"depth": [None, None]}}) == {}


def test_a_night_without_exposures_is_as_uncertain_as_one_exposure():
    steady = [one(27.0, 100, 0.0125)] * 30
    assert judged(one(27.0, 0), steady)["zero_point"].sigma == judged(one(27.0, 1), steady)["zero_point"].sigma == 0.125
    uncounted = [one(27.0, 0, 0.5)] * 30  # of no exposure nothing is known, whatever its error
    assert judged(one(27.0, 1), uncounted)["zero_point"].sigma == 0.01


def test_a_value_that_is_not_known_is_judged_only_where_a_limit_is_set():
    assert judged(band(depth=None)) == {}
    found = judged(band(depth=None), limits={"r": {"depth": [20, None]}})["depth"]
    assert found.verdict == "warn"
    assert "no zero point" in found.problem


def one(value, n, error=None, metric="zero_point", unit="mag"):
    """A band in which one thing was measured."""
    return band().model_copy(update={"measures": (Measure(metric=metric, unit=unit, n=n, value=value, error=error),)})


def test_a_difference_that_does_not_matter_is_none_however_little_nights_scatter():
    calm = [one(27.0, 9, 0.0)] * 30
    found = judged(one(27.0001, 9, 0.0), calm)["zero_point"]
    assert (found.verdict, found.sigma) == ("pass", 0.01)
    assert judged(one(27.2, 9, 0.0), calm)["zero_point"].verdict == "fail"
    even = [one(100.0, 9, 0.0, "noise", "adu")] * 30
    assert judged(one(101.0, 9, 0.0, "noise", "adu"), even)["noise"].sigma == 1.0


def test_one_exposure_is_as_uncertain_as_one_of_earlier_nights():
    """Exposures scatter by 0.1 mag: medians of 100 of them by 0.01, one by 0.1; 0.3 is much for those, not for one."""
    steady = [one(27.0 + 0.002 * (place % 5), 100, 0.0125) for place in range(30)]
    assert judged(one(26.7, 100, 0.0125), steady)["zero_point"].verdict == "fail"
    single = judged(one(26.7, 1), steady)["zero_point"]
    assert (single.verdict, single.sigma) == ("pass", pytest.approx(0.125, rel=0.01))
    pair = judged(one(26.7, 2, 0.0), steady)["zero_point"]  # two that are equal by chance
    assert pair.sigma == pytest.approx(0.125 / 2**0.5, rel=0.02)


def test_nights_of_one_exposure_are_compared_by_their_scatter():
    single = [one(27.0 + 0.1 * (place % 5), 1) for place in range(30)]
    assert judged(one(26.7, 1), single)["zero_point"].verdict == "pass"
    assert judged(one(24.0, 1), single)["zero_point"].verdict == "fail"


def band_judge(value, search="s", models=("detect a 1",), name="r"):
    measure = Measure(metric="seeing", unit="arcsec", n=3, value=value)
    return BandMeasures(
        instrument="ZTF", band=name, exposures=3, search=search, models=models, measures=(measure,), sketches=()
    )


def record(night, measured):
    return QualityRecord(night=night, digest="d", rules="r", measured=(measured,), judged=(), software="0")


EARLIER = [record(f"202601{day:02d}", band_judge(2.0 + 0.1 * (day % 5))) for day in range(1, 21)]


def test_the_worst_verdict_is_the_bands():
    (good,) = judge([band_judge(2.1)], EARLIER, QualitySettings())
    (bad,) = judge([band_judge(8.0)], EARLIER, QualitySettings())
    assert (good.verdict, bad.verdict) == ("pass", "fail")
    assert good.reference == tuple(one.night for one in EARLIER)


def test_only_the_latest_nights_of_the_band_count():
    (found,) = judge([band_judge(2.1)], EARLIER, QualitySettings(history_nights=15))
    assert found.reference == tuple(one.night for one in EARLIER[5:])
    (other,) = judge([band_judge(2.1, name="g")], EARLIER, QualitySettings())
    assert (other.verdict, other.reference) == ("no_history", ())


def test_nights_of_another_instrument_are_no_reference():
    (found,) = judge([band_judge(8.0).model_copy(update={"instrument": "LSSTCam"})], EARLIER, QualitySettings())
    assert (found.verdict, found.reference, found.notes) == ("no_history", (), ())


def test_a_band_is_told_by_what_is_wrong_with_it():
    (good, bad) = judge([band_judge(2.1), band_judge(8.0)], EARLIER, QualitySettings())
    assert told(good) == []
    (line,) = told(bad)
    assert line.startswith("fail seeing: ")
    assert "To fix, " in line
    now, reference = sharply_moved()
    (drifted,) = judge([now], [record(f"202601{day:02d}", one) for day, one in enumerate(reference, 1)], SETTINGS)
    assert drifted.verdict == "warn"
    (line,) = told(drifted)
    assert line.startswith("warn drift of reliability: distributed otherwise than on 20 earlier nights")


def test_models_of_earlier_nights_may_not_be_known():
    earlier = [record("20260101", band_judge(2.0, "t", ()))]
    (found,) = judge([band_judge(2.1)], earlier, QualitySettings())
    assert found.notes == ("searched with detect a 1; night 20260101 with models not known: a new reference begins",)


def test_a_change_of_model_is_named_and_begins_a_new_reference():
    (found,) = judge([band_judge(2.1, "t", ("detect b 2",))], EARLIER, QualitySettings())
    assert found.reference == ()
    assert found.notes == ("searched with detect b 2; night 20260120 with detect a 1: a new reference begins",)
    (found,) = judge([band_judge(2.1, "t")], EARLIER, QualitySettings())
    assert "settings or stages of the search differ" in found.notes[0]
    unknown = [record("20260101", band_judge(2.0, ""))]
    for earlier in (EARLIER, unknown):
        assert judge([band_judge(2.1, "")], earlier, QualitySettings())[0].reference == ()
    (found,) = judge([band_judge(2.1, "")], EARLIER, QualitySettings())
    assert "several models" in found.notes[0]


def test_a_return_to_a_search_begins_no_new_reference():
    other = record("20260121", band_judge(2.1, "t", ("detect b 2",)))
    (found,) = judge([band_judge(2.1)], [*EARLIER, other], QualitySettings())
    assert len(found.reference) == 20
    assert found.notes == (
        "searched with detect a 1; night 20260121 with detect b 2: compared with 20 earlier nights searched alike",
    )


@pytest.mark.parametrize(("most", "verdict", "notes"), [(13, "no_history", 1), (14, "fail", 0)])
def test_settings_by_which_no_night_is_ever_compared_are_told(most, verdict, notes):
    (found,) = judge([band_judge(8.0)], EARLIER, QualitySettings(history_nights=most))
    assert (found.verdict, len(found.notes)) == (verdict, notes)
    assert all("quality.history_nights is 13, quality.least_nights 14" in note for note in found.notes)


def test_the_problem_of_a_drift_is_told_with_its_figures():
    now, reference = sharply_moved()
    drift = found(now, reference)["reliability"]
    assert drift.n == 1500
    assert drift.problem == (
        f"distributed otherwise than on 20 earlier nights: PSI {drift.psi:.2f}, distance {drift.distance:.2f} (usual: "
        f"up to {drift.usual:.2f}), p {drift.p:.1g}, 1500 values."
    )
    assert drift.p < 0.01 <= drift.psi
    chance = found(now.model_copy(update={"sketches": now.sketches[:1]}), reference)["reliability"]
    assert chance.p <= drift.p


@pytest.mark.parametrize(("p", "verdict"), [(0.01, "pass"), (np.nextafter(0.01, 0), "warn")])
def test_a_drift_is_less_probable_than_the_level(monkeypatch, p, verdict):
    now, reference = sharply_moved()
    monkeypatch.setattr("flows.results.quality.judge.adjusted", lambda values: np.full(len(values), p))
    assert found(now, reference)["reliability"].verdict == verdict
