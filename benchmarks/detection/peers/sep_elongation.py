"""Source extraction with `sep`, elongated sources taken for streaks.

Background, convolution, least area, deblending and cleaning as they come; threshold and least elongation are the
arguments. The score is the S/N of the pixels above the threshold.
"""

import numpy as np
import sep

from flows.results.evaluation.evaluate import Detections

THRESHOLD = 3.0
"""Threshold, in units of the noise; sep's tutorial has 1.5, with thousands of false sources on a difference image."""

ELONGATION = 2.0


def sep_streaks(exposure, threshold=THRESHOLD, elongation=ELONGATION):
    """Return the elongated sources on one exposure."""
    bad = ~exposure.pixels.usable
    image = np.ascontiguousarray(exposure.difference)
    background = sep.Background(image, mask=bad)
    sep.set_extract_pixstack(2_000_000)
    found = sep.extract(image - background, threshold, err=background.globalrms, mask=bad)
    found = found[found["a"] >= elongation * found["b"]]
    snr = found["flux"] / (background.globalrms * np.sqrt(np.maximum(found["npix"], 1)))
    length = found["xmax"] - found["xmin"], found["ymax"] - found["ymin"]
    angle = np.degrees(found["theta"]) % 180
    return Detections(found["x"], found["y"], snr, snr, np.hypot(*length).astype(float), angle)
