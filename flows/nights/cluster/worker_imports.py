"""Imports of a worker: everything its tasks need, loaded once in the process that workers are forked from.

Modules import heavy libraries where they use them; they are listed here so that no worker loads them itself. Objects
made by imports are never garbage, so the collector, which would scan them again and again, is off meanwhile. A search
of a small image on the CPU loads the compiled code, which workers then share.
"""

# ruff: noqa: E402, F401
import gc
import os
from contextlib import suppress

from flows.nights.cluster.local import FORKED

gc.disable()
if FORKED.items() <= os.environ.items():
    with suppress(PermissionError):
        os.setsid()  # Ctrl-C and signals to the process group are for the command, which ends its workers

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
    import pandas  # pyarrow loads it if installed

with suppress(Exception):  # the same error is raised again where it matters
    compile_apart()
    warm_up_ahead()
for kernel in KERNELS:
    kernel.dispatcher  # noqa: B018 made once for all workers

gc.freeze()
gc.enable()
