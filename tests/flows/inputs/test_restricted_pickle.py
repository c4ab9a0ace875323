import os
import pickle

import galsim
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flows.inputs.restricted_pickle import load_restricted
from schemas.errors import BadInput


@pytest.mark.parametrize("protocol", range(2, 6))
def test_tables_come_back(protocol):
    box = galsim.BoundsI(3, 40, 5, 60)
    frame = pd.DataFrame({"magnitude": [16.5, 17.25], "length": [1, 2], "box": [box, box]})
    day, words = np.datetime64("2020-01-02"), np.array(["ab", "c"])
    none = np.zeros((2, 0))
    array = np.array([np.arange(3.0), frame, [box, (1, 2.5, "x")], np.float64(2.5), day, words, none], dtype=object)
    numbers, table, rows, scalar, when, text, nothing = load_restricted(pickle.dumps(array, protocol), "x")
    np.testing.assert_array_equal(numbers, [0, 1, 2])
    assert table["magnitude"].tolist() == [16.5, 17.25]
    assert table["box"][1] == box
    assert rows[0].xmax == 40
    assert scalar == 2.5
    assert when == day
    assert text.tolist() == ["ab", "c"]
    assert nothing.shape == (2, 0)


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


def dtype(code, state):
    """A dtype, as protocol 2 writes it, with a state of one's own."""
    return b"cnumpy\ndtype\n(V" + code + b"\nI00\nI01\ntR(" + state + b"tb"


def array(dtype, data, shape=b"(I1\nt"):
    """An array with contents of one's own."""
    start = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
    return start + b"(I1\n" + shape + dtype + b"I00\n" + data + b"tb."


EIGHT = b"c_codecs\nencode\n(VAAAAAAAA\nVlatin1\ntR"
OBJECT, NUMBER = b"I3\nV|\nNNNI-1\nI-1\nI63\n", b"I3\nV<\nNNNI-1\nI-1\nI0\n"


def test_the_arrays_of_these_attacks_are_otherwise_sound():
    assert load_restricted(array(dtype(b"i8", NUMBER), EIGHT), "x").tobytes() == b"A" * 8
    assert load_restricted(array(dtype(b"O8", OBJECT), b"(I7\nl"), "x").tolist() == [7]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (array(dtype(b"O8", NUMBER), EIGHT), "the state of another dtype"),  # numbers taken for pointers
        (array(dtype(b"O8", OBJECT), EIGHT), "fills an array"),
        (array(dtype(b"i8", NUMBER), EIGHT, b"(I-1\nI-1\nt"), "asks for an array of shape"),
        (array(dtype(b"i8", NUMBER), EIGHT, b"(I2\nt"), "fills an array"),
        (array(dtype(b"V8", b"I3\nV|\nN(Va\nt(dVa\n(" + dtype(b"O8", OBJECT) + b"I0\ntsI8\nI1\nI63\n"), EIGHT),
         "the state of another dtype"),
        (array(dtype(b"i8", NUMBER + b"N"), EIGHT), "the state of another dtype"),  # longer than its own
        (b"cnumpy\ndtype\n((l(Va\nVO\ntatR.", "structured dtype"),
        (b"cnumpy\ndtype\n(Vi4,i4\ntR.", "structured dtype"),
        (b"cnumpy\ndtype\n(V3i4\ntR.", "structured dtype"),
        (b"cnumpy\ndtype\n(tR.", "structured dtype"),
        (b"cnumpy\ndtype\n(Vi4\nI2\ntR.", "structured dtype"),
        (b"cnumpy\nndarray\n(dVshape\nI1\nsb.", "sets the state of builtins.str"),
        (b"cpandas\nDataFrame\n(dVx\nI1\nsb.", "sets the state of pandas.DataFrame"),
        (b"cnumpy\ndtype\n(dVx\nI1\nsb.", "sets the state of flows.inputs.restricted_pickle"),
        (b"cgalsim.bounds\nBoundsI\n(dVxmin\nI1\nsb.", "sets the state of galsim.bounds.BoundsI"),
        (b"cnumpy._core.multiarray\n_reconstruct\n(cpandas\nIndex\n(I0\ntVb\ntR.", "an array of the class"),
    ],
)  # fmt: skip
def test_states_that_would_reach_into_memory_or_change_classes_are_refused(data, problem):
    with pytest.raises(BadInput, match=problem) as caught:
        load_restricted(data, "x.npz")
    assert caught.value.code == "unsafe_pickle"


def test_an_arrow_array_longer_than_its_buffers_is_refused():
    restore, (parts,) = pa.array(["a", "b"]).__reduce__()
    whole = Evil(restore, parts)
    assert load_restricted(pickle.dumps(whole, 5), "x").to_pylist() == ["a", "b"]
    with pytest.raises(BadInput, match="ArrowInvalid") as caught:
        load_restricted(pickle.dumps(Evil(restore, (parts[0], 10**6, *parts[2:])), 5), "x")
    assert caught.value.code == "damaged"
    beyond = pa.py_buffer(np.array([0, 10**6, 2], np.int32))  # only the last offset lies in the text
    buffers = [beyond if one is not None and one.size == 12 else one for one in parts[4]]
    with pytest.raises(BadInput, match="ArrowInvalid"):
        load_restricted(pickle.dumps(Evil(restore, (*parts[:4], buffers, *parts[5:])), 5), "x")
