"""Telling a Prefect server of a night that it is to start by itself."""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from flows.nights.schedule.scheduled_night import inputs_of, zone
from flows.nights.services.folder import POOL
from schemas.errors import Misconfigured


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
