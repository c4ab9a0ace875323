"""Speed of the model for stars and galaxies, in objects per second.

``python -m benchmarks.catalogues.star_galaxy [--objects N] [--threads T] [--device cuda]`` prints seconds of the
processor and of the clock for cutouts of four bands with their PSFs, and of which steps they are. Seconds of the
processor hold on a busy machine too. With ``--device cuda`` the networks run on the GPU, the measurements on the
processor.
"""

import time

import numba
import numpy as np
import torch

from benchmarks.support.command_line import command_line
from flows.pipeline.models import load_model
from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import DEEP
from kernels.objects.cutout_features import band_views, make_planes

PART = 500


def timed(work, parts):
    """Return seconds of the clock and of the processor, over all parts."""
    clock, processor = time.perf_counter(), time.process_time()
    for part in parts:
        work(part)
    return time.perf_counter() - clock, time.process_time() - processor


def main():
    options = command_line(__doc__, objects=10_000, threads=1, device=("cpu", "cpu or cuda: of the networks."))
    torch.set_num_threads(options.threads)
    numba.set_num_threads(options.threads)
    cutouts = draw_field(DEEP, 1, 0, PART).cutouts
    parts = [cutouts] * (options.objects // PART)
    model = load_model("star_galaxy", "multi_band")
    model(cutouts)  # compiles
    views = band_views(make_planes(cutouts, 4, 26))
    steps = {
        "planes": lambda part: make_planes(part, 4, 26),
        "measurements": lambda part: band_views(make_planes(part, 4, 26)),
        "all": model,
    }
    if options.device != "cpu":
        steps = {"network": network(model, views, options.device)}
    for name, work in steps.items():
        clock, processor = timed(work, parts)
        count = PART * len(parts)
        print(
            f"{name}: {count} objects, {clock:.2f} s, {processor:.2f} s of the processor, {count / clock:.0f} objects/s"
        )


def network(model, views, device):
    """Return a function of the networks alone, pictures copied to the device each time."""
    nets = [net.to(device) for net in model.nets]

    def work(_):
        inputs = [torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in views]
        with torch.inference_mode():
            torch.stack([net(*inputs)[0] for net in nets]).mean(0).cpu()

    return work


if __name__ == "__main__":
    main()
