from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.pipeline.weights import read_card
from flows.storage.bucket_path import BucketPath, files_below
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.object_store import configure
from flows.storage.zarr_tiles import TileStore
from flows.training import labels as module
from flows.training.candidates import Labelled, described_candidates, label_candidates
from flows.training.detect import train_detect
from flows.training.labels import BY_VETTERS, NightLabels, label_places, labelled_candidates, read_labels, repeated
from flows.training.reliability_fit import features_and_labels
from schemas.errors import Misconfigured
from schemas.exposure import key_of
from schemas.settings import StoreSettings
from schemas.vetting import LABEL, Verdict
from tests.flows.training.test_detect import PLAN
from tests.support.cli import nightstride
from tests.support.exposure import exposure_record

pytest_plugins = ("tests.support.s3_fixture",)


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
        "not among real": rows((1, 1, "maybe")),
    }
    for words, table in cases.items():
        if table is not None:
            pq.write_table(table, path)
        with pytest.raises(Misconfigured, match=words):
            read_labels(path, [tmp_path])
    path.write_bytes(b"something else")
    with pytest.raises(Misconfigured, match="cannot be read as labels: it is cut off, or no Parquet file"):
        read_labels(path, [tmp_path])
    with pytest.raises(Misconfigured, match="not an output folder"):
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


@pytest.fixture(scope="module")
def labelled(examples, tmp_path_factory):
    """An output folder with the tiles of the examples, and a file of labels: what is false there is called bogus."""
    out, tables = tmp_path_factory.mktemp("labelled"), []
    for example in examples:
        key = published(out, example)
        found = described_candidates(example, "streak_net")
        false = np.flatnonzero(label_candidates(found, example.truth).label == 0).tolist()
        x, y = (found.table[name].to_numpy() for name in ("x", "y"))
        tables.append(rows(*((x[n], y[n], "bogus") for n in false), visit=key.visit, detector=key.detector))
    pq.write_table(pa.concat_tables(tables), out / "labels.parquet")
    return out, out / "labels.parquet"


def published(out, example):
    """Put the tiles of an example into an output folder, which may be in a bucket; return its key."""
    key = key_of(TileStore.open(example.store).info.night, example.store.stem)
    place = tile_path(out, key)
    if isinstance(place, BucketPath):
        for file in files_below(example.store):
            (place / file.relative_to(example.store)).write(file.read_bytes())
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(example.store)
    Ledger(out).put(exposure_record(key, source_uri="x", digest="x", finished_at="x"))
    return key


@pytest.mark.slow
def test_a_verdict_is_trained_with_labels(labelled, tmp_path):
    out, path = labelled
    labels, told = read_labels(path, [out]), []
    train_detect(tmp_path / "model", tmp_path / "work", "streak_net", PLAN, 1, told.append, "reliability", None, labels)
    card = read_card("reliability", str(tmp_path / "model"))
    assert card.training["labels"] == labels.summary
    assert card.training["command"].endswith("--reliability-only --labels FILE --night-out OUT")
    assert "no real data" not in card.training["data"]
    assert any("have labels" in line for line in told)


def test_labels_of_a_night_are_found_again_in_its_tiles(examples, tmp_path):
    """Candidates of a night, labelled by the truth, come back with these labels and the features they have."""
    tables, expected, features = [], [], []
    for example in examples:
        key = published(tmp_path, example)
        found = described_candidates(example, "streak_net")
        known = label_candidates(found, example.truth)
        x, y = (found.table[name].to_numpy() for name in ("x", "y"))
        chosen = np.flatnonzero((known.label == 1) | (known.label == 0))
        said = ((x[n], y[n], "real" if known.label[n] else "bogus") for n in chosen.tolist())
        tables.append(rows(*said, visit=key.visit, detector=key.detector))
        expected += [BY_VETTERS if known.label[n] else 0 for n in chosen.tolist()]
        features.append(known.features[chosen])
    unknown = rows((5, 5, "real"), visit=99, detector=1)
    told, labels = [], NightLabels(pa.concat_tables([*tables, unknown]), (tmp_path,), "0" * 64)
    got = labelled_candidates(labels, "streak_net", 1, told.append)
    assert np.concatenate([one.label[one.known] for one in got]).tolist() == expected
    np.testing.assert_array_equal(np.concatenate([one.features[one.known] for one in got]), np.concatenate(features))
    count = len(expected)
    assert told == [f"{count} candidates of 2 exposures have labels; {count + 1} labels were given"]
    assert features_and_labels(got)[1].tolist() == [int(one == BY_VETTERS) for one in expected]
    assert all((one.kind == -1).all() for one in got)
    assert labels.summary["labels"].keys() == {"real", "bogus"}


def test_the_nights_of_labels_may_be_in_a_bucket(examples, s3, bucket, tmp_path, monkeypatch):
    """What is found there has the labels and features that it has in a folder."""
    path, given = tmp_path / "labels.parquet", []
    key = published(tmp_path, examples[0])
    assert published(bucket, examples[0]) == key
    found = described_candidates(examples[0], "streak_net").table.to_pylist()
    said = ((one["x"], one["y"], "real" if n % 2 else "bogus") for n, one in enumerate(found))
    pq.write_table(rows(*said, visit=key.visit, detector=key.detector), path)
    monkeypatch.setattr("flows.training.detect.train_detect", lambda *all_of: given.append(all_of[-1]) or {})
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # only the settings know it
    done = nightstride(
        "train", "detect", "--labels", path, "--night-out", bucket, NIGHTSTRIDE_STORE__ENDPOINT=s3.endpoint
    )
    assert (done.code, given[0].outs) == (0, (bucket,)), done.stderr
    configure(StoreSettings(endpoint=s3.endpoint))
    (near,) = labelled_candidates(read_labels(path, [tmp_path]), "streak_net", 1, print)

    def in_a_new_process(function, items, workers):
        configure(StoreSettings())
        return map(function, items)

    monkeypatch.setattr(module, "map_in_processes", in_a_new_process)
    (far,) = labelled_candidates(given[0], "streak_net", 1, print)
    assert far.known.sum() == near.known.sum() == len(found) > 3
    np.testing.assert_array_equal(far.label, near.label)
    np.testing.assert_array_equal(far.features, near.features)
