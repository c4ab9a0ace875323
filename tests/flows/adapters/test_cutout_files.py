import numpy as np
import pytest

from flows.adapters.cutout_files import LabelledCutouts, labels_of, read_cutout_set
from flows.simulation.cutout_set import CutoutSet, write_cutout_set
from flows.simulation.cutout_survey import ZTF
from schemas.errors import Misconfigured


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    write_cutout_set(CutoutSet(ZTF, seed=1, count=200, folder=folder))
    return folder


def test_reads_what_was_written(folder):
    data = read_cutout_set(folder, "train")
    assert data.cutouts.shape == (200, 2, 20, 20)
    assert set(data.label.tolist()) == {0, 1}
    assert set(data.group.tolist()) == {0, 1}
    faintest, brightest = max(ZTF.magnitude), min(ZTF.magnitude)
    assert brightest <= data.magnitude.min() < data.magnitude.max() <= faintest
    np.testing.assert_array_equal(read_cutout_set(folder, "train", 7).cutouts, data.cutouts[:7])


def test_refuses_an_empty_split_and_an_empty_folder(folder, tmp_path):
    with pytest.raises(Misconfigured, match="no cutout is of the split 'test'"):
        read_cutout_set(folder, "test")
    with pytest.raises(Misconfigured, match=r"truth.parquet.* does not exist.*nightstride simulate"):
        read_cutout_set(tmp_path, "train")


def test_labels_are_those_of_the_challenge():
    assert labels_of(["galaxy", "star"], "here").tolist() == [0, 1]
    with pytest.raises(Misconfigured, match=r"here: has the labels \['quasar'\]"):
        labels_of(["star", "quasar"], "here")


def test_takes_rows():
    data = LabelledCutouts(np.zeros((4, 1, 2, 2), np.float32), np.arange(4), np.arange(4), np.arange(4.0))
    assert data.take(np.array([2, 0])).label.tolist() == [2, 0]
    assert len(data.take(np.array([True, False, False, False]))) == 1
