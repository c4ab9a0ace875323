"""Imports of a worker: all that its tasks need, loaded once by the process that workers are forked from.

Modules import heavy libraries where they use them; here these are named, so that no worker loads them by itself. What
imports make is never garbage, and the collector, which would look through all of it again and again, waits meanwhile.
"""

# ruff: noqa: E402, F401
import gc
from contextlib import suppress

gc.disable()

import astropy.coordinates
import astropy.wcs.utils
import astropy_healpix
import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.optimize
import scipy.sparse.csgraph
import scipy.spatial
import scipy.special
import torch
import zarr

import flows.inputs.ingest
import flows.nights.cluster.cluster
import flows.nights.exposure_work
import flows.nights.patches
import kernels.measure.reliability_net
import kernels.search.detector_weights
from kernels.compiled import KERNELS
from kernels.image.order_statistic import median

with suppress(ImportError):
    import pandas  # pyarrow loads it if it is there

# The first call of a compiled function loads half of numba; this one starts no threads, which a fork would lose.
median(np.zeros(1))
for kernel in KERNELS:
    kernel.dispatcher  # noqa: B018 made once for all workers

gc.freeze()
gc.enable()
