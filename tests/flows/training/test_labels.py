from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.training.candidates import Labelled
from flows.training.labels import BY_VETTERS, NightLabels, label_places, labelled_candidates, read_labels, repeated
from flows.training.reliability_fit import measured
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.errors import Misconfigured
from schemas.vetting import LABEL, Verdict


def rows(*said, visit=1, detector=0):
    when = datetime(2026, 1, 1, tzinfo=UTC)
    base = {"diaSourceId": 1, "visit": visit, "detector": detector, "user": "a", "time": when}
    given = [base | {"x": x, "y": y, "label": str(label)} for x, y, label in said]
    return pa.Table.from_pylist(given, schema=LABEL.schema)


def test_labels_go_to_the_nearest_candidate_by_majority():
    x, y = np.array([10.0, 14.0, 50.0, 80.0, 90.0]), np.array([10.0, 10.0, 50.0, 80.0, 90.0])
    said = rows(
        (11, 10, "bogus"), (13.5, 10, "real"), (50, 52.9, "satellite"), (80, 83.1, "real"), (90, 90, "real"),
        (90, 90, "artefact"), (90, 90, "unsure"),
    )  # fmt: skip
    assert label_places(x, y, said).tolist() == [0, BY_VETTERS, 2, -1, -1]
    said = rows((90, 90, "real"), (90, 90, "artefact"), (90, 90, "bogus"))
    assert label_places(x, y, said).tolist() == [-1, -1, -1, -1, 0]
    assert label_places(x[:0], y[:0], said).tolist() == []


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "ledger").mkdir()
    path = tmp_path / "labels.parquet"
    cases = {
        "there is no such file": None,
        "no columns": pa.table({"x": [1.0]}),
        "none of real": rows((1, 1, "maybe")),
    }
    for words, table in cases.items():
        if table is not None:
            pq.write_table(table, path)
        with pytest.raises(Misconfigured, match=words):
            read_labels(path, [tmp_path])
    with pytest.raises(Misconfigured, match="no output folder"):
        read_labels(path, [tmp_path / "none"])
    pq.write_table(rows((1, 1, Verdict.REAL)), path)
    with pytest.raises(Misconfigured, match="holds none of the exposures"):
        labelled_candidates(read_labels(path, [tmp_path]), "streak_net", 1, print)


def test_labels_are_a_share_of_what_is_learnt():
    one = Labelled(
        np.zeros((5, 3), np.float32), np.zeros((5, 1, 2, 2), np.float16), np.array([0, -1, 0, 2, -1]),
        np.full(5, -1), None, np.zeros(0), np.ones(5, np.float32), np.zeros(5, bool),
    )  # fmt: skip
    assert len(repeated([one], 120, 0.2)) == 10
    assert len(repeated([one], 10**6, 0.2)) == 20
    assert len(repeated([one], 0, 0.2)) == 1
    assert [part.label.tolist() for part in repeated([one], 0, 0.2)] == [[0, 0, 2]]
    assert repeated([], 100, 0.2) == []


@pytest.mark.slow
def test_labels_of_a_night_are_found_again_in_its_tiles(uninterrupted, night_models):
    """What the pipeline published, labelled by what it says itself, comes back with these labels and its features."""
    _, out = uninterrupted
    published = pa.concat_tables(
        pq.read_table(path).select(["diaSourceId", "x", "y"])
        for path in sorted((out / "catalogs" / DIA_SOURCE.name).rglob("*.parquet"))
    ).to_pylist()
    table = pa.concat_tables(
        rows((row["x"], row["y"], "bogus" if n % 2 else "real"), visit=exposure_of(row["diaSourceId"])[0],
             detector=exposure_of(row["diaSourceId"])[1])
        for n, row in enumerate(published)
    )  # fmt: skip
    told = []
    found = labelled_candidates(NightLabels(table, (out,), "0" * 64), str(night_models), 1, told.append)
    known = np.concatenate([one.label[one.known] for one in found])
    assert len(known) >= 0.9 * len(published)
    assert set(known.tolist()) == {0, BY_VETTERS}
    assert f"{len(known)} candidates of 4 exposures have labels; {len(published)} labels were given" == told[0]
    features, real = measured(found)
    assert len(features) == len(known)
    assert real.sum() == (known == BY_VETTERS).sum()
    assert all((one.kind == -1).all() for one in found)
