"""Start of what a run needs beside itself: the Prefect server, and the process that its workers are forked from."""

from contextlib import suppress
from pathlib import Path

from flows.nights.cluster.local import start_worker_server
from flows.nights.cluster.prefect_server import PrefectServer, prefect_server
from flows.storage.layout import PARTS
from schemas.settings import Settings


def start_services(settings: Settings) -> PrefectServer:
    """Start the Prefect server and the process that workers are forked from; return at once. They take seconds."""
    if settings.cluster.kind == "local":
        start_worker_server()
    return prefect_server()


def start_ahead(out: Path, settings: Settings) -> None:
    """Start the services while the command still plans, if nothing became of an exposure in the output folder yet.

    Elsewhere there may be nothing to do, and a service takes seconds of processor time.
    """
    if not any((out / part).exists() for part in PARTS):
        start_services(settings)


def import_engines() -> None:
    """Import what Prefect loads as a flow begins, while the workers get ready."""
    with suppress(Exception):  # where it is needed the same error is raised again
        import prefect.flow_engine
        import prefect.task_engine
        import prefect.utilities.visualization  # noqa: F401


def import_night_stages() -> None:
    """Import what whole nights need, while the workers search."""
    with suppress(Exception):  # as above
        import astropy_healpix  # noqa: F401
        import numba  # noqa: F401
        import pandas  # noqa: F401
        import scipy.spatial  # noqa: F401
        import sqlalchemy.dialects.sqlite  # noqa: F401

        import flows.nights.patches
        import flows.storage.association_store  # noqa: F401
