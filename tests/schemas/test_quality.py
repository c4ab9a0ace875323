import json
import math
import tomllib

import pytest
from pydantic import ValidationError

from schemas.quality import (
    METRICS,
    QUALITY_VERSION,
    BandMeasures,
    Drift,
    Gate,
    Measure,
    QualityRecord,
    QualitySettings,
    Sketch,
    worst,
)
from schemas.settings import Settings


def test_worst_of_verdicts():
    assert worst(()) == "no_history"
    assert worst(("pass", "no_history")) == "no_history"
    assert worst(("warn", "pass", "no_history")) == "warn"
    assert worst(("warn", "fail", "pass")) == "fail"


def test_record_survives_json_and_refuses_what_it_does_not_know():
    measure = Measure(metric="seeing", unit="arcsec", n=3, value=2.0, error=0.1)
    band = BandMeasures(
        instrument="ZTF", band="r", exposures=3, search="s", models=("m",), measures=(measure,),
        sketches=(Sketch(feature="snr", counts=((3, 2), (7, 5))),),
    )  # fmt: skip
    record = QualityRecord(night="20260101", digest="d", rules="r", measured=(band,), judged=(), software="0")
    assert QualityRecord.model_validate_json(record.model_dump_json()) == record
    assert record.of("ZTF", "r") is not None
    assert record.of("ZTF", "g") is None
    assert band.measure("seeing") == measure
    assert band.measure("depth") is None
    assert band.sketches[0].n == 7
    with pytest.raises(ValidationError):
        Measure.model_validate({**measure.model_dump(), "colour": 1})


def test_every_metric_says_what_to_do():
    assert all(metric.words and metric.remedy.endswith(".") for metric in METRICS.values())


def test_a_bands_own_limits_go_first():
    text = "[limits.all]\nseeing = [0, 4.0]\ndepth = [20.0, inf]\n[limits.g]\ndepth = [20.5, inf]\n"
    settings = QualitySettings.model_validate(tomllib.loads(text))
    assert settings.bounds("g", "depth") == (20.5, None)
    assert settings.bounds("r", "depth") == (20.0, None)
    assert settings.bounds("g", "seeing") == (0, 4.0)
    assert settings.bounds("g", "noise") == (None, None)


def test_infinite_limits_survive_json():
    settings = Settings(quality={"limits": {"all": {"depth": [20.0, float("inf")]}}})
    again = Settings.model_validate(json.loads(json.dumps(settings.model_dump(mode="json"), allow_nan=False)))
    assert again.quality == settings.quality


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([2.0, 2.0], (2.0, 2.0)), ([0, 1], (0, 1)), ([None, 4.0], (None, 4.0)), ([4.0, None], (4.0, None)),
        ([-math.inf, 4.0], (None, 4.0)), ([4.0, math.inf], (4.0, None)), ([-math.inf, math.inf], (None, None)),
        ((math.inf, -math.inf), (None, None)),
    ],
)  # fmt: skip
def test_limits_may_be_equal_or_missing(given, kept):
    settings = QualitySettings(limits={"r": {"seeing": given}})
    assert settings.bounds("r", "seeing") == kept
    assert settings.bounds("g", "seeing") == settings.bounds("r", "depth") == (None, None)


def test_a_record_of_another_instrument_is_another():
    bands = [
        BandMeasures(instrument=name, band=band, exposures=1, search="s", models=(), measures=(), sketches=())
        for name in ("ZTF", "LSSTCam")
        for band in "gr"
    ]
    record = QualityRecord(night="20260101", digest="d", rules="r", measured=bands, judged=(), software="0")
    assert [record.of(one.instrument, one.band) for one in bands] == bands
    assert record.of("DECam", "g") is None


@pytest.mark.parametrize(
    ("part", "given"),
    [
        (Measure, {"metric": "seeing", "unit": "", "n": 0, "error": 0.0}),
        (Sketch, {"feature": "snr", "counts": ()}),
        (QualitySettings, {"fail_night": True}),
    ],
)
def test_parts_do_not_change(part, given):
    made = part(**given)
    name = next(iter(given))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, name, given[name])
    for wrong in ({"n": -1}, {"error": -5e-324}):
        if part is Measure:
            with pytest.raises(ValidationError, match="greater than or equal to 0"):
                part(**(given | wrong))


def test_a_night_fails_nothing_unless_told():
    assert not QualitySettings().fail_night


@pytest.mark.parametrize("night", ["2026010", "202601011", "2026-01-01", "2026010a"])
def test_a_night_is_eight_digits(night):
    with pytest.raises(ValidationError, match="night"):
        QualityRecord(night=night, digest="d", rules="r", measured=(), judged=(), software="0")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"all": {"colour": [0, 1]}}, "all.colour is not measured; what is: seeing"),
        ({"r": {"seeing": [4, 2]}}, "the least value 4.0 is above the largest 2.0"),
        ({"r": {"seeing": 4}}, "limits.r.seeing"),
        ({"r": 4}, "limits.r"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits, words):
    with pytest.raises(ValidationError, match=words):
        QualitySettings(limits=limits)


def test_a_record_says_which_version_it_is_of():
    record = QualityRecord(night="20260101", digest="d", rules="r", measured=(), judged=(), software="0")
    assert record.schema_version == QUALITY_VERSION == 1


@pytest.mark.parametrize(
    ("part", "given", "name", "least"),
    [
        (Gate, {"metric": "seeing", "verdict": "pass", "value": None, "unit": ""}, "nights", 0),
        (Drift, {"feature": "snr", "verdict": "pass", "n": 0}, "n", 0),
        (
            BandMeasures,
            {
                "instrument": "a",
                "band": "r",
                "search": "",
                "models": (),
                "measures": (),
                "sketches": (),
                "exposures": 1,
            },
            "exposures",
            1,
        ),
    ],
)
def test_counts_have_a_least(part, given, name, least):
    assert getattr(part(**given), name) == least
    with pytest.raises(ValidationError, match=name):
        part(**(given | {name: least - 1}))


def test_metrics_are_worse_on_their_own_side_and_compared_within_a_search_where_they_depend_on_it():
    assert {name: metric.worse for name, metric in METRICS.items() if metric.worse != "both"} == {
        "seeing": "high", "depth": "low", "limiting_magnitude": "low", "snr_of_half": "high", "expected_false": "high",
        "subtraction_residual": "high", "bright_star_excess": "high", "refused": "high", "cosmic_rays": "high",
        "negated_false": "high", "galaxy_core_excess": "high", "known_recovered": "low",
    }  # fmt: skip
    assert [name for name, metric in METRICS.items() if not metric.of_search] == [
        "seeing",
        "depth",
        "zero_point",
        "noise",
        "subtraction_residual",
    ]
