"""Which night a moment belongs to, and where its exposures are."""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.errors import Misconfigured

_NIGHT = re.compile(r"\{night(?::([^{}]+))?\}")
_FORMAT = "%Y%m%d"


def observing_night(moment: datetime, timezone: str) -> date:
    """Give the night that a moment belongs to: from local noon to local noon, named by its evening.

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
    """Give a time zone.

    Raises
    ------
    Misconfigured
        There is none of this name.
    """
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise Misconfigured(
            "timezone", timezone, "is no time zone of the IANA.", "name one like America/Los_Angeles."
        ) from error


def inputs_of(patterns: Sequence[str], night: date) -> list[str]:
    """Put a night into inputs: ``{night}`` is YYYYMMDD, ``{night:%Y/%m%d}`` what `date.strftime` makes of it.

    Raises
    ------
    Misconfigured
        An input has braces that name something else.
    """
    found = [_NIGHT.sub(lambda match: night.strftime(match[1] or _FORMAT), pattern) for pattern in patterns]
    for pattern, given in zip(patterns, found, strict=True):
        if "{" in given or "}" in given:
            raise Misconfigured("input", pattern, "has braces that are no night.", "write {night} or {night:%Y-%m-%d}.")
    return found
