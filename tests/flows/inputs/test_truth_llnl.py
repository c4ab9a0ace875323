import io
import pickle
import zipfile

import galsim
import numpy as np
import pandas as pd
import pytest
from numpy.lib import format as npy

from flows.inputs import truth_llnl
from flows.inputs.npz_llnl import stack_key
from flows.inputs.truth_llnl import read_llnl_truth
from schemas.errors import BadInput
from schemas.truth import TRUTH

ROWS = [(16.5, 2.0, 200.0, galsim.BoundsI(11, 36, 101, 126)), (18.0, 1.0, 30.0, galsim.BoundsI(1, 26, 1, 26))]
NAMES = ("magnitude", "length", "angle", "box")


def columns(rows):
    return {name: [row[i] for row in rows] for i, name in enumerate(NAMES)}


def write(tmp_path, tables):
    entries = np.empty(2 * len(tables), dtype=object)
    for index, table in enumerate(tables):
        entries[2 * index], entries[2 * index + 1] = np.zeros((2, 2)), table
    path = tmp_path / "asteroid_injected_information_4.npz"
    np.savez(path, data=entries)
    return str(path)


@pytest.mark.parametrize(
    "form",
    [pd.DataFrame, dict, lambda given: [list(row) for row in zip(*given.values(), strict=True)]],
    ids=["pandas", "columns", "rows"],
)
def test_every_form_of_table_gives_the_same_truth(tmp_path, form):
    table = read_llnl_truth(write(tmp_path, [form(columns(ROWS)), form(columns(ROWS[:1]))]))
    assert table.schema.equals(TRUTH.schema)
    TRUTH.check(table)
    assert table["visit"].to_pylist() == [4000, 4000, 4001]
    assert table["visit"][2].as_py() == stack_key("/x/asteroid_difference_images_4.npz", 1).visit
    first = table.to_pylist()[0]
    # GalSim's bounds count from 1: 11..36 are our 10..35.
    assert (first["x"], first["y"]) == (22.5, 112.5)
    assert (first["box_xmin"], first["box_xmax"], first["box_ymin"], first["box_ymax"]) == (10, 35, 100, 125)
    assert (first["magnitude"], first["length_px"], first["angle_deg"], first["kind"]) == (16.5, 2, 20, "streak")


def test_no_asteroid_no_row(tmp_path):
    assert read_llnl_truth(write(tmp_path, [[], []])).num_rows == 0


@pytest.mark.parametrize(
    "table", [pd.DataFrame({"mag": [1.0]}), [(1.0, 2.0)], 5, [(1.0, 2.0, 3.0, None)], [("x", 2.0, 3.0, ROWS[0][3])]]
)
def test_other_tables_are_refused(tmp_path, table):
    with pytest.raises(BadInput, match="asteroid_injected") as caught:
        read_llnl_truth(write(tmp_path, [table]))
    assert caught.value.code == "bad_truth"


def test_images_are_no_truth(tmp_path):
    path = tmp_path / "asteroid_injected_information_1.npz"
    np.savez(path, data=np.zeros((2, 3, 3)))
    with pytest.raises(BadInput, match="holds numbers"):
        read_llnl_truth(str(path))


class Evil:
    def __reduce__(self):
        return eval, ("1 + 1",)


def test_malice_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"eval, which is not allowed"):
        read_llnl_truth(write(tmp_path, [Evil()]))


def test_a_pickle_of_something_else_or_of_too_much_is_refused(tmp_path, monkeypatch):
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    path = tmp_path / "asteroid_injected_information_1.npz"
    content = pickle.dumps([1, 2], 2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", header.getvalue() + content)
    for most, said in ((len(content), "'data' is list"), (len(content) - 1, "take more than")):
        monkeypatch.setattr(truth_llnl, "_LARGEST", most)
        with pytest.raises(BadInput, match=said) as caught:
            read_llnl_truth(str(path))
        assert caught.value.code == "bad_truth"
