"""Stage: merging of all hits on the same streak into one candidate."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.image.cutouts import Crop, cut_crop
from kernels.image.noise import Noise, filtered_noise
from kernels.image.pixel_state import usable_pixels
from kernels.image.variation import evened
from kernels.measure.vetoes.evidence import is_line_artefact
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.sky.projection import celestial_wcs, pixel_scale
from kernels.trails.candidates import Candidate, assign_hits, group_hits, join_glints, split_hits, unite
from kernels.trails.geometry import LONG, DetectedSegment, distance, overlap
from kernels.trails.long_trail import Frame, erase_trail, grow_trail
from kernels.trails.matching_pursuit import Optics, Windows, pursue_trails
from kernels.trails.satellites import Classified, classify_satellites, longest_asteroid, wing_radius
from kernels.trails.scene import Scene
from kernels.trails.trail_ascent import evenness
from kernels.trails.trail_bank import best_trail, longest_only, point_snr, trail_bank
from kernels.trails.trail_model import trail_image
from schemas.dataset import DatasetError
from schemas.dia_source import HIT, STREAK, SearchCounts, most_hits
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo
from schemas.pixels import DIFFERENCE, MASK, SearchGrid
from schemas.settings import MergeSettings
from schemas.stage import Context, Stage, as_found, piecewise_memory

_LINK = 14.0  # px between hits of one group
_CELL = 112.0  # px: larger groups are processed in pieces
_CLAIM = 0.75  # of the side of a window: a long trail owns hits whose centre is this close
_REPEAT = 0.75  # share of a piece
_SEED_SNR = 6.0  # of 60 px of a long trail, stars clipped
_SEED_CLIP = 4.0  # S/N of a pixel at which stars are clipped
_EVEN = 0.6  # least share of bright pixels among those 60 px
_SEEDS = 4  # starting points tried in a cell
_MOST = 1e9  # times the noise: larger values, such as fill values, would swamp float32 sums


@dataclass(frozen=True)
class _Hits:
    """Hits in order of the grid, with the centres of their windows, their claim, and the step of the grid, px."""

    row: NDArray[np.int32]
    column: NDArray[np.int32]
    logit: NDArray[np.float32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    claim: int
    stride: int

    def take(self, chosen: NDArray[Any]) -> "_Hits":
        """Return the chosen hits."""
        row, column, logit = self.row[chosen], self.column[chosen], self.logit[chosen]
        return _Hits(row, column, logit, self.x[chosen], self.y[chosen], self.claim, self.stride)

    def steps(self, distance: float) -> int:
        """Return the number of steps of the grid in a distance, px."""
        return max(1, round(distance / self.stride))


class _Followed(NamedTuple):
    """Line followed to its ends, the reach of its light on either side, px, and whether it is a trail or only spots."""

    segment: DetectedSegment
    width: float
    is_trail: bool


class _Scene(NamedTuple):
    """Pixels of the exposure, the filters for it, and the rows of spots that were followed."""

    frame: Frame
    background: float
    optics: Optics
    spotted: tuple[_Followed, ...] = ()


def merge(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the candidates that explain the hits.

    Parameters
    ----------
    inputs
        ``hit``, and ``difference`` and ``mask`` of the whole exposure.
    context
        ``exposure`` (PSF, noise, background), ``settings`` (`MergeSettings`), and ``numbers["hit"]`` (`SearchCounts`),
        whose grid locates the hits.

    Returns
    -------
    table
        `STREAK`, sorted by y, then x. Each hit counts for at most one candidate. Candidates without hits are left out,
        as are hits without significant positive light beneath them.

    Raises
    ------
    BadInput
        Code ``flood``: there are more candidates than ``max_candidates``, or too many hits.
    DatasetError
        The pixels do not have the shape of the exposure, or the hits have no grid.
    """
    exposure, settings = context.exposure, context.settings
    if exposure is None:
        raise DatasetError("stage 'merge' needs an exposure. To fix, give it in the context.")
    if not inputs["difference"].shape == inputs["mask"].shape == exposure.shape:
        raise DatasetError(
            f"exposure {exposure.name} is {exposure.shape}, got pixels of {inputs['difference'].shape} and a "
            f"mask of {inputs['mask'].shape}. To fix, give the whole exposure."
        )
    if not len(inputs["hit"]):
        return STREAK.empty()
    counts = context.numbers.get(HIT.name)
    if not isinstance(counts, SearchCounts):
        raise DatasetError("stage 'merge' needs the grid of the hits. To fix, give their SearchCounts in the context.")
    hits = _read_hits(inputs["hit"], counts.grid)
    _refuse_flood(len(hits.row), most_hits(exposure.shape), "windows above the threshold", exposure)
    scene = _scene(inputs["difference"], inputs["mask"], exposure, context.allocate)
    scene, candidates, rest = _take_long(scene, hits)
    for piece, group in _pieces(rest):
        candidates += _search_piece(scene, piece, group, settings.min_snr)
        _refuse_flood(len(candidates), settings.max_candidates, "candidates", exposure)
    doubtful = _doubtful(candidates, scene, inputs["mask"])
    joined = join_glints(candidates, doubtful, exposure.psf.fwhm_px, float(np.prod(exposure.shape)))
    united = unite(joined, exposure.psf.fwhm_px)
    longest = longest_asteroid(exposure.exposure_time_s, _pixel_scale(united, exposure), exposure.shape)
    return _table(classify_satellites(united, inputs["mask"], longest, scene.optics.psf, exposure.psf.fwhm_px))


