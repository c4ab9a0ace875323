"""Parameters of a deployment, and its nights; without Prefect, which reads the environment on import."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from schemas.errors import Misconfigured

_NIGHT = re.compile(r"\{night(?::([^{}]+))?\}")
_FORMAT = "%Y%m%d"


def observing_night(moment: datetime, timezone: str) -> date:
    """Return the night that a moment belongs to: from local noon to local noon, named by its evening.

    Parameters
    ----------
    moment
        With its offset from UTC.
    timezone
        Of the observatory, as the IANA names it: ``America/Los_Angeles``.

    Raises
    ------
    Misconfigured
        There is no such time zone.
    """
    local = moment.astimezone(zone(timezone))
    # On the clock at the wall: a night in which the clocks change still ends at noon.
    return (local.replace(tzinfo=None) - timedelta(hours=12)).date()


def zone(timezone: str) -> ZoneInfo:
    """Return a time zone.

    Raises
    ------
    Misconfigured
        There is none of this name.
    """
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise Misconfigured(
            "timezone", timezone, "is not a time zone of the IANA.", "name one like America/Los_Angeles."
        ) from error


def inputs_of(patterns: Sequence[str], night: date) -> list[str]:
    """Insert a night into inputs: ``{night}`` is YYYYMMDD, ``{night:%Y/%m%d}`` what `date.strftime` makes of it.

    Raises
    ------
    Misconfigured
        An input has braces that name something else.
    """
    found = [_NIGHT.sub(lambda match: night.strftime(match[1] or _FORMAT), pattern) for pattern in patterns]
    for pattern, given in zip(patterns, found, strict=True):
        if "{" in given or "}" in given:
            raise Misconfigured(
                "input", pattern, "has braces that name no night.", "write {night} or {night:%Y-%m-%d}."
            )
    return found


@dataclass(frozen=True)
class Deployment:
    """Search that is scheduled every night.

    Attributes
    ----------
    name
        Tells deployments apart; one of the same name is replaced. Prefect allows none of ``/ % & < >`` in it.
    inputs, out, config, timezone, retries, retry_delay_s, wait_s, pages
        Parameters of `flows.nights.schedule.scheduled_night.scheduled_night`.
    cron
        When, by the clock of ``timezone``.
    tags
        For Prefect's pages.

    Raises
    ------
    Misconfigured
        Name, time zone or inputs make no sense.
    """

    name: str
    inputs: tuple[str, ...]
    out: str
    timezone: str
    cron: str
    config: str | None = None
    retries: int = 2
    retry_delay_s: float = 600.0
    wait_s: float | None = None
    pages: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("/%&<>"):
            raise Misconfigured(
                "deployment", f"--name {self.name!r}", "is no name for Prefect.", "leave out / % & < >, as in: nightly."
            )
        zone(self.timezone)
        inputs_of(self.inputs, date(2025, 1, 1))

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters of each run."""
        return {
            "inputs": list(self.inputs), "out": self.out, "timezone": self.timezone, "config": self.config,
            "retries": self.retries, "retry_delay_s": self.retry_delay_s, "wait_s": self.wait_s, "pages": self.pages,
        }  # fmt: skip
