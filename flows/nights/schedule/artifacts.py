"""Artifacts of a scheduled night (summary, plot of its depth), and the webhook."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from time import sleep
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from prefect import Flow
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_logger
from prefect.settings import get_current_settings

from flows.results.page.picture import figure_uri
from flows.results.summary_table import MOST, lines
from schemas.recovery import RecoveredShare, Recovery
from schemas.summary import RunSummary, Trouble


def depth_plot(night: Recovery) -> str:
    """Draw the fraction of a night's synthetic streaks that were recovered, with 95 % intervals.

    Parameters
    ----------
    night
        Recovery over all bands.

    Returns
    -------
    str
        PNG as a ``data:`` URL, which needs no server.
    """
    figure = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    across = (("true signal to noise", night.by_snr), ("true length, px", night.by_length))
    for axes, (name, shares) in zip(figure.subplots(1, 2, sharey=True), across, strict=True):
        _draw(axes, shares)
        axes.set_xlabel(name)
    figure.axes[0].set_ylabel("share recovered")
    figure.suptitle(f"Night {night.night}: {night.recovered} of {night.n} synthetic streaks came back")
    return figure_uri(figure)


def _draw(axes: Axes, shares: Sequence[RecoveredShare]) -> None:
    drawn = [(place, share.recovered / share.n, *share.interval) for place, share in enumerate(shares) if share.n]
    if drawn:
        places, values, low, high = np.array(drawn).T
        # Not below zero by rounding: matplotlib refuses that.
        axes.errorbar(places, values, np.maximum(0, [values - low, high - values]), fmt="o", capsize=3)
    axes.set_xticks(range(len(shares)), [_span(share) for share in shares])
    axes.set_xlim(-0.5, len(shares) - 0.5)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y", alpha=0.3)


def _span(share: RecoveredShare) -> str:
    return f"≥ {share.lo:g}" if share.hi is None else f"{share.lo:g}–{share.hi:g}"


def leave(summary: RunSummary, deployment: str, pages: str | None) -> None:
    """Add the artifacts of a night to the current flow run.

    Parameters
    ----------
    summary
        Summary of the night.
    deployment
        Name of the deployment. Artifact keys begin with it, so that each deployment has its own history.
    pages
        URL under which ``OUT/reports`` is served; None: link to the file itself.
    """
    stem = re.sub("[^a-z0-9]+", "-", deployment.lower()).strip("-")
    night = " ".join(summary.nights)
    table = [{"what": name, "how much": value} for name, value in lines(summary)]
    create_table_artifact(table, key=f"{stem}-summary", description=f"Night {night}")
    failed = (*summary.failed, *summary.night_failed, *summary.quality_failed, *summary.alerts_failed)
    if troubles := (*summary.quarantined, *failed):
        create_markdown_artifact(_listed(troubles), key=f"{stem}-troubles", description=f"Night {night}")
    if summary.report is not None:
        link = page_url(summary.report, pages)
        create_link_artifact(link, key=f"{stem}-page", link_text=f"Page of night {night}", description=link)
    for one in summary.injection:
        if one.band is None:
            create_image_artifact(depth_plot(one), key=f"{stem}-depth", description=f"Night {one.night}")


def page_url(report: str, pages: str | None) -> str:
    """Return the URL of a night page.

    Parameters
    ----------
    report
        Path or ``s3://`` URL of ``OUT/reports/<night>/index.html``.
    pages
        As in `leave`.
    """
    if pages is not None:
        return f"{pages.rstrip('/')}/{'/'.join(report.split('/')[-2:])}"
    return report if "://" in report else Path(report).as_uri()


def _listed(troubles: tuple[Trouble, ...]) -> str:
    told = [f"- `{one.code}`: {_plain(one.message)}" for one in troubles[:MOST]]
    more = [f"- {len(troubles) - MOST} more: `nightstride status OUT`"] if len(troubles) > MOST else []
    return "\n".join([*told, *more])


def _plain(text: str) -> str:
    """Escape a message, including its file names, for Markdown and HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&])", r"\\\1", " ".join(text.split()))


WEBHOOK = "NIGHTSTRIDE_WEBHOOK_URL"
"""Name of the environment variable with the address, which is never logged: whoever knows it can post there."""

ATTEMPTS = 4
"""How often to try."""

BACKOFF_S = 2.0
"""Wait after the first attempt, s; doubled each time."""

TIMEOUT_S = 10.0
"""How long to wait for an answer, s."""


def notify(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Report to the webhook, if there is one, how a run ended, unless it simply completed; a hook of Prefect.

    It never raises: the outcome of the night does not depend on the notification.
    """
    url = os.environ.get(WEBHOOK)
    if not url or (state.is_completed() and state.name == "Completed"):
        return
    logger = get_logger("nightstride.notification")
    for attempt in range(ATTEMPTS):
        reason = _post(url, _message(flow_run, state))
        if reason is None:
            return
        logger.warning("attempt %d of %d to call %s: %s", attempt + 1, ATTEMPTS, WEBHOOK, reason)
        if attempt + 1 < ATTEMPTS:
            sleep(BACKOFF_S * 2**attempt)


def _message(flow_run: FlowRun, state: State) -> dict[str, str | None]:
    """Return the message: ``text`` for chats, the other fields for programs."""
    pages = get_current_settings().ui_url
    page = f"{pages}/runs/flow-run/{flow_run.id}" if pages else None
    said = state.message or ""
    return {
        "text": " ".join(part for part in (f"nightstride, {flow_run.name}: {state.name}. {said}", page) if part),
        "flow_run": flow_run.name,
        "flow_run_id": str(flow_run.id),
        "state": state.name,
        "message": said,
        "url": page,
    }


def _post(url: str, message: Mapping[str, str | None]) -> str | None:
    """Post it; return why that failed, without the address, or None."""
    try:
        asked = Request(url, json.dumps(message).encode(), {"Content-Type": "application/json"})
        with urlopen(asked, timeout=TIMEOUT_S):
            return None
    except HTTPError as error:
        error.close()
        return f"answered with {error.code}"
    except (URLError, HTTPException, OSError, ValueError) as error:
        return type(error).__name__
