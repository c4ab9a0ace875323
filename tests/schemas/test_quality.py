import pytest
from pydantic import ValidationError

from schemas.quality import METRICS, BandMeasures, Measure, QualityRecord, Sketch, worst


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
