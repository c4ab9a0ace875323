import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from flows.inputs.cutout_files import read_cutout_set
from flows.simulation import cutout_set as module
from flows.simulation.cutout_field import CutoutField
from flows.simulation.cutout_set import PER_FIELD, SPLITS, CutoutSet, write_cutout_set
from flows.simulation.cutout_survey import DEEP, ZTF
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


def draw_nothing(survey, seed, field, count) -> CutoutField:
    return CutoutField(
        np.full((count, 2, 1, 1), field, np.float32), [{"field": field, "number": n} for n in range(count)]
    )


def test_twenty_fields_go_into_a_file_and_what_is_done_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "draw_field", draw_nothing)
    done = []
    path = write_cutout_set(CutoutSet(ZTF, 3, 4100, tmp_path), progress=done.append)
    assert path == tmp_path / "truth.parquet"
    assert done == [2000, 4000, 4100]
    truth = pq.read_table(path).to_pylist()
    assert [row["field"] for row in truth[::100]] == list(range(41))
    assert [(truth[n]["shard"], truth[n]["row"]) for n in (0, 1999, 2000, 3999, 4000, 4099)] == [
        (0, 0), (0, 1999), (1, 0), (1, 1999), (2, 0), (2, 99),
    ]  # fmt: skip
    assert {row["split"] for row in truth if row["field"] % 10 < 7} == {"train"}
    assert {row["field"] % 10 for row in truth if row["split"] == "validation"} == {7}
    assert {row["field"] % 10 for row in truth if row["split"] == "test"} == {8, 9}
    stored = [safetensors.numpy.load_file(tmp_path / f"cutouts-00{n}.safetensors")["cutouts"] for n in range(3)]
    assert [len(one) for one in stored] == [2000, 2000, 100]
    assert [one[0, 0, 0, 0] for one in stored] == [0, 20, 40]
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "README.md", "cutouts-000.safetensors", "cutouts-001.safetensors", "cutouts-002.safetensors", "dataset.json",
        "truth.parquet",
    ]  # fmt: skip


def test_the_cutouts_of_one_field_are_a_set_and_can_be_written_again(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "draw_field", draw_nothing)
    for _ in range(2):
        assert len(pq.read_table(write_cutout_set(CutoutSet(ZTF, 3, 100, tmp_path)))) == 100


def test_a_set_is_of_34000_deep_cutouts_unless_said_otherwise():
    wanted = CutoutSet()
    assert (wanted.survey, wanted.seed, wanted.count) == (DEEP, 0, 34_000)
