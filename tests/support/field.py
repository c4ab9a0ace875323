"""Fields without files."""

import numpy as np

from flows.training.examples import TrainingField, truth_targets
from tests.support.exposure import exposure_info
from tests.support.truth import truth_table


def field_of(pixels, rows=(), usable=None, noise=1.0):
    """Make a field of pixels and `truth_table` rows; PSF of 2.2 px, white noise, no photon noise."""
    truth = truth_table(list(rows))
    info = exposure_info(pixels.shape, fwhm_px=2.2, noise=noise)
    usable = np.ones(pixels.shape, bool) if usable is None else usable
    return TrainingField("test", info, pixels.astype(np.float32), usable, truth_targets(truth), truth["snr"].to_numpy())
