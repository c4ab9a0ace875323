"""Candidates without exposures."""

import numpy as np

from flows.training.candidates import Labelled
from flows.training.examples import truth_targets
from kernels.measure.reliability import STAMP_CHANNELS, STAMP_SIDE
from schemas.dia_source import FEATURES
from tests.support.truth import truth_table


def exposure(seed, real=15, false=40):
    """Streaks and false candidates that differ in the first two features and in brightness; all S/N are 20."""
    rng = np.random.default_rng(seed)
    label = np.repeat([1, 0], [real, false])
    features = rng.normal(size=(real + false, len(FEATURES))).astype(np.float32)
    features[:, 0] += 2.0 * label
    features[:, 1] += 4.0 * label
    stamps = rng.normal(size=(real + false, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE))
    stamps[:, 0, 12:20, 14:18] += 1.0 * label[:, None, None]
    rows = [("streak", 30.0 * n, 50.0, 3.0, 0.0, 20.0, 1.0) for n in range(real)]
    target = np.where(label == 1, np.arange(real + false), -1)
    targets = truth_targets(truth_table(rows))
    stamps = stamps.astype(np.float16)
    snr, classed = np.full(real + false, 20.0), np.zeros(real + false, bool)
    return Labelled(features, stamps, label, target, targets, snr[:real], snr, classed)
