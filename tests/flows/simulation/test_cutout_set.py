import json

import pyarrow.parquet as pq
import pytest

from flows.inputs.cutout_files import read_cutout_set
from flows.simulation.cutout_set import PER_FIELD, SPLITS, CutoutSet, write_cutout_set
from flows.simulation.cutout_survey import ZTF
from schemas.errors import Misconfigured


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    write_cutout_set(CutoutSet(ZTF, seed=3, count=1000, folder=folder))
    return folder


def test_splits_by_field(folder):
    truth = pq.read_table(folder / "truth.parquet").to_pylist()
    assert len(truth) == 1000
    splits = {row["field"]: row["split"] for row in truth}
    assert all(row["split"] == splits[row["field"]] for row in truth)
    assert [splits[field] for field in range(10)] == list(SPLITS)
    sizes = {split: len(read_cutout_set(folder, split)) for split in set(SPLITS)}
    assert sizes == {split: PER_FIELD * SPLITS.count(split) for split in set(SPLITS)}


def test_says_what_it_is(folder):
    about = json.loads((folder / "dataset.json").read_text())
    assert (about["name"], about["seed"], about["count"], about["fields"]) == ("ztf", 3, 1000, 10)
    assert "cutouts-NNN.safetensors" in (folder / "README.md").read_text()


@pytest.mark.parametrize("count", [0, 50, 150, -100])
def test_refuses_half_fields(count, tmp_path):
    with pytest.raises(Misconfigured, match="not a positive multiple of 100"):
        write_cutout_set(CutoutSet(ZTF, 1, count, tmp_path))


def test_refuses_a_file_as_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="is a file"):
        write_cutout_set(CutoutSet(ZTF, 1, 100, tmp_path / "file"))
