"""Fields without files."""

import numpy as np

from flows.training.examples import TrainingField, truth_targets
from schemas.exposure import ExposureInfo, PsfModel
from tests.support.truth import truth_table


def field_of(pixels, rows=(), usable=None, noise=1.0):
    """Make a field of pixels and `truth_table` rows; PSF of 2.2 px, white noise, no photon noise."""
    truth = truth_table(list(rows))
    info = ExposureInfo(
        night="20260101", visit=1, detector=0, instrument="test", band="r", midpoint_mjd_tai=61000.0,
        exposure_time_s=30, shape=pixels.shape, psf=PsfModel(fwhm_px=2.2), background=0.0, noise=noise,
        source_uri="", source_sha256="",
    )  # fmt: skip
    usable = np.ones(pixels.shape, bool) if usable is None else usable
    return TrainingField("test", info, pixels.astype(np.float32), usable, truth_targets(truth), truth["snr"].to_numpy())
