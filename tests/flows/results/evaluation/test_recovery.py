import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit

from flows.results.evaluation.recovery import read_recoveries, recoveries
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from kernels.statistics.completeness import binomial_interval
from schemas.exposure import ExposureKey
from schemas.injection import INJECTION, injection_ids
from tests.support.exposure import exposure_record
from tests.support.filled import filled

NIGHT = "20261103"


def injection(n, seed=1, visit=101, detector=3, band="r", half=9.0, **change):
    """Rows of which those of a S/N above ``half`` come back, more or less; magnitude 20 at S/N 10."""
    rng = np.random.default_rng(seed)
    snr = np.exp(rng.uniform(np.log(4), np.log(25), n))
    flux = 10 ** ((31.4 - 20) / 2.5) * snr / 10
    columns = {
        "injectionId": injection_ids(visit, detector, n),
        "visit": [visit] * n,
        "detector": [detector] * n,
        "snr": snr,
        "flux": flux,
        "length": np.exp(rng.uniform(0, np.log(60), n)),
        "visible": np.ones(n),
        "band": [band] * n,
        "recovered": rng.uniform(size=n) < expit(10 * np.log(snr / half)),
    } | change
    return filled(INJECTION.schema, n, **columns)


def test_of_a_night_then_of_each_band_with_its_detectors():
    tables = [
        injection(40, detector=5, band="r"), injection(30, visit=102, detector=3, band="r"),
        injection(50, visit=103, detector=3, band="g"), injection(20, visit=104, detector=3, band="r"),
    ]  # fmt: skip
    told = recoveries(NIGHT, pa.concat_tables(tables))
    groups = [(one.band, one.detector, one.exposures, one.n) for one in told]
    assert groups == [
        (None, None, 4, 140),
        ("g", None, 1, 50), ("g", 3, 1, 50),
        ("r", None, 3, 90), ("r", 3, 2, 50), ("r", 5, 1, 40),
    ]  # fmt: skip
    assert sum(one.recovered for one in told if one.detector is not None) == told[0].recovered
    assert recoveries(NIGHT, INJECTION.empty()) == ()


def test_shares_are_those_of_the_bins_with_the_intervals_of_clopper_and_pearson():
    table = injection(200)
    (night, *_) = recoveries(NIGHT, table)
    snr, length, found = (table[name].to_numpy() for name in ("snr", "length", "recovered"))
    for shares, value in ((night.by_snr, snr), (night.by_length, length)):
        assert sum(one.n for one in shares) == 200
        assert shares[0].lo == 0
        assert shares[-1].hi is None
        for one in shares:
            inside = (value >= one.lo) & (value < (one.hi or np.inf))
            assert (one.n, one.recovered) == (inside.sum(), found[inside].sum())
            assert one.interval == binomial_interval(one.recovered, one.n)


def test_limits_are_where_half_comes_back():
    night, band, detector = recoveries(NIGHT, injection(600))
    assert night.snr.value == pytest.approx(9.0, rel=0.1)
    assert night.snr.interval[0] < night.snr.value < night.snr.interval[1]
    assert night.magnitude == ()  # of several bands it would mean nothing
    expected = 20 - 2.5 * np.log10(9.0 / 10)
    assert [(one.lo, one.hi) for one in band.magnitude] == [(0, None), (0, 3), (3, 15), (15, None)]
    for one in (*band.magnitude, *detector.magnitude):
        assert one.limit.value == pytest.approx(expected, abs=0.2)
        assert one.limit.interval[0] < one.limit.value < one.limit.interval[1]
    assert sum(one.limit.n for one in band.magnitude[1:]) == band.magnitude[0].limit.n == 600
    assert [(one.lo, one.hi) for one in detector.magnitude] == [(0, None)]


@pytest.mark.parametrize(
    ("length", "within"),
    [(2.999, (0, 3)), (3.0, (3, 15)), (14.999, (3, 15)), (15.0, (15, None)), (500.0, (15, None))],
)
def test_a_length_on_an_edge_belongs_to_the_longer_class(length, within):
    _, band, _ = recoveries(NIGHT, injection(30, length=np.full(30, length)))
    assert [(one.lo, one.hi) for one in band.magnitude[1:] if one.limit.n] == [within]
    assert band.magnitude[0].limit.n == 30


def test_one_streak_without_zero_point_leaves_its_class_without_limit():
    lengths = np.r_[np.full(40, 1.0), np.full(40, 5.0)]
    flux = injection(80)["flux"].to_pylist()
    _, band, _ = recoveries(NIGHT, injection(80, length=lengths, flux=[None, *flux[1:]]))
    whole, short, middle, long = (one.limit for one in band.magnitude)
    assert (whole.n, whole.reason) == (79, "1 of the streaks have no zero point")
    assert (short.n, short.reason) == (39, "1 of the streaks have no zero point")
    assert middle.n == 40
    assert "zero point" not in middle.reason + long.reason


def test_where_there_is_too_little_it_says_so():
    _, band, _ = recoveries(NIGHT, injection(30))
    reasons = [one.limit.reason for one in band.magnitude]
    assert "fewer than 20 streaks" in reasons
    assert all(one.limit.value is None for one in band.magnitude if one.limit.reason)
    nothing = injection(40, recovered=np.zeros(40, bool))
    assert recoveries(NIGHT, nothing)[0].snr.reason == "none was recovered"


def test_without_zero_point_there_is_no_limiting_magnitude():
    flux = [None] * 5 + [3000.0] * 95
    _, band, _ = recoveries(NIGHT, injection(100, flux=flux))
    assert band.snr.value is not None
    assert band.magnitude[0].limit.reason == "5 of the streaks have no zero point"


def test_hidden_streaks_count_neither_way():
    visible = np.where(np.arange(100) < 30, 0.49, 0.5)
    table = injection(100, visible=visible)
    (night, *_) = recoveries(NIGHT, table)
    assert (night.hidden, night.n) == (30, 70)
    assert night.recovered == table["recovered"].to_numpy()[30:].sum()


def test_reads_what_the_ledger_lists(tmp_path):
    store = CatalogStore(tmp_path)
    for visit in (101, 102, 103):
        key = ExposureKey(night=NIGHT, visit=visit, detector=3)
        path = store.publish(INJECTION, key, injection(25, visit=visit), "d" * 64)
        record = exposure_record(key, source_uri=f"{visit}", datasets={"injection": store.record(path)})
        if visit != 103:
            Ledger(tmp_path).put(record)
    assert read_recoveries(tmp_path, NIGHT)[0].n == 50
    assert read_recoveries(tmp_path, "20261104") == ()
    store.path(INJECTION, ExposureKey(night=NIGHT, visit=101, detector=3)).write_bytes(b"spoilt")
    assert read_recoveries(tmp_path, NIGHT)[0].n == 25


@pytest.mark.parametrize("n", [1, 19])
def test_few_streaks_still_give_shares(n):
    (night, *_) = recoveries(NIGHT, injection(n))
    assert night.n == n
    assert night.snr.reason == "fewer than 20 streaks"
