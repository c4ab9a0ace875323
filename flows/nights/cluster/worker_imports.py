"""Imports of a worker: all that its tasks need, loaded once by the process that workers are forked from.

Modules import heavy libraries where they use them; here these are named, so that no worker loads them by itself. What
imports make is never garbage, and the collector, which would look through all of it again and again, waits meanwhile.
Compiled code is loaded by a search of a small image, on the processor: workers have it at once, and share it.
"""

# ruff: noqa: E402, F401
import gc
import os
from contextlib import suppress

from flows.nights.cluster.local import FORKED

gc.disable()
if FORKED.items() <= os.environ.items():
    with suppress(PermissionError):
        os.setsid()  # Ctrl-C, and signals to the group of the command, are for the command, which ends its workers

import astropy.coordinates
import astropy.wcs.utils
import astropy_healpix
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
from flows.nights.cluster.warm_up import compile_apart, warm_up_ahead
from kernels.compiled import KERNELS

with suppress(ImportError):
    import pandas  # pyarrow loads it if it is there

with suppress(Exception):  # where it is needed the same error is raised again
    compile_apart()
    warm_up_ahead()
for kernel in KERNELS:
    kernel.dispatcher  # noqa: B018 made once for all workers

gc.freeze()
gc.enable()
