import os
import pickle

import galsim
import numpy as np
import pandas as pd
import pytest

from flows.adapters.restricted_pickle import load_restricted
from schemas.errors import BadInput


@pytest.mark.parametrize("protocol", range(2, 6))
def test_tables_come_back(protocol):
    box = galsim.BoundsI(3, 40, 5, 60)
    frame = pd.DataFrame({"magnitude": [16.5, 17.25], "length": [1, 2], "box": [box, box]})
    array = np.array([np.arange(3.0), frame, [box, (1, 2.5, "x")], np.float64(2.5)], dtype=object)
    numbers, table, rows, scalar = load_restricted(pickle.dumps(array, protocol), "x")
    np.testing.assert_array_equal(numbers, [0, 1, 2])
    assert table["magnitude"].tolist() == [16.5, 17.25]
    assert table["box"][1] == box
    assert rows[0].xmax == 40
    assert scalar == 2.5


class Evil:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "touch {}"),
        Evil(eval, "__import__('pathlib').Path({!r}).touch()"),
        Evil(exec, "open({!r}, 'w')"),
        Evil(getattr, os, "system"),
        Evil(pd.read_pickle, "{}"),
        Evil(np.load, "{}"),
    ],
    ids=lambda evil: evil.reduced[0].__name__,
)
def test_nothing_is_run(tmp_path, evil):
    target = tmp_path / "owned"
    arguments = tuple(one.format(str(target)) if isinstance(one, str) else one for one in evil.reduced[1])
    try:
        data = pickle.dumps(np.array([1, Evil(evil.reduced[0], *arguments)], object))
    except TypeError:  # modules cannot be pickled by value: the same attack by name
        data = b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR."
    with pytest.raises(BadInput) as caught:
        load_restricted(data, "x.npz")
    assert caught.value.code == "unsafe_pickle"
    assert not target.exists()


def test_names_with_dots_do_not_reach_through():
    """Protocol 4 resolves dotted names: numpy.dtype.x.y must not lead anywhere."""
    data = b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93."
    with pytest.raises(BadInput, match="not allowed"):
        load_restricted(data, "x.npz")


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps(np.arange(5))[:-4]])
def test_damaged_pickles(data):
    with pytest.raises(BadInput):
        load_restricted(data, "x.npz")
