"""Candidates that merging makes of known sources:
``python -m benchmarks.detection.merging_cases [--draws N] [--seed S]``.

Sources lie in correlated noise, and hits wherever the middle of a window sees one. Prints a table of cases, each with
the share of the draws that gives as many candidates as there are sources; the errors of first estimates; and how many
hits at random places on pure noise give a candidate, by `merge.min_snr`.
"""

import math
from collections import Counter

import numpy as np
from scipy.signal import fftconvolve

from benchmarks.support.command_line import command_line
from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.trail_model import trail_image
from schemas.dia_source import SearchCounts
from schemas.pixels import MaskPlane, SearchGrid
from schemas.settings import MergeSettings
from schemas.stage import Context
from stages.merge import STAGE
from tests.support.exposure import exposure_info
from tests.support.merging import hit_table, hits_over, middles

SIDE, SIGMA, FWHM = 420, 10.0, 2.3
KERNEL = np.outer(*(np.array([0.1, 0.8, 0.1]),) * 2)
KERNEL /= np.sqrt(np.square(KERNEL).sum())
CORRELATION = fftconvolve(KERNEL, KERNEL)


def image(trails, fwhm, rng):
    """Return noise with trails (x, y, length, angle, S/N) in it."""
    pixels = SIGMA * fftconvolve(rng.normal(size=(SIDE + 2, SIDE + 2)), KERNEL, mode="valid")
    psf = moffat_mixture(fwhm, 3.0)
    for x, y, length, angle, snr in trails:
        light = trail_image((SIDE, SIDE), x, y, length, angle, psf)
        pixels += snr * filtered_noise(light, SIGMA, CORRELATION) / np.square(light).sum() * light
    return pixels.astype(np.float32)


def merged(pixels, hits, fwhm=FWHM, disc=0.0, **chosen):
    """Return the candidates; with a masked disc of a radius, px, in the middle."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    mask = np.where(np.hypot(x, y) < disc, np.uint16(MaskPlane.SAT), np.uint16(0))
    info = exposure_info(pixels.shape, fwhm_px=fwhm, noise=SIGMA, noise_correlation=CORRELATION.tolist())
    context = Context(info, settings=MergeSettings(**chosen), numbers={"hit": SearchCounts(len(hits), 0, SearchGrid())})
    return STAGE({"hit": hits, "difference": pixels, "mask": mask}, context).rows.to_pylist()


def log(rng, low, high):
    """Return a number between two, log-uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def single(lengths, snrs):
    """Return a case of one trail."""
    return lambda rng, at: [(*at, rng.uniform(*lengths), rng.uniform(0, 180), log(rng, *snrs))]


def beside(apart, lengths, snrs, turn=0.0):
    """Return a case of two trails, the second beside the first or turned."""

    def draw(rng, at):
        length, angle = rng.uniform(*lengths), rng.uniform(0, 180)
        way = math.radians(angle + 90)
        other = at[0] + apart * math.cos(way), at[1] + apart * math.sin(way)
        turned = angle + (rng.uniform(turn, 180 - turn) if turn else 0.0)
        return [(*at, length, angle, log(rng, *snrs)), (*other, length, turned, log(rng, *snrs))]

    return draw


def dipole(rng, at):
    """Return a source and its own negative, 2 px away."""
    snr, way = log(rng, 20, 200), rng.uniform(0, 2 * math.pi)
    return [(*at, 0.0, 0.0, snr), (at[0] + 2 * math.cos(way), at[1] + 2 * math.sin(way), 0.0, 0.0, -snr)]


def dashes(rng, at):
    """Return four dashes of 12 px in line, at equal steps of 45 px."""
    angle = rng.uniform(0, 180)
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return [(at[0] + t * c, at[1] + t * s, 12.0, angle, log(rng, 20, 40)) for t in (-67.5, -22.5, 22.5, 67.5)]


