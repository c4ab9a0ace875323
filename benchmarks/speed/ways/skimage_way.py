"""Windows from `skimage.util.view_as_windows`."""

from skimage.util import view_as_windows

from benchmarks.speed.ways.standardise import filled, score_view


def skimage_logits(pixels, net):
    """Log odds of every window."""
    shape = (pixels.side, pixels.side)
    windows = view_as_windows(filled(pixels), shape, pixels.stride)
    return score_view(windows, view_as_windows(pixels.usable, shape, pixels.stride), net)
