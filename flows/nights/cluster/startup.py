"""Early start of what a run needs: the Prefect server, and the process that workers are forked from."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flows.nights.cluster.local import start_worker_server
from flows.nights.cluster.prefect_server import PrefectServer, prefect_server

if TYPE_CHECKING:
    from schemas.settings import Settings

SETTINGS_FILE = Path("nightstride.toml")
"""As in `flows.runtime.settings`, whose import takes longer than checking for the file."""


PACKETS = (".avro", ".tar", ".tar.gz", ".tgz")
"""As in `flows.inputs.packet_files`, whose import takes longer than this check."""


def likely_packets(inputs: Sequence[str]) -> bool:
    """Return whether the first file found in each of the given files and folders may hold alert packets.

    Small numbers of packets are searched without workers, and none need the Prefect server.
    """
    for given in inputs:
        folders = os.walk(given) if Path(given).is_dir() else [("", [], [given])]
        first = next((name for _, _, names in folders for name in names), "")
        if not first.lower().endswith(PACKETS):
            return False
    return True


def start_services(settings: "Settings") -> PrefectServer:
    """Start the Prefect server and, for local workers, the process they are forked from, without waiting for them."""
    if settings.cluster.kind == "local":
        start_worker_server()
    return prefect_server()


def start_ahead(out: Path, settings: "Settings") -> None:
    """Start the services while the command still plans, if the output folder holds no results yet.

    Otherwise there may be nothing to do, and a service costs seconds of processor time.
    """
    from flows.storage.layout import PARTS

    if not any((out / part).exists() for part in PARTS):
        start_services(settings)


def start_workers_ahead(out: Path) -> None:
    """Start the process that workers are forked from before the settings are read, if nothing configures a cluster.

    It takes longest to start. Call this only without ``--config`` and ``--scheduler``; it does nothing unless ``out``
    is new.
    """
    said = any(name.startswith("NIGHTSTRIDE_CLUSTER") for name in os.environ) or SETTINGS_FILE.exists()
    if not said and "://" not in str(out) and not out.exists():
        start_worker_server()


def import_engines() -> None:
    """Import what Prefect loads when a flow begins, while the workers start."""
    with suppress(Exception):  # the same error is raised again where it matters
        import prefect.flow_engine
        import prefect.task_engine
        import prefect.utilities.visualization  # noqa: F401
