import os
from pathlib import Path

import numpy as np
import pytest

from flows.adapters.cutout_ztf import META, NPZ, read_ztf_cutouts
from schemas.errors import BadInput

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
