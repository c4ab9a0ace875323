"""Parameters and nights of a deployment; without importing Prefect, which reads the environment on import."""

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
    """Return the night that a time belongs to: from local noon to local noon, named by its evening.

    Parameters
    ----------
    moment
        Time with its offset from UTC.
    timezone
        IANA name of the observatory's time zone, such as ``America/Los_Angeles``.

    Raises
    ------
    Misconfigured
        There is no such time zone.
    """
    local = moment.astimezone(zone(timezone))
    # In local clock time: a night in which the clocks change still ends at noon.
    return (local.replace(tzinfo=None) - timedelta(hours=12)).date()


def zone(timezone: str) -> ZoneInfo:
    """Return a time zone.

    Raises
    ------
    Misconfigured
        There is none with this name.
    """
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise Misconfigured(
            "timezone", timezone, "is not a time zone of the IANA.", "name one like America/Los_Angeles."
        ) from error


def inputs_of(patterns: Sequence[str], night: date) -> list[str]:
    """Insert a night into inputs: ``{night}`` becomes YYYYMMDD, ``{night:%Y/%m%d}`` the result of `date.strftime`.

    Raises
    ------
    Misconfigured
        An input has braces with anything else in them.
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
    """Search that runs every night on a schedule.

    Attributes
    ----------
    name
        Identifies the deployment; an existing one of the same name is replaced. Prefect forbids ``/ % & < >`` in it.
    inputs, out, config, timezone, retries, retry_delay_s, wait_s, pages
        Parameters of `flows.nights.schedule.scheduled_night.scheduled_night`.
    cron
        When to run, in the local time of ``timezone``.
    tags
        Labels on Prefect's pages.

    Raises
    ------
    Misconfigured
        The name, time zone or an input is not valid.
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
