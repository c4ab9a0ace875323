"""Rows of an evaluation that follow from its numbers."""

import numpy as np

from flows.results.evaluation.evaluate import ROWS


def rows_of(found, false, **rows):
    """Detections by what they are: all that is false is an artefact."""
    return dict.fromkeys(ROWS, 0) | {"streak": int(np.sum(found)), "artefact": false} | rows
