import numpy as np
import pyarrow as pa

from schemas.label_map import map_labels
from schemas.superclass import SUPERCLASSES, superclass


def test_codes_and_what_has_none():
    raw = pa.chunked_array([["STAR", " GALAXY ", None], ["?", "QSO", "?"]])
    code, unknown = map_labels(raw, superclass, SUPERCLASSES)
    np.testing.assert_array_equal(code, [0, 1, -1, -1, 2, -1])
    assert unknown == {"?": 2, "": 1}
    assert list(unknown) == ["?", ""]


def test_labels_that_differ_in_blanks_are_counted_together():
    assert map_labels(pa.array(["x", "x  "]), superclass, SUPERCLASSES).unknown == {"x": 2}


def test_nothing():
    code, unknown = map_labels(pa.array([], pa.string()), superclass, SUPERCLASSES)
    assert code.shape == (0,)
    assert unknown == {}


def test_each_label_is_looked_at_once():
    seen = []
    map_labels(pa.array(["a", "b"] * 1000), lambda label: seen.append(label), SUPERCLASSES)
    assert seen == ["a", "b"]
