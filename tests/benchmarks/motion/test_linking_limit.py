import numpy as np
import pytest
from scipy.stats import norm

from benchmarks.motion.linking import MOVERS, SIDE
from benchmarks.motion.linking_limit import limit, spread


@pytest.mark.parametrize("across", [0.0, 0.0005])
def test_the_limit_is_that_of_drawn_tracklets_in_the_order_of_their_likelihood_ratio(across):
    """Unrelated tracklets are drawn uniformly in the plane and within 5 standard deviations of the way."""
    rng, density, longest, count = np.random.default_rng(0), 10.0, 2.5 * 3600, 400_000
    ways = np.exp(rng.uniform(np.log(15), np.log(longest), count)), longest * np.sqrt(rng.random(count))
    offsets = rng.normal(0, spread(ways[0], across)), spread(ways[1], across) * rng.uniform(-5, 5, (2, count))
    box = 100 * np.prod(spread(ways[1], across), axis=0)  # arcsec2
    pairs = density * SIDE**2 * density * np.pi * (longest / 3600) ** 2
    weight = pairs * density * box / 3600**2 / count

    def likelihood(way, offset):
        return norm.pdf(offset, scale=spread(way, across)).prod(axis=0) / way**2

    ratio = np.concatenate([likelihood(*one) for one in zip(ways, offsets, strict=True)])
    order = np.argsort(-ratio)
    true = np.cumsum(np.append(np.full(count, MOVERS / count), np.zeros(count))[order])
    false = np.cumsum(np.append(np.zeros(count), weight)[order])
    last = np.flatnonzero(true >= 0.98 * (true + false))[-1]
    assert limit(density, across, purity=0.98) == pytest.approx((true[last] / MOVERS, false[last]), abs=0.01)
