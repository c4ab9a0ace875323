from flows.quality.judge import judge
from schemas.quality import BandMeasures, Measure, QualityRecord
from schemas.quality_settings import QualitySettings


def band(value, search="s", models=("detect a 1",), name="r"):
    measure = Measure(metric="seeing", unit="arcsec", n=3, value=value)
    return BandMeasures(
        instrument="ZTF", band=name, exposures=3, search=search, models=models, measures=(measure,), sketches=()
    )


def record(night, measured):
    return QualityRecord(night=night, digest="d", rules="r", measured=(measured,), judged=(), software="0")


EARLIER = [record(f"202601{day:02d}", band(2.0 + 0.1 * (day % 5))) for day in range(1, 21)]


def test_the_worst_verdict_is_the_bands():
    (good,) = judge([band(2.1)], EARLIER, QualitySettings())
    (bad,) = judge([band(8.0)], EARLIER, QualitySettings())
    assert (good.verdict, bad.verdict) == ("pass", "fail")
    assert good.reference == tuple(one.night for one in EARLIER)


def test_only_the_latest_nights_of_the_band_count():
    (found,) = judge([band(2.1)], EARLIER, QualitySettings(history_nights=15))
    assert found.reference == tuple(one.night for one in EARLIER[5:])
    (other,) = judge([band(2.1, name="g")], EARLIER, QualitySettings())
    assert (other.verdict, other.reference) == ("no_history", ())


def test_a_change_of_model_is_named_and_begins_a_new_reference():
    (found,) = judge([band(2.1, "t", ("detect b 2",))], EARLIER, QualitySettings())
    assert found.reference == ()
    assert found.notes == ("searched with detect b 2; night 20260120 with detect a 1: a new reference begins",)
    (found,) = judge([band(2.1, "t")], EARLIER, QualitySettings())
    assert "settings or stages of the search differ" in found.notes[0]
    (found,) = judge([band(2.1, "")], EARLIER, QualitySettings())
    assert "several models" in found.notes[0]
