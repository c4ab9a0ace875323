"""From the labels of an archive to our classes, and what has no class counted."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Mapped(NamedTuple):
    """Labels with their classes.

    Attributes
    ----------
    code : (n,) int16
        Index of the class; -1 where the label has none.
    unknown
        Label -> how many rows have it, of those without a class, most frequent first.
    """

    code: NDArray[np.int16]
    unknown: dict[str, int]


def map_labels(raw: pa.Array | pa.ChunkedArray, rule: Callable[[str], str | None], classes: Sequence[str]) -> Mapped:
    """Map labels by a rule, once per different label.

    Parameters
    ----------
    raw
        Strings as the archive gives them; null counts as the empty label.
    rule
        From a label without outer blanks to a class, or None.
    classes
        All that the rule gives, in the order of the codes.
    """
    combined = raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw
    encoded = combined.cast(pa.string()).fill_null("").dictionary_encode()
    labels = [label.strip() for label in encoded.dictionary.to_pylist()]
    found = [rule(label) for label in labels]
    codes = np.array([-1 if one is None else classes.index(one) for one in found], np.int16)
    index = encoded.indices.to_numpy()
    count = np.bincount(index, minlength=len(labels))
    unknown: dict[str, int] = {}
    for label, code, rows in zip(labels, codes, count, strict=True):
        if code < 0:
            unknown[label] = unknown.get(label, 0) + int(rows)
    order = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    return Mapped(codes[index] if len(labels) else np.empty(0, np.int16), dict(order))