def _refuse_flood(count: int, most: int, what: str, exposure: ExposureInfo) -> None:
    if count > most:
        raise BadInput(
            "flood",
            f"exposure {exposure.name}",
            f"at least {count} {what}, more than {most}.",
            "look at the difference image for a failed subtraction; merge.max_candidates sets the limit of candidates.",
        )


def _read_hits(table: pa.Table, grid: SearchGrid) -> _Hits:
    row, column, logit = (table[name].to_numpy() for name in ("row", "column", "logit"))
    order = np.lexsort((logit, column, row))
    row, column, logit = row[order], column[order], logit[order]
    half = 0.5 * (grid.window - 1)
    x, y = column * float(grid.stride) + half, row * float(grid.stride) + half
    return _Hits(row, column, logit, x, y, grid.claim, grid.stride)


def _scene(
    image: NDArray[np.float32], mask: NDArray[np.uint16], exposure: ExposureInfo, allocate: Callable[..., Any]
) -> _Scene:
    psf = moffat_mixture(exposure.psf.fwhm_px, exposure.psf.beta)
    correlation = np.array(exposure.noise_correlation)
    fwhm = exposure.psf.fwhm_px
    bank = trail_bank(psf, fwhm, exposure.noise, correlation)
    side = math.ceil(LONG + 6 * fwhm)
    line = trail_image((side, side), side / 2, side / 2, LONG, 0.0, psf)
    noise = filtered_noise(line, exposure.noise, correlation) / math.sqrt(float(np.square(line).sum()))
    usable = usable_pixels(image, mask, allocate)
    frame = Frame(evened(image, exposure.background, exposure.noise_variation), usable, noise, fwhm)
    return _Scene(frame, exposure.background, Optics(psf, fwhm, bank))


def _pieces(hits: _Hits) -> list[tuple[_Hits, _Hits]]:
    """Return the groups of hits, with large groups cut into cells, and the group of each piece."""
    return [(piece, group) for group in _groups(hits) for piece in (_cells(group) if _is_large(group) else [group])]


def _groups(hits: _Hits) -> list[_Hits]:
    return _split(hits, group_hits(hits.row, hits.column, hits.steps(_LINK)))


def _split(hits: _Hits, label: NDArray[np.intp]) -> list[_Hits]:
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    return [hits.take(chosen) for chosen in np.split(order, cuts) if len(chosen)]


def _cells(hits: _Hits) -> list[_Hits]:
    return _split(hits, split_hits(hits.row, hits.column, hits.steps(_CELL)))


