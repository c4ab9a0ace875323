import os
from pathlib import Path

import numpy as np
import pytest

from flows.inputs import source as content_limit
from flows.inputs.cutout_files import (
    META,
    NPZ,
    PIXELS,
    PLANES,
    LabelledCutouts,
    iter_galstar,
    labels_of,
    read_cutout_npz,
    read_cutout_set,
    read_galstar,
    read_ztf_cutouts,
)
from flows.simulation.cutout_set import CutoutSet, write_cutout_set
from flows.simulation.cutout_survey import ZTF
from schemas.errors import BadInput, Misconfigured, NightstrideError


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


@pytest.mark.parametrize("shape", [(5, 20, 20), (5, 1, 16, 31), (5, 3, 40, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_reads_every_legal_form(tmp_path, shape, dtype):
    path = tmp_path / "data.npz"
    np.savez(
        path, X=np.arange(np.prod(shape)).reshape(shape).astype(dtype), y=np.array(["star", "galaxy"] * 2 + ["star"])
    )
    data = read_cutout_npz(path)
    assert data.cutouts.shape == (5, 1 if len(shape) == 3 else shape[1], *shape[-2:])
    assert data.cutouts.dtype == np.float32
    assert data.label.tolist() == [1, 0, 1, 0, 1]


GOOD = {"X": np.zeros((2, 20, 20), np.float32), "y": np.array(["star", "galaxy"])}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"X": None}, r"has no \['X'\]"),
        ({"X": np.zeros((2, 15, 20), np.float32)}, "15 x 20 px, less than 16 px"),
        ({"X": np.zeros((2, 20), np.float32)}, r"X is float32 \(2, 20\)"),
        ({"X": np.zeros((2, 20, 20), complex)}, "X is complex128"),
        ({"X": np.array([["a"]])}, "not real numbers"),
        ({"y": np.array([0, 1])}, r"y is int64 \(2,\)"),
        ({"y": np.array(["star"])}, "not one string for each of 2"),
        ({"y": np.array(["star", "quasar"])}, r"labels \['quasar'\]"),
        ({"y": np.array(["star", None], object)}, "not an .npz file of plain arrays"),
        ({"X": np.zeros((0, 20, 20), np.float32), "y": np.array([], "U4")}, "y is"),
    ],
)
def test_says_what_is_wrong(tmp_path, change, match):
    path = tmp_path / "data.npz"
    np.savez(path, **{name: value for name, value in (GOOD | change).items() if value is not None})
    with pytest.raises(NightstrideError, match=match):
        read_cutout_npz(path)


