"""A deployment: its registration, and the flow that searches tonight's exposures as `nightstride run` does."""

import asyncio
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Crashed, Failed
from prefect.tasks import Task
from rich.console import Console

from flows.nights.schedule.artifacts import leave, notify
from flows.nights.services.folder import POOL
from schemas.errors import Misconfigured, Retryable
from schemas.summary import RunSummary


class RunLog(io.StringIO):
    """A file whose lines go to a logger.

    Parameters
    ----------
    logger
        Gets each line that is not empty.
    """

    def __init__(self, logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]") -> None:
        super().__init__()
        self._logger, self._rest = logger, ""

    def write(self, text: str) -> int:
        """Take text; a line is logged when it ends."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.info("%s", line.rstrip())
        return len(text)


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


NOTHING = ("no_such_input", "no_exposures")
"""Codes of inputs that hold no exposure: the dome was closed, or the transfer failed."""

LATER = ("prefect", "locked")
"""Codes of `Misconfigured` for somebody at the keyboard, which a later attempt may not meet."""

QUARANTINED, NO_EXPOSURES, POOR, STOPPED = "Quarantined", "NoExposures", "PoorQuality", "Stopped"
"""Names of the states of nights that ended, but not as they should."""


def scheduled_run_name() -> str:
    """Name a run by its night."""
    given = runtime.flow_run.parameters
    try:
        return f"{runtime.deployment.name} {given.get('night') or _tonight(given['timezone'])}"
    except Misconfigured:  # the flow itself says what is wrong
        return f"{runtime.deployment.name}"


@flow(
    name="scheduled-night",
    flow_run_name=scheduled_run_name,
    on_completion=[notify],
    on_failure=[notify],
    on_crashed=[notify],
)
def scheduled_night(
    inputs: list[str],
    out: str,
    timezone: str,
    config: str | None = None,
    night: date | None = None,
    retries: int = 2,
    retry_delay_s: float = 600.0,
    wait_s: float = 3600.0,
    pages: str | None = None,
) -> State[Any]:
    """Search the exposures of one night.

    Parameters
    ----------
    inputs
        As of ``nightstride run``; ``{night}`` in them is the night.
    out, config
        Output folder or ``s3://`` URL, and settings file.
    timezone
        Of the observatory.
    night
        By the date of its evening; None: the night that was over, or is under way, at the scheduled time of this run.
    retries, retry_delay_s
        How often a night of which something failed is tried again, and after how long, s.
    wait_s
        How long to wait for another run that holds ``out``, s.
    pages
        URL under which ``OUT/reports`` is served.

    Returns
    -------
    State
        Completed; of name `QUARANTINED` or `NO_EXPOSURES` where somebody should look. Failed, of name `POOR`, if the
        settings say so. Crashed, of name `STOPPED`, if a signal ended it.

    Raises
    ------
    Misconfigured
        No exposure could succeed; not tried again.
    Retryable
        Some exposures, or something of the whole night, failed every time.
    """
    found = inputs_of(inputs, night or _tonight(timezone))
    patient = search_scheduled.with_options(retries=retries, retry_delay_seconds=retry_delay_s)
    try:
        summary = patient(found, out, config, wait_s, pages)
    except Misconfigured as error:
        if error.code in NOTHING:
            return Completed(name=NO_EXPOSURES, message=str(error))
        raise
    return verdict(summary)


def _may_succeed_later(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    return not isinstance(state.data, Misconfigured) or state.data.code in LATER


@task(name="search", cache_policy=NO_CACHE, retry_condition_fn=_may_succeed_later)
def search_scheduled(inputs: list[str], out: str, config: str | None, wait_s: float, pages: str | None) -> RunSummary:
    """Do what ``nightstride run`` does, and leave artifacts; parameters and errors as of `scheduled_night`."""
    from flows.inputs.sources import list_sources
    from flows.nights.run import search_exposures
    from flows.runtime.settings import load_settings
    from flows.storage.bucket_path import located
    from flows.storage.lease import patient_lease
    from flows.storage.object_store import configure

    logger = get_run_logger()
    console = Console(file=RunLog(logger), width=200)
    place = located(out).resolve()
    settings = load_settings(None if config is None else Path(config))
    configure(settings.store)
    sources = list_sources(inputs, settings)
    with patient_lease(place, wait_s, console.print):
        summary = search_exposures(sources, place, settings, console)
    try:
        leave(summary, runtime.deployment.name or "night", pages)
    except Exception as error:  # the night is published, whatever Prefect's pages show of it
        logger.warning("no artifacts: %s: %s", type(error).__name__, error)
    failed = summary.exposures.failed + len(summary.night_failed)
    if failed and not summary.stopped:
        first = (*summary.failed, *summary.night_failed)[0]
        raise Retryable("failed", f"{place}", f"{failed} failed, the first: {first.message}", "run it again.")
    return summary


def verdict(summary: RunSummary) -> State[Any]:
    """Return the state that a night ends in."""
    counts = summary.exposures
    said = f"{' '.join(summary.nights) or 'no night'}: {counts.seen} exposures, {summary.detections} detections"
    if summary.stopped:
        return Crashed(name=STOPPED, message=f"{said}; stopped by a signal before all was done")
    if summary.quality_failed:
        return Failed(name=POOR, message=f"{said}; {summary.quality_failed[0].message}")
    if counts.quarantined:
        return Completed(name=QUARANTINED, message=f"{said}; {counts.quarantined} quarantined: "
                         f"{summary.quarantined[0].message}")  # fmt: skip
    return Completed(message=said)


def _tonight(timezone: str) -> date:
    return observing_night(runtime.flow_run.scheduled_start_time, timezone)


@dataclass(frozen=True)
class Deployment:
    """A night that is searched every night.

    Attributes
    ----------
    name
        Tells deployments apart; one of the same name is replaced.
    inputs, out, config, timezone, retries, retry_delay_s, wait_s, pages
        Parameters of `flows.nights.schedule.scheduled_night.scheduled_night`.
    cron
        When, by the clock of ``timezone``.
    tags
        For Prefect's pages.

    Raises
    ------
    Misconfigured
        Time zone or inputs make no sense.
    """

    name: str
    inputs: tuple[str, ...]
    out: str
    timezone: str
    cron: str
    config: str | None = None
    retries: int = 2
    retry_delay_s: float = 600.0
    wait_s: float = 3600.0
    pages: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        zone(self.timezone)
        inputs_of(self.inputs, date(2025, 1, 1))

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of each run."""
        return {
            "inputs": list(self.inputs), "out": self.out, "timezone": self.timezone, "config": self.config,
            "retries": self.retries, "retry_delay_s": self.retry_delay_s, "wait_s": self.wait_s, "pages": self.pages,
        }  # fmt: skip


def register(deployment: Deployment) -> UUID:
    """Make a deployment on the server of ``PREFECT_API_URL``, or replace the one of its name.

    One run at a time; the next one waits for its end.

    Returns
    -------
    UUID
        Of the deployment.

    Raises
    ------
    Misconfigured
        The schedule makes no sense, or the server does not answer.
    """
    from httpx import HTTPError
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.nights.schedule.scheduled_night import scheduled_night

    try:
        schedule = CronSchedule(cron=deployment.cron, timezone=deployment.timezone)
    except ValueError as error:
        raise Misconfigured(
            "cron", deployment.cron, "is no schedule.", 'write minute, hour, day, month, weekday: "0 9 * * *".'
        ) from error
    made = RunnerDeployment.from_flow(
        scheduled_night,
        deployment.name,
        schedules=[schedule],
        parameters=deployment.parameters,
        tags=["nightstride", *deployment.tags],
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        work_pool_name=POOL,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    try:
        return asyncio.run(made.aapply())
    except (HTTPError, OSError) as error:
        raise Misconfigured(
            "prefect",
            "PREFECT_API_URL",
            f"its server does not take the deployment: {type(error).__name__}.",
            "start one with `nightstride services up`, and name its folder with --services.",
        ) from error
