import pytest

from flows.quality.gates import gates
from schemas.quality import BandMeasures, Measure
from schemas.quality_settings import QualitySettings


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
