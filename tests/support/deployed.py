"""Runs of a deployment on real services, asked for and looked at through Prefect's API."""

import json
from base64 import b64encode
from dataclasses import dataclass
from urllib.request import Request, urlopen

from tests.support.wait import until

TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def asked(folder, path, body=None):
    """Ask the API of a folder's server."""
    headers = {"Authorization": f"Basic {b64encode(folder.auth.encode()).decode()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{folder.api}/{path}", data, headers), timeout=60) as answer:
        return json.load(answer)


@dataclass(frozen=True)
class Run:
    """A run of a deployment."""

    folder: object
    identity: str

    @property
    def known(self):
        return asked(self.folder, f"flow_runs/{self.identity}")

    @property
    def artifacts(self):
        """Of this run: kind -> content; of what went wrong, not of the page, which is of the same kind."""
        only = {"flow_run_id": {"any_": [self.identity]}}
        found = asked(self.folder, "artifacts/filter", {"artifacts": only})
        return {one["type"]: one for one in sorted(found, key=lambda one: str(one["key"]).endswith("-troubles"))}

    @property
    def said(self):
        """All that it has logged."""
        only = {"flow_run_id": {"any_": [self.identity]}}
        return "\n".join(
            one["message"] for one in asked(self.folder, "logs/filter", {"logs": only, "sort": "TIMESTAMP_ASC"})
        )

    def ended(self):
        """Wait for its end; give its state's type, name and message."""
        state = until(self.over)
        return state["type"], state["name"], state["message"]

    def over(self):
        """Return its state if it has ended."""
        return (one := self.known["state"])["type"] in TERMINAL and one

    def says(self, words):
        """Wait until it has logged this."""
        until(lambda: words in self.said)


def start(folder, deployment, **parameters):
    """Ask for a run now."""
    found = asked(folder, f"deployments/name/scheduled-night/{deployment}")
    made = asked(folder, f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
    return Run(folder, made["id"])