def test_no_file_and_another_file(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_cutout_npz(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(BadInput, match=r"not an \.npz file"):
        read_cutout_npz(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(BadInput, match=r"not an \.npz file"):
        read_cutout_npz(tmp_path / "one.npy")


def test_what_unpacks_to_more_than_is_allowed(tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **(GOOD | {"X": np.zeros((2, 200, 200), np.float32)}))
    monkeypatch.setattr(content_limit, "LARGEST", 100_000)
    with pytest.raises(BadInput, match="unpacks to") as caught:
        read_cutout_npz(path)
    assert caught.value.code == "too_large"


REAL = Path(os.environ.get("NIGHTSTRIDE_DATA", "")) / "05_star_galaxy_cutouts/ztf_llnl"


def write(folder, labels=("star", "galaxy", "star"), named=("star", "galaxy", "star")):
    np.savez(folder / NPZ, X=np.zeros((3, 20, 20), np.float32), y=np.array(labels))
    rows = "\n".join(f"{frame},{label}" for frame, label in zip(("b", "a", "b"), named, strict=True))
    (folder / META).write_text(f"FILENAME,label\n{rows}\n")


def test_groups_by_frame(tmp_path):
    write(tmp_path)
    data = read_ztf_cutouts(tmp_path)
    assert data.group.tolist() == [1, 0, 1]
    assert data.label.tolist() == [1, 0, 1]


def test_refuses_files_that_do_not_belong_together(tmp_path):
    write(tmp_path, named=("star", "star", "star"))
    with pytest.raises(BadInput, match="its labels are not those of"):
        read_ztf_cutouts(tmp_path)
    (tmp_path / META).unlink()
    with pytest.raises(BadInput, match="does not exist"):
        read_ztf_cutouts(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="NIGHTSTRIDE_DATA has no 05_star_galaxy_cutouts/ztf_llnl")
def test_reads_the_real_ones():
    data = read_ztf_cutouts(REAL)
    assert data.cutouts.shape == (973, 1, 20, 20)
    assert len(np.unique(data.group)) == 33
    assert int(data.label.sum()) == 476


def write_galstar_csv(path, rows=5, seed=0):
    """A file of the challenge's layout; give what is in it."""
    rng = np.random.default_rng(seed)
    pixels = np.round(rng.normal(0, 50, (rows, PIXELS)), 3)
    lines = ["," + "y," + ",".join(str(n) for n in range(PIXELS))]
    lines += [f"{n},{n % 2}," + ",".join(repr(float(v)) for v in row) for n, row in enumerate(pixels)]
    path.write_text("\n".join(lines) + "\n")
    return pixels.astype(np.float32)


def test_reads_planes_in_order(tmp_path):
    pixels = write_galstar_csv(tmp_path / "galstar.csv")
    data = read_galstar(tmp_path / "galstar.csv")
    assert data.cutouts.shape == (5, len(PLANES), 26, 26)
    np.testing.assert_array_equal(data.cutouts.reshape(5, -1), pixels)
    assert data.cutouts[2, 4, 0, 3] == pixels[2, 4 * 676 + 3]  # psf-g, first row, fourth column
    assert data.label.tolist() == [0, 1, 0, 1, 0]
    assert data.group.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_chunks_join_up(tmp_path, chunk):
    pixels = write_galstar_csv(tmp_path / "galstar.csv")
    parts = list(iter_galstar(tmp_path / "galstar.csv", chunk))
    assert max(len(part) for part in parts) <= chunk
    np.testing.assert_array_equal(np.concatenate([part.cutouts for part in parts]).reshape(5, -1), pixels)


def test_an_empty_field_is_a_missing_pixel(tmp_path):
    write_galstar_csv(tmp_path / "galstar.csv", 1)
    lines = (tmp_path / "galstar.csv").read_text().splitlines()
    fields = lines[1].split(",")
    fields[2] = ""
    (tmp_path / "galstar.csv").write_text(lines[0] + "\n" + ",".join(fields) + "\n")
    assert np.isnan(read_galstar(tmp_path / "galstar.csv").cutouts[0, 0, 0, 0])


def spoil(path, line, change):
    lines = path.read_text().splitlines()
    lines[line] = change(lines[line])
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "change", "match"),
    [
        (0, lambda text: text + ",more", f"has {PIXELS + 3} columns"),
        (0, lambda text: text.replace("y,", "label,", 1), "the second"),
        (2, lambda text: text.rsplit(",", 1)[0], f"line 3: has {PIXELS + 1} fields"),
        (2, lambda text: text.replace("1,1,", "1,2,", 1), "y is 2.0, not 0"),
        (3, lambda text: text.rsplit(",", 1)[0] + ",nonsense", "line 4: is not numbers"),
    ],
)
def test_says_where_the_layout_breaks(tmp_path, line, change, match):
    write_galstar_csv(tmp_path / "galstar.csv")
    spoil(tmp_path / "galstar.csv", line, change)
    with pytest.raises(BadInput, match=match):
        read_galstar(tmp_path / "galstar.csv")


def test_no_file_and_no_rows(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_galstar(tmp_path / "galstar.csv")
    np.savez(tmp_path / "galstar.csv.npz", X=np.full((3, 20, 20), 1 / 3), y=["star"] * 3)
    (tmp_path / "galstar.csv.npz").rename(tmp_path / "galstar.csv")
    with pytest.raises(BadInput, match="not index, y and 5408 pixels"):
        read_galstar(tmp_path / "galstar.csv")
    write_galstar_csv(tmp_path / "galstar.csv", 0)
    with pytest.raises(BadInput, match="has no rows"):
        read_galstar(tmp_path / "galstar.csv")
