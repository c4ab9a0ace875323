"""A word to a webhook when a scheduled night did not go as it should."""

import json
import os
from collections.abc import Mapping
from time import sleep
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_logger
from prefect.settings import get_current_settings

WEBHOOK = "NIGHTSTRIDE_WEBHOOK_URL"
"""Name of the environment's variable with the address; whoever knows it may write there, so it is never logged."""

ATTEMPTS = 4
"""How often it is tried."""

BACKOFF_S = 2.0
"""Wait after the first attempt, s; doubled each time."""

TIMEOUT_S = 10.0
"""How long an answer may take, s."""


def notify(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Tell the webhook how a run ended, if it has one and the run is not simply done; a hook of Prefect.

    It never fails: what became of the night does not hang on who is told.
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
    """Give what is sent: ``text`` is what chats show, the rest is for machines."""
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
    """Send it; give why not, without the address, or None."""
    try:
        asked = Request(url, json.dumps(message).encode(), {"Content-Type": "application/json"})
        with urlopen(asked, timeout=TIMEOUT_S):
            return None
    except HTTPError as error:
        error.close()
        return f"answered with {error.code}"
    except (URLError, OSError, ValueError) as error:
        return type(error).__name__
