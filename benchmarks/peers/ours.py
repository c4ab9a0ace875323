"""Our own way, in this process: search of the whole image, merge, measure, all settings as they come."""

from functools import cache

from scipy.special import logit

from flows.bench.catalogue import catalogue_of
from flows.bench.search import fused_logits, fused_net
from flows.bench.shipped_net import shipped_net
from flows.evaluation.published import detections_of
from kernels.fused_dense import has_bfloat16
from kernels.fused_search import FusedSearch


@cache
def _search():
    """The network and the threshold, loaded once; the precision that a run would choose."""
    net, card = shipped_net()
    floor = float(logit(card.threshold))
    return FusedSearch(fused_net(net), "bfloat16" if has_bfloat16() else "float32", floor), floor


def ours(exposure):
    """Streaks on one exposure."""
    search, floor = _search()
    return detections_of(catalogue_of(exposure, fused_logits(exposure.pixels, search), floor))
