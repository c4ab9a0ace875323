import numpy as np
import pytest

from flows.adapters import content_limit
from flows.adapters.cutout_npz import read_cutout_npz
from schemas.errors import BadInput, NightstrideError


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
