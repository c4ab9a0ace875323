"""The verdicts on a night, from what it and earlier nights measured."""

from collections.abc import Sequence

from flows.quality.drift import drifts
from flows.quality.gates import gates
from schemas.quality import BandMeasures, BandQuality, QualityRecord, worst
from schemas.quality_settings import QualitySettings


def judge(
    measured: Sequence[BandMeasures], earlier: Sequence[QualityRecord], settings: QualitySettings
) -> tuple[BandQuality, ...]:
    """Judge a night band by band.

    Parameters
    ----------
    measured
        What it measured.
    earlier
        Records of earlier nights, the latest last.
    settings
        Limits.
    """
    return tuple(_band(now, earlier, settings) for now in measured)


def _band(now: BandMeasures, earlier: Sequence[QualityRecord], settings: QualitySettings) -> BandQuality:
    nights = [(one.night, found) for one in earlier if (found := one.of(now.instrument, now.band))]
    nights = nights[-settings.history_nights :]
    reference = [(night, found) for night, found in nights if now.search and found.search == now.search]
    gated = tuple(gates(now, [found for _, found in nights], settings))
    drifted = drifts(now, [found for _, found in reference], settings)
    return BandQuality(
        instrument=now.instrument,
        band=now.band,
        verdict=worst((*(one.verdict for one in gated), *(one.verdict for one in drifted))),
        gates=gated,
        drifts=drifted,
        reference=tuple(night for night, _ in reference),
        notes=_notes(now, nights),
    )


def _notes(now: BandMeasures, nights: Sequence[tuple[str, BandMeasures]]) -> tuple[str, ...]:
    if not now.search:
        return ("searched with several models or settings, or not known with which: the search is not compared",)
    if not nights or nights[-1][1].search == now.search:
        return ()
    night, before = nights[-1]
    if before.models == now.models:
        return (f"settings or stages of the search differ from those of night {night}: a new reference begins",)
    return (
        f"searched with {', '.join(now.models)}; night {night} with {', '.join(before.models) or 'models not known'}: "
        "a new reference begins",
    )
