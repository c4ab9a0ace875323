from benchmarks.scale.open_nights import LIMIT_S, Looked, looks, make_nights
from flows.results.verify import verify_output


def test_nights_are_looked_at(tmp_path):
    out = make_nights(tmp_path, exposures=3, nights=4, rows=5)
    found = {one.what: one for one in looks(out)}
    assert found["len(detections())"].rows == found["six columns, Arrow"].rows == 4 * 3 * 5
    assert found["all columns, Arrow"].rows == found["the same, by pyarrow's dataset reader alone"].rows == 60
    assert found["one night, all columns, pandas"].rows == 15
    assert found["exposures by the ledger"].rows == 12
    assert [one.what for one in found.values() if one.limited] == ["detections()", "detections().head(10)"]
    assert not any(problem.code == "damaged_part" for problem in verify_output(out, {}).problems)
    assert Looked("x", 1, LIMIT_S, 1.0, True).passes
    assert not Looked("x", 1, LIMIT_S + 0.1, 1.0, True).passes
    assert Looked("x", 1, LIMIT_S + 0.1, 1.0, False).passes