CASES = {  # name: (what is drawn, FWHM given over the true one, radius of the masked disc, candidates that are right)
    "parallel, 10 px apart; any angle, 15-70 px, S/N 8-60": (beside(10, (15, 70), (8, 60)), 1, 0, 2),
    "one trail of 35-45 px, S/N 8-500": (single((35, 45), (8, 500)), 1, 0, 1),
    "point source, S/N 8-1000": (single((0, 0), (8, 1000)), 1, 0, 1),
    "one trail of 35-45 px, S/N 8-500, PSF 15 % too narrow": (single((35, 45), (8, 500)), 0.85, 0, 1),
    "one trail of 35-45 px, S/N 8-500, PSF 15 % too wide": (single((35, 45), (8, 500)), 1.15, 0, 1),
    "point source, S/N 8-1000, PSF 15 % too narrow": (single((0, 0), (8, 1000)), 0.85, 0, 1),
    "point source, S/N 8-1000, PSF 15 % too wide": (single((0, 0), (8, 1000)), 1.15, 0, 1),
    "crossing trails of 40-60 px, 30 degrees or more, S/N 12-40": (beside(0, (40, 60), (12, 40), 30.0), 1, 0, 2),
    "point sources 15 px apart, S/N 12-40": (beside(15, (0, 0), (12, 40)), 1, 0, 2),
    "negative source": (lambda rng, at: [(*at, 0.0, 0.0, -log(rng, 8, 200))], 1, 0, 0),
    "dipole, 2 px, S/N 20-200": (dipole, 1, 0, 1),
    "200-300 px, S/N 20-200": (single((200, 300), (20, 200)), 1, 0, 1),
    "200-300 px across a masked disc of 24 px, S/N 20-200": (single((200, 300), (20, 200)), 1, 12, 1),
    "60 px across a masked disc of 24 px, S/N 15-60": (single((60, 60), (15, 60)), 1, 12, 1),
    "20-30 px across a masked disc of 10 px, S/N 15-60": (single((20, 30), (15, 60)), 1, 5, 1),
    "four dashes in line, S/N 20-40 each": (dashes, 1, 0, 1),
}


def report_cases(draws, seed):
    """Print the table of cases."""
    print("| case | right | draws that are | others: candidates (draws) |\n|---|---|---|---|")
    for number, (name, (draw, factor, disc, right)) in enumerate(CASES.items()):
        counts = Counter()
        for n in range(draws):
            rng = np.random.default_rng([seed, number, n])
            trails = draw(rng, SIDE / 2 + rng.uniform(-4, 4, 2))
            counts[len(merged(image(trails, FWHM, rng), hits_over(trails, (SIDE, SIDE)), FWHM * factor, disc))] += 1
        others = ", ".join(f"{count} ({n})" for count, n in sorted(counts.items()) if count != right)
        print(f"| {name} | {right} | {counts[right]} of {draws} | {others} |")


def report_estimates(draws, seed):
    """Print the errors of first estimates by length."""
    print("\n| length, px | one candidate | place, px | worst | length, px | angle, deg |\n|---|---|---|---|---|---|")
    for length in (0.0, 8.0, 20.0, 40.0, 60.0):
        errors = []
        for n in range(draws):
            rng = np.random.default_rng([seed, 1000 + int(length), n])
            ((x, y, _, angle, _),) = trails = single((length, length), (10, 100))(rng, SIDE / 2 + rng.uniform(-4, 4, 2))
            found = merged(image(trails, FWHM, rng), hits_over(trails, (SIDE, SIDE)))
            if len(found) == 1:
                (one,) = found
                turn = abs((one["angle"] - angle + 90) % 180 - 90)
                errors.append((math.hypot(one["x"] - x, one["y"] - y), abs(one["length"] - length), turn))
        place, extent, turn = np.median(errors, axis=0)
        turned = f"{turn:.1f}" if length else ""
        worst = np.max(errors, axis=0)[0]
        print(f"| {length:.0f} | {len(errors)} of {draws} | {place:.2f} | {worst:.1f} | {extent:.1f} | {turned} |")


def report_noise(images, seed):
    """Print the share of single hits on pure noise that give a candidate."""
    row, column = (part.ravel() for part in np.meshgrid(*(np.arange(3, len(middles(SIDE)), 6),) * 2))
    hits = hit_table(row, column, np.full(len(row), 3.0))
    print("\n| `merge.min_snr` | hits on noise | candidates |\n|---|---|---|")
    for least in (5.0, 4.5, 4.0):
        pixels = (image([], FWHM, np.random.default_rng([seed, 2000, n])) for n in range(images))
        found = sum(len(merged(one, hits, min_snr=least)) for one in pixels)
        print(f"| {least} | {images * len(row)} | {found} |")


def main():
    """Measure and print."""
    given = command_line(__doc__, draws=50, seed=1)
    report_cases(given.draws, given.seed)
    report_estimates(given.draws, given.seed)
    report_noise(given.draws, given.seed)


if __name__ == "__main__":
    main()