def _is_large(hits: _Hits) -> bool:
    return max(int(np.ptp(hits.row)), int(np.ptp(hits.column))) >= hits.steps(_CELL)


def _crop(scene: _Scene, hits: _Hits) -> Crop:
    """Return the pixels around a group of hits."""
    half, margin = hits.claim // 2, scene.optics.bank.reach
    x, y = np.floor(hits.x).astype(int), np.floor(hits.y).astype(int)
    box = (
        int(y.min()) - half - margin,
        int(y.max()) + half + margin + 2,
        int(x.min()) - half - margin,
        int(x.max()) + half + margin + 2,
    )
    most = _MOST * scene.frame.noise
    return cut_crop(scene.frame.image, scene.frame.usable, scene.background, box, most)


def _windows(crop: Crop, hits: _Hits) -> NDArray[np.bool_]:
    """Return which pixels of a crop lie inside the windows of hits; windows may lie outside the crop."""
    half, (ny, nx) = hits.claim // 2, crop.data.shape
    inside = np.zeros((ny, nx), np.bool_)
    x, y = np.floor(hits.x).astype(int) - crop.x0, np.floor(hits.y).astype(int) - crop.y0
    near = (np.minimum(x, y) >= -half) & (x < nx + half) & (y < ny + half)
    for px, py in zip(x[near], y[near], strict=True):
        inside[max(py - half + 1, 0) : py + half + 1, max(px - half + 1, 0) : px + half + 1] = True
    return inside


def _take_long(scene: _Scene, hits: _Hits) -> tuple[_Scene, list[Candidate], _Hits]:
    """Return the trails longer than a cell and the remaining hits, and make the pixels of these trails unusable."""
    followed: list[_Followed] = []
    for group in _groups(hits):
        for cell in _cells(group) if _is_large(group) else []:
            followed += _seek_long(scene, cell, followed)
    long = [one for one in followed if one.is_trail]
    scene = scene._replace(spotted=tuple(one for one in followed if not one.is_trail))
    nearest, owner = np.full(len(hits.x), np.inf), np.full(len(hits.x), -1)
    for number, one in enumerate(long):
        apart = distance(hits.x, hits.y, one.segment)
        nearer = (apart < nearest) & (apart <= max(one.width, _CLAIM * hits.claim))
        nearest[nearer], owner[nearer] = apart[nearer], number
    return scene, _with_hits([one.segment for one in long], hits, owner), hits.take(owner < 0)


def _seek_long(scene: _Scene, cell: _Hits, known: Sequence[_Followed]) -> list[_Followed]:
    """Follow each long trail that starts in a cell or crosses it, once."""
    bank, fwhm = longest_only(scene.optics.bank), scene.frame.fwhm_px
    crop = _crop(scene, cell)
    allowed = _windows(crop, cell)
    snr = np.clip(point_snr(crop.data, bank), -_SEED_CLIP, _SEED_CLIP)
    rows, columns = (np.arange(size, dtype=float) for size in snr.shape)
    found: list[_Followed] = []
    for _ in range(_SEEDS):
        seed = best_trail(snr, allowed, bank)
        if seed.snr < _SEED_SNR:
            break
        even, seed = evenness(snr, seed) >= _EVEN, seed.shifted(crop.x0, crop.y0)
        trail, width = seed, 2 * fwhm
        if even and not any(_repeats(seed, one) for one in (*known, *found) if not one.is_trail):
            grown = grow_trail(scene.frame, seed)
            reach = max(width, grown.half_width + 1)
            if grown.is_trail and grown.segment.length >= LONG and grown.segment.snr >= _SEED_SNR:
                trail, width = grown.segment, max(reach, wing_radius(grown.segment, scene.optics.psf, fwhm))
                erase_trail(scene.frame.usable, trail, width)
                if not any(one.is_trail and _is_wing(trail, one.segment, fwhm) for one in (*known, *found)):
                    found.append(_Followed(trail, width, True))
            elif grown.segment.length >= 2 * LONG:
                found.append(_Followed(grown.segment, reach, False))
        snr[distance(columns + crop.x0, rows[:, None] + crop.y0, trail) <= width] = 0
    return found


