"""Reports of nights to the Minor Planet Center: new observations are written and submitted once."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.publish.ades_files import FORMS, read_text, written
from flows.publish.ades_night import TELESCOPES, ReportableNight, ReportableTracklet, reportable_night, require_night
from flows.publish.ades_record import MEASURED, AdesContext, AdesObservation
from flows.publish.ades_rules import problems_of
from flows.publish.submissions import Submissions, Submitted, nights_beside
from flows.storage.ledger import Ledger
from kernels.orbits.designations import tracklet_name
from kernels.sky.observatories import GEOCENTRE
from schemas.ades import MOVING, AdesSettings, AdesTelescope, ReportedDetection, SubmissionRecord
from schemas.errors import BadInput, Misconfigured

NOT_SET = "NOT SET"
"""Placeholder, in a draft, for missing settings."""

_NO_CODE, _NO_APERTURE = "XXX", 999.0
_CODE = re.compile(r"[0-9A-Za-z][0-9]{2}")


class ReportSummary(BaseModel):
    """Summary of a report of a night.

    Attributes
    ----------
    night, format, dry_run
        As requested; a dry run submits nothing.
    tracklets, known, observations
        Numbers in this report: tracklets, tracklets of known objects, and observations.
    submitted_before
        Number of detections of the night that were submitted before, and are not in the report.
    changed
        Number of these whose measurements have changed since.
    withdrawn
        Number of submitted detections of the night that are no longer in a tracklet that can be reported.
    left_out
        Reason -> number of tracklets that cannot be reported.
    notes
        Remark on reported tracklets -> their number.
    missing
        Missing settings that are required for a submission.
    path
        Written file; None if there is none.
    """

    night: str
    format: str
    dry_run: bool
    tracklets: int = 0
    known: int = 0
    observations: int = 0
    submitted_before: int = 0
    changed: int = 0
    withdrawn: int = 0
    left_out: dict[str, int] = {}
    notes: dict[str, int] = {}
    missing: tuple[str, ...] = ()
    path: str | None = None


@dataclass(frozen=True)
class Report:
    """Text of a report, its summary, and the record of its submission; the text is empty if nothing is new."""

    summary: ReportSummary
    text: str
    detections: tuple[ReportedDetection, ...]


def draft_report(out: Path, night: str, settings: AdesSettings, form: str, corrections: bool = False) -> Report:
    """Return the report of the new observations of a night; nothing is written.

    Parameters
    ----------
    out, night
        Output folder, and label of the night.
    settings, form
        Section ``ades``; psv, xml or obs80. Missing settings are `NOT_SET` in the report.
    corrections
        Whether to report only submitted detections whose measurements have changed.

    Raises
    ------
    Misconfigured, BadInput
        As in `reportable_night` and `Submissions.records`; or the observatory is not known.
    """
    found = reportable_night(out, night, settings)
    records = Submissions(out).records(night)
    chosen, counts = _new(found, Submitted.of(records), _exposures_of(out, night, records), corrections)
    observations = [one for tracklet in chosen for one in tracklet.observations]
    context, missing = _context(settings, found.station, corrections)
    summary = ReportSummary(
        night=night,
        format=form,
        dry_run=True,
        tracklets=len(chosen),
        known=sum(any(one.named) for one in chosen),
        observations=len(observations),
        left_out=dict(sorted(found.left_out.items())),
        notes={reason: count for reason, count in sorted(found.notes.items()) if count},
        missing=missing,
        **counts,
    )
    if not observations:
        return Report(summary, "", ())
    text = written(context, [one if one.stn else replace(one, stn=context.mpc_code) for one in observations], form)
    _require_valid(text, form, night)
    return Report(summary, text, tuple(_reported(pair) for one in chosen for pair in _each(one)))


def submit_report(
    out: Path, night: str, settings: AdesSettings, form: str, corrections: bool = False
) -> tuple[Report, Path | None]:
    """Record the report of the new observations of a night as submitted, and write it; return the report and its path.

    If nothing is new, nothing is written, and there is no path. Arguments are those of `draft_report`.

    Raises
    ------
    Misconfigured
        A setting required for a submission is missing; or as in `draft_report` and `Submissions.add`.
    """
    require_night(out, night)  # before a folder is made for it
    submissions = Submissions(out)
    with submissions.lock(night):
        for record in submissions.records(night):
            submissions.restore(record, FORMS[record.form])
        report = draft_report(out, night, settings, form, corrections)
        if report.summary.missing:
            names = ", ".join(report.summary.missing)
            problem = "must be set before anything is submitted."
            raise Misconfigured("setting", names, problem, "give it in the settings file or the environment.")
        if not report.text:
            return replace(report, summary=report.summary.model_copy(update={"dry_run": False})), None
        record = SubmissionRecord(
            night=night,
            number=1 + max((one.number for one in submissions.records(night) if one.night == night), default=0),
            form=form,
            correction=corrections,
            detections=report.detections,
            text=report.text,
            submitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
            software=version("nightstride"),
        )
        path = submissions.add(record, FORMS[form])
    summary = report.summary.model_copy(update={"dry_run": False, "path": str(path)})
    return replace(report, summary=summary), path


def _exposures_of(out: Path, night: str, records: Sequence[SubmissionRecord]) -> set[tuple[int, int]]:
    """Return the exposures of a night, including those submitted for it that now belong to no other night."""
    now = {label: {(one.visit, one.detector) for one in Ledger(out).briefs(label)} for label in nights_beside(night)}
    submitted = {(one.visit, one.detector) for record in records if record.night == night for one in record.detections}
    return now.pop(night) | submitted.difference(*now.values())


def _new(
    found: ReportableNight, submitted: Submitted, exposures: Set[tuple[int, int]], corrections: bool
) -> tuple[list[ReportableTracklet], dict[str, int]]:
    """Return the new observations of each tracklet, by its name, and counts of the rest."""
    rows = [row for tracklet in found.tracklets for row in tracklet.rows]
    known, place = submitted.match(rows), 0
    taken, chosen, counts = submitted.names(), list[ReportableTracklet](), Counter[str]()
    for tracklet in found.tracklets:
        before = [known.get(place + n) for n in range(len(tracklet.rows))]
        place += len(tracklet.rows)
        changed = [
            old is not None and old.values != _values(one)
            for old, one in zip(before, tracklet.observations, strict=True)
        ]
        counts["submitted_before"] += sum(old is not None for old in before)
        counts["changed"] += sum(changed)
        wanted = changed if corrections else [old is None for old in before]
        if not any(wanted):
            continue
        names = Counter(old.trkSub for old in before if old is not None and old.trkSub)
        name = names.most_common(1)[0][0] if names else _name(tracklet, taken)
        taken.add(name)
        chosen.append(_part(tracklet, wanted, name))
    matched = set(map(id, known.values()))
    counts["withdrawn"] = sum(id(one) not in matched for key in exposures for one in submitted.by_exposure.get(key, ()))
    return chosen, {name: counts[name] for name in ("submitted_before", "changed", "withdrawn")}


def _name(tracklet: ReportableTracklet, taken: set[str]) -> str:
    """Return the name of a tracklet, derived from the id of its first detection; if it is taken, the next free name."""
    if tracklet.id is None:
        return ""
    return next(name for name in tracklet_names(tracklet.id) if name not in taken)


def tracklet_names(tracklet_id: int) -> Iterator[str]:
    """Yield names for a tracklet in a fixed order; the first that is not taken is its name."""
    attempt = 0
    while True:
        digest = sha256(f"{tracklet_id}/{attempt}".encode()).digest()
        yield tracklet_name(int.from_bytes(digest[:8], "big") % 62**6)
        attempt += 1


def _part(tracklet: ReportableTracklet, wanted: Sequence[bool], name: str) -> ReportableTracklet:
    both = [
        pair for pair, one in zip(zip(tracklet.rows, tracklet.observations, strict=True), wanted, strict=True) if one
    ]
    rows, observations = zip(*both, strict=True)
    return replace(tracklet, rows=rows, observations=tuple(replace(one, trkSub=name) for one in observations))


def _each(tracklet: ReportableTracklet) -> list[tuple[Mapping[str, Any], AdesObservation]]:
    return list(zip(tracklet.rows, tracklet.observations, strict=True))


def _reported(pair: tuple[Mapping[str, Any], AdesObservation]) -> ReportedDetection:
    row, one = pair
    place = {name: row[name] for name in ("visit", "detector", "ra", "dec")}
    return ReportedDetection(**place, trkSub=one.trkSub, values=_values(one))


def _values(one: AdesObservation) -> dict[str, str]:
    return {name: getattr(one, name) for name in MEASURED}


def _context(settings: AdesSettings, station: str, corrections: bool) -> tuple[AdesContext, tuple[str, ...]]:
    """Return the header, and the settings missing in it."""
    if station in (GEOCENTRE, *MOVING) or (station and not _CODE.fullmatch(station)):
        problem = f"{station!r} is not a code of an observatory with a fixed place on the ground."
        remedy = "write its three characters in https://minorplanetcenter.net/iau/lists/ObsCodes.html."
        raise Misconfigured("setting", "ades.mpc_code", problem, remedy)
    known = TELESCOPES.get(station, AdesTelescope())
    telescope = known.model_copy(update=settings.telescope.model_dump(exclude_none=True))
    given = {
        "mpc_code": station,
        "submitter": settings.submitter,
        "measurers": settings.measurers,
        "ast_cat": settings.ast_cat,
        "telescope.design": telescope.design,
        "telescope.aperture": telescope.aperture,
        "telescope.detector": telescope.detector,
    }
    missing = tuple(f"ades.{name}" for name, value in given.items() if not value)
    blank = AdesTelescope(design=NOT_SET, aperture=_NO_APERTURE, detector=NOT_SET)
    comments = ("Corrections of observations submitted before.",) if corrections else ()
    drafted = (f"DRAFT, not to be submitted; not set: {name}" for name in missing)
    return AdesContext(
        mpc_code=station or _NO_CODE,
        submitter=settings.submitter or NOT_SET,
        measurers=settings.measurers or (NOT_SET,),
        telescope=blank.model_copy(update=telescope.model_dump(exclude_none=True)),
        institution=settings.institution,
        observers=settings.observers,
        funding_source=settings.funding_source,
        comments=(*drafted, *comments, *settings.comments),
    ), missing


def _require_valid(text: str, form: str, night: str) -> None:
    """Raise `BadInput` (``bad_report``) if a report breaks a rule, which no setting or detection should cause."""
    if form == "obs80":
        return
    where = f"report of {night}"
    if problems := problems_of(read_text(where, text)):
        said = "; ".join(f"line {one.line}: {one.text}" for one in problems[:3])
        raise BadInput("bad_report", where, f"{len(problems)} rules are broken: {said}.", "report this as a defect.")
