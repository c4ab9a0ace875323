"""Inputs that were not searched, and what to do about them."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from flows.report.night import Night


@dataclass(frozen=True)
class Trouble:
    """One input: where it is, what is wrong with it, the remedy ("" if none is known)."""

    status: str
    source: str
    code: str
    problem: str
    remedy: str


def troubles(night: Night) -> tuple[Trouble, ...]:
    """List inputs that failed in this run, then those in quarantine, by source."""
    failed = night.summary.failed if night.summary else ()
    return (
        *(Trouble("failed", _short(trouble.uri), trouble.code, trouble.message, "") for trouble in failed),
        *(
            Trouble(
                "quarantined",
                _short(record.source_uri),
                record.code,
                f"{record.where}: {record.problem}",
                record.remedy,
            )
            for record in night.quarantined
        ),
    )


def _short(uri: str) -> str:
    return PurePosixPath(uri).name or uri
