"""What a night measures in each band of each instrument."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.quality.exposures import Looked
from flows.report.sky import compass, depth
from kernels.feature_bins import FEATURES
from schemas.quality import BandMeasures, Measure, Sketch
from schemas.recovery import Limit, Recovery

Floats = NDArray[np.float64]


def measure(exposures: Sequence[Looked], recoveries: Sequence[Recovery]) -> tuple[BandMeasures, ...]:
    """Measure a night.

    Parameters
    ----------
    exposures
        Those of the night that are looked at.
    recoveries
        What came back of its synthetic streaks.

    Returns
    -------
    tuple
        By instrument and band.
    """
    groups: dict[tuple[str, str], list[Looked]] = {}
    for one in exposures:
        groups.setdefault((one.info.instrument, one.info.band), []).append(one)
    limits = {one.band: one for one in recoveries if one.band is not None and one.detector is None}
    alone = len({instrument for instrument, _ in groups}) == 1
    return tuple(
        _band(instrument, band, groups[instrument, band], limits.get(band) if alone else None)
        for instrument, band in sorted(groups)
    )


def _band(instrument: str, band: str, exposures: list[Looked], recovery: Recovery | None) -> BandMeasures:
    searches = {one.search for one in exposures}
    return BandMeasures(
        instrument=instrument,
        band=band,
        exposures=len(exposures),
        search=searches.pop() if len(searches) == 1 else "",
        models=tuple(sorted({model for one in exposures for model in one.models})),
        measures=(*_of_images(exposures), *_of_copies(recovery), *_of_detections(exposures)),
        sketches=tuple(_sketches(exposures)),
    )


def _of_images(exposures: list[Looked]) -> Iterator[Measure]:
    infos = [one.info for one in exposures]
    told = [info for info in infos if info.psf.source != "assumed"]
    scales = [directions.scale if (directions := compass(info)) else None for info in told]
    if any(scale is None for scale in scales):
        yield _median("seeing", "px", [info.psf.fwhm_px for info in told], "the PSFs are assumed")
    else:
        widths = [info.psf.fwhm_px * (scale or 0) for info, scale in zip(told, scales, strict=True)]
        yield _median("seeing", "arcsec", widths, "the PSFs are assumed")
    depths = [deep for info in infos if (deep := depth(info)) is not None]
    yield _median("depth", "mag", depths, "no zero point")
    yield _median("zero_point", "mag", [info.zero_point for info in infos if info.zero_point is not None], "not given")
    yield _median("noise", infos[0].pixel_unit, [info.noise for info in infos], "")


def _median(metric: str, unit: str, values: Sequence[float], reason: str) -> Measure:
    """Give the median with its standard error, that of a Gaussian sample: sqrt(pi / 2) std / sqrt(n)."""
    if not values:
        return Measure(metric=metric, unit=unit, n=0, reason=reason)
    error = math.sqrt(math.pi / 2 / len(values)) * float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Measure(metric=metric, unit=unit, n=len(values), value=float(np.median(values)), error=error)


def _of_copies(recovery: Recovery | None) -> Iterator[Measure]:
    magnitudes = recovery.magnitude[:1] if recovery is not None else ()
    yield _limit("limiting_magnitude", "mag", magnitudes[0].limit if magnitudes else None)
    yield _limit("snr_of_half", "", recovery.snr if recovery is not None else None)


def _limit(metric: str, unit: str, limit: Limit | None) -> Measure:
    if limit is None or limit.value is None or limit.interval is None:
        reason = limit.reason if limit is not None else "no synthetic streaks"
        return Measure(metric=metric, unit=unit, n=limit.n if limit is not None else 0, reason=reason)
    error = (limit.interval[1] - limit.interval[0]) / (2 * 1.96)  # half of a 95 % interval, in sigma
    return Measure(metric=metric, unit=unit, n=limit.n, value=limit.value, error=error)


def _of_detections(exposures: list[Looked]) -> Iterator[Measure]:
    rows = _rows(exposures)
    # Satellites are published whatever their reliability: that of theirs says nothing of the search.
    streaks = rows.filter(pc.equal(rows["trailClass"], ""))
    doubt = 1 - streaks["reliability"].to_numpy().astype(np.float64)
    yield _rate("detections", rows.num_rows, math.sqrt(rows.num_rows), len(exposures))
    yield _rate("expected_false", float(doubt.sum()), math.sqrt(float(doubt.sum())), len(exposures))
    if any(not one.record.causes for one in exposures):
        for metric in ("refused", "cosmic_rays"):
            yield Measure(metric=metric, unit="per exposure", n=0, reason="the causes were not counted")
        return
    causes = [{name: counted.refused for name, counted in one.record.causes.items()} for one in exposures]
    for metric, counts in (("refused", _sums(causes)), ("cosmic_rays", [one.get("cosmic_ray", 0) for one in causes])):
        yield _rate(metric, sum(counts), math.sqrt(sum(counts)), len(exposures))


def _sums(causes: Sequence[Mapping[str, int]]) -> list[int]:
    return [sum(one.values()) for one in causes]


def _rate(metric: str, total: float, error: float, exposures: int) -> Measure:
    """Give a number per exposure, with the error of counting; of nothing it is that of one."""
    return Measure(
        metric=metric,
        unit="per exposure",
        n=exposures,
        value=total / exposures,
        error=max(error, 1.0) / exposures,
    )


def _rows(exposures: list[Looked]) -> pa.Table:
    return pa.concat_tables([one.sources for one in exposures])


def _sketches(exposures: list[Looked]) -> Iterator[Sketch]:
    rows = _rows(exposures)
    rows = rows.filter(pc.equal(rows["trailClass"], ""))
    values: dict[str, Floats] = {
        name: rows[name].to_numpy(zero_copy_only=False).astype(np.float64)
        for name in FEATURES
        if name in rows.column_names
    }
    chi2, pixels = (
        rows[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("trailChi2", "trailNdata")
    )
    values["reducedChi2"] = chi2[pixels > 5] / (pixels[pixels > 5] - 5)  # five parameters are fitted
    for name, bins in FEATURES.items():
        counts = bins.histogram(values[name])
        filled = np.flatnonzero(counts)
        yield Sketch(feature=name, counts=tuple((int(place), int(counts[place])) for place in filled))
