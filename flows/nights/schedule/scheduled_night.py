"""Registration of a deployment, and its flow, which searches a night's exposures like `nightstride run`."""

import asyncio
import io
import logging
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Crashed, Failed
from prefect.tasks import Task
from rich.console import Console

from flows.nights.schedule.artifacts import leave, notify
from flows.nights.schedule.deployment import Deployment, inputs_of, observing_night
from flows.nights.services.folder import POOL
from schemas.errors import HELD, Misconfigured, Retryable, exit_code
from schemas.summary import RunSummary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.deployments.runner import RunnerDeployment

    from flows.inputs.source import Source
    from schemas.settings import Settings


class RunLog(io.StringIO):
    """File whose lines go to a logger.

    Parameters
    ----------
    logger
        Receives each nonempty line.
    """

    def __init__(self, logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]") -> None:
        super().__init__()
        self._logger, self._rest = logger, ""

    def write(self, text: str) -> int:
        """Write text; a line is logged once it is complete."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.info("%s", line.rstrip())
        return len(text)


NOTHING = ("no_such_input", "no_exposures")
"""Error codes of inputs without exposures: the dome was closed, or the transfer failed."""

LATER = ("prefect", HELD, "lock_held", "scheduler", "slurm")
"""Codes of `Misconfigured` errors that a later attempt may not meet; otherwise somebody must correct something."""

QUARANTINED, NO_EXPOSURES, POOR, STOPPED = "Quarantined", "NoExposures", "PoorQuality", "Stopped"
"""Names of the final states of nights that ended, but not as they should."""


def scheduled_run_name() -> str:
    """Return the name of a run: deployment and night."""
    given = runtime.flow_run.parameters
    try:
        return f"{runtime.deployment.name} {given.get('night') or _tonight(given['timezone'])}"
    except Misconfigured:  # the flow itself reports the error
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
    wait_s: float | None = None,
    pages: str | None = None,
) -> State[Any]:
    """Search the exposures of one night.

    Parameters
    ----------
    inputs
        As in ``nightstride run``; ``{night}`` is replaced by the night.
    out, config
        Output folder or ``s3://`` URL, and settings file.
    timezone
        Time zone of the observatory.
    night
        Date of its evening; None: the night that is over or in progress at the scheduled time of this run.
    retries, retry_delay_s
        How often to try a night again if something failed, and after how long, s.
    wait_s
        How long to wait for another run that holds ``out``, s; None: without limit.
    pages
        URL under which ``OUT/reports`` is served.

    Returns
    -------
    State
        Completed, named `QUARANTINED` or `NO_EXPOSURES` if somebody should look. Failed, named `POOR`, if the settings
        ask for it. Crashed, named `STOPPED`, if a signal ended it.

    Raises
    ------
    Misconfigured
        No exposure could succeed; not tried again unless the code is in `LATER`.
    Retryable
        Some exposures, or something of the whole night or its alerts, failed on every attempt.
    """
    found = inputs_of(inputs, night or _tonight(timezone))
    patient = search_scheduled.with_options(retries=retries, retry_delay_seconds=retry_delay_s)
    summary = patient(found, out, config, wait_s, pages)
    if isinstance(summary, str):
        return Completed(name=NO_EXPOSURES, message=summary)
    return verdict(summary)


def _may_succeed_later(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    return not isinstance(state.data, Misconfigured) or state.data.code in LATER


@task(name="search", cache_policy=NO_CACHE, retry_condition_fn=_may_succeed_later)
def search_scheduled(
    inputs: list[str], out: str, config: str | None, wait_s: float | None, pages: str | None
) -> RunSummary | str:
    """Search a night like ``nightstride run``, and add artifacts; parameters and errors as in `scheduled_night`.

    Returns
    -------
    RunSummary or str
        A string says why there is no exposure: Prefect would log an exception as an error, at length.
    """
    from flows.inputs.packet_files import packet_files
    from flows.inputs.sources import list_sources
    from flows.nights.observation import figures_written
    from flows.runtime.log import report_line
    from flows.runtime.settings import load_settings
    from flows.storage.bucket_path import located
    from flows.storage.lease import patient_lease
    from flows.storage.object_store import configure

    logger = get_run_logger()
    console = Console(file=RunLog(logger), width=200, emoji=False)
    place = located(out).resolve()
    settings = load_settings(None if config is None else Path(config))
    configure(settings.store)
    with figures_written(settings, console) as seen:
        try:
            packets = packet_files(inputs)
            sources = [] if packets else list_sources(inputs, settings)
        except Misconfigured as error:
            if error.code in NOTHING:
                seen.ended(None, exit_code(error))
                return str(error)
            raise
        with patient_lease(place, wait_s, partial(report_line, console)):
            summary = _searched(packets, sources, place, settings, console)
        seen.ended(summary, summary.exit_code, place)
    try:
        leave(summary, runtime.deployment.name or "night", pages)
    except Exception as error:  # the night is published whether or not Prefect shows it
        logger.warning("no artifacts: %s: %s", type(error).__name__, error)
    return _complete(summary, place)


def _searched(
    packets: "Sequence[str]", sources: "Sequence[Source]", place: Path, settings: "Settings", console: Console
) -> RunSummary:
    """Search alert packets; or exposures, and send their alerts if the settings ask for it."""
    from flows.nights.packet_run import search_packets
    from flows.nights.run import search_exposures
    from flows.runtime.log import report_line

    if packets:
        return search_packets(packets, place, settings, console)
    if settings.alerts.to is None:
        return search_exposures(sources, place, settings, console)
    from flows.publish.publish import VisitAlerts

    outlet = VisitAlerts(place, settings, partial(report_line, console))
    return outlet.added_to(search_exposures(sources, place, settings, console, outlet=outlet))


def _complete(summary: RunSummary, place: Path) -> RunSummary:
    """Return the summary of a night; raise `Retryable` if something failed that should be tried again."""
    whole = (*summary.night_failed, *summary.alerts_failed)
    failed = summary.exposures.failed + len(whole)
    if failed and not summary.stopped:
        first = (*summary.failed, *whole)[0]
        raise Retryable("failed", f"{place}", f"{failed} failed, the first: {first.message}", "run it again.")
    return summary


def verdict(summary: RunSummary) -> State[Any]:
    """Return the final state of a night."""
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


def register(deployment: Deployment) -> UUID:
    """Make a deployment on the server of ``PREFECT_API_URL``, replacing any of the same name.

    Runs are never concurrent: the next one waits for the current one.

    Returns
    -------
    UUID
        Id of the deployment.

    Raises
    ------
    Misconfigured
        The schedule is not valid, or the server does not answer or has no matching work pool.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    try:
        schedule = CronSchedule(cron=deployment.cron, timezone=deployment.timezone)
    except ValueError as error:
        raise Misconfigured(
            "cron", deployment.cron, "is not a schedule.", 'write minute, hour, day, month, weekday: "0 9 * * *".'
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
    return _taken(made)


def _taken(made: "RunnerDeployment") -> UUID:
    """Send a deployment to the server; return its id."""
    from httpx import HTTPError
    from prefect.deployments.runner import DeploymentApplyError

    try:
        return asyncio.run(made.aapply())
    except DeploymentApplyError as error:
        raise Misconfigured(
            "prefect",
            "PREFECT_API_URL",
            f"its server refuses the deployment: {' '.join(str(error).split())}",
            "start its worker, which makes the pool: `nightstride services up`, or `prefect worker start --pool "
            f"{POOL} --type process`.",
        ) from error
    except (HTTPError, OSError) as error:
        raise Misconfigured(
            "prefect",
            "PREFECT_API_URL",
            f"its server does not take the deployment: {type(error).__name__}.",
            "start one with `nightstride services up`, and name its folder with --services.",
        ) from error