def _repeats(piece: DetectedSegment, known: _Followed) -> bool:
    """Return whether a piece lies on a known row of spots, which following it would find again."""
    return overlap(piece, known.segment, known.width) >= _REPEAT


def _is_wing(trail: DetectedSegment, brighter: DetectedSegment, fwhm_px: float) -> bool:
    """Return whether a trail is a residual beside a much brighter one."""
    return trail.snr < 0.05 * brighter.snr and overlap(trail, brighter, 8 * fwhm_px) > 0.5


def _search_piece(scene: _Scene, hits: _Hits, group: _Hits, min_snr: float) -> list[Candidate]:
    """Search the windows of hits: a whole group, or neighbours within it."""
    crop = _crop(scene, hits)
    windows = Windows(_windows(crop, hits), _windows(crop, group))
    found = pursue_trails(crop.data, crop.usable, windows, scene.optics, min_snr, len(hits.row))
    trails = [_extended(scene, trail.shifted(crop.x0, crop.y0)) for trail in found]
    return _with_hits(trails, hits, assign_hits(hits.x, hits.y, hits.claim, trails))


def _extended(scene: _Scene, trail: DetectedSegment) -> DetectedSegment:
    """Follow a trail that may be longer than the longest template."""
    if trail.length < LONG or any(_repeats(trail, one) for one in scene.spotted):
        return trail
    grown = grow_trail(scene.frame, trail)
    better = grown.is_trail and grown.segment.length >= 0.9 * trail.length
    return grown.segment if better else trail


def _with_hits(trails: Sequence[DetectedSegment], hits: _Hits, owner: NDArray[np.intp]) -> list[Candidate]:
    """Return the candidates of the trails that own hits."""
    logits = (tuple(float(value) for value in hits.logit[owner == i]) for i in range(len(trails)))
    return [Candidate(trail, own) for trail, own in zip(trails, logits, strict=True) if own]


def _doubtful(candidates: Sequence[Candidate], seen: _Scene, mask: NDArray[np.uint16]) -> list[bool]:
    """Return which candidates are spikes, bleeds or columns, which may lie in line without being flashes."""
    (image, usable, noise, fwhm), white = seen.frame, np.ones((1, 1))
    scene = Scene(image, usable, seen.optics.psf, fwhm, Noise(noise, white), seen.background)
    return [is_line_artefact(scene, mask, candidate.trail.line) for candidate in candidates]


def _pixel_scale(candidates: Sequence[Candidate], exposure: ExposureInfo) -> float | None:
    """Return the pixel scale, arcsec / px; None if it is not known or not needed."""
    if exposure.wcs_header is None or all(one.trail.length < LONG for one in candidates):
        return None
    try:
        return pixel_scale(celestial_wcs(exposure.wcs_header))
    except ValueError:
        return None  # reported by measure


def _table(classified: Sequence[Classified]) -> pa.Table:
    chosen = sorted(classified, key=lambda one: (one.candidate.trail.y, one.candidate.trail.x))
    ordered = [one.candidate for one in chosen]
    trails = [candidate.trail for candidate in ordered]
    columns = {name: [getattr(trail, name) for trail in trails] for name in ("x", "y", "length", "angle", "snr")}
    # Exact sums do not depend on the order of the hits.
    columns["logitSum"] = [math.fsum(candidate.logits) for candidate in ordered]
    columns["logitPeak"] = [max(candidate.logits) for candidate in ordered]
    columns["nHits"] = [len(candidate.logits) for candidate in ordered]
    columns["trailClass"] = [one.trail_class for one in chosen]
    columns["halfWidth"] = [one.half_width for one in chosen]
    return pa.table(columns, schema=STREAK.schema)


STAGE = Stage(
    name="merge",
    version="12",
    per="exposure",
    needs=(HIT, DIFFERENCE, MASK),
    gives=STREAK,
    run=merge,
    settings=MergeSettings,
    memory=piecewise_memory,
    warm_up=as_found,
)
