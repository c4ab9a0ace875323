"""Assessment of a night: measures and verdicts, recorded in the ledger."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from flows.runtime.parallel import Caller, here
from flows.storage.digest import digest
from flows.storage.layout import tiles_folder
from flows.storage.ledger import Ledger
from schemas.exposure import key_of
from schemas.quality import QUALITY_VERSION, BandMeasures, BandQuality, QualityRecord, QualitySettings, Verdict, worst
from schemas.recovery import Recovery

READ_AT_MOST = 4
"""Maximum number of records of earlier nights read, per record compared: not every night has every band."""


def assess(
    out: Path,
    night: str,
    settings: QualitySettings,
    recoveries: tuple[Recovery, ...] | None = None,
    *,
    again: bool = False,
    call: Caller = here,
) -> QualityRecord | None:
    """Measure a night if necessary, judge it by earlier ones, and record the result.

    Parameters
    ----------
    out, night, settings
        Output folder, label and settings; the caller holds the lease of ``out``.
    recoveries
        Recovery of its synthetic streaks; None: computed here.
    again
        Whether to judge it by the present state of earlier nights, even if it was judged before.
    call
        Way to call the function that reads catalogues and tiles, which needs many libraries.

    Returns
    -------
    QualityRecord or None
        None for a night without published exposures.

    Raises
    ------
    Misconfigured, Retryable
        A file was written by a later version, or the record cannot be written.
    """
    ledger = Ledger(out)
    done = {record.name: record.digest for record in ledger.records(night) if record.status == "done"}
    if not done:
        ledger.remove_quality(night)
        return None
    before, made_of, rules = ledger.quality(night), quality_digest(done), digest(settings)
    if before is not None and before.rules == rules and not again and _known(before, made_of, out):
        return before
    # Imported here: a rerun with nothing to do does not need it.
    from flows.results.quality.judge import judge

    note = unread = ""
    if before is not None and before.digest == made_of:
        measured = before.measured
    else:
        measured, readable, wanted = call(_measured, out, night, list(done), recoveries)
        if before is not None and readable < wanted and readable <= sum(one.exposures for one in before.measured):
            # Most tiles were removed: the other exposures do not represent the night.
            unread = _readable(made_of, out, night)
            made_of, measured = before.digest, before.measured
            note = f"measured before the night changed: of {wanted} exposures {readable} can be read now"
    nights = [one for one in ledger.quality_nights() if one < night][-READ_AT_MOST * settings.history_nights :]
    earlier = [record for one in nights if (record := ledger.quality(one)) is not None]
    found = QualityRecord(
        night=night,
        digest=made_of,
        rules=rules,
        measured=measured,
        judged=_noted(judge(measured, earlier, settings), note),
        software=version("nightstride"),
        unread=unread,
    )
    ledger.put_quality(found)
    return found


def _known(before: QualityRecord, made_of: str, out: Path) -> bool:
    """Return whether a record is of the present exposures of a night, or says that these cannot be measured."""
    return before.digest == made_of or (before.unread != "" and before.unread == _readable(made_of, out, before.night))


def _readable(made_of: str, out: Path, night: str) -> str:
    """Return the digest of a night's exposures, and of which have tiles."""
    return digest(made_of, {"tiles": sorted(path.name for path in (tiles_folder(out) / night).glob("*.zarr"))})


def _noted(judged: tuple[BandQuality, ...], note: str) -> tuple[BandQuality, ...]:
    return tuple(one.model_copy(update={"notes": (*one.notes, note)}) for one in judged) if note else judged


def _measured(
    out: Path, night: str, names: list[str], recoveries: tuple[Recovery, ...] | None
) -> tuple[tuple[BandMeasures, ...], int, int]:
    """Measure the readable part of a night; also return the numbers of exposures read and expected."""
    from flows.results.evaluation.recovery import read_recoveries
    from flows.results.quality.measure import look_at_exposures, measure_quality, spread

    some, ledger = spread(names), Ledger(out)
    found = (ledger.get(key_of(night, name)) for name in some)
    looked = look_at_exposures(out, [record for record in found if record is not None])
    measured = measure_quality(looked, read_recoveries(out, night) if recoveries is None else recoveries)
    return measured, len(looked), len(some)


def quality_digest(exposures: Mapping[str, str]) -> str:
    """Return the digest of the published exposures of a night, given name -> digest of each."""
    return digest(str(QUALITY_VERSION), exposures)


def verdict_on(out: Path, night: str, band: str | None = None, instrument: str | None = None) -> Verdict:
    """Return the verdict on a night, e.g. to check before results are sent.

    Parameters
    ----------
    out, night
        Output folder and label.
    band, instrument
        Band and instrument; None: the worst verdict over all.

    Returns
    -------
    Verdict
        ``no_history`` also for a night that was not judged.
    """
    record = Ledger(out).quality(night)
    judged = record.judged if record is not None else ()
    chosen = [one for one in judged if band in (None, one.band) and instrument in (None, one.instrument)]
    return worst(tuple(one.verdict for one in chosen))
