"""Services that several tests share: starting them takes a minute."""

import pytest

from flows.nights.services.folder import private_file
from flows.nights.services.stack import down, up
from tests.support.services import new_services, place, require_postgres

OFTEN = "PREFECT_WORKER_QUERY_SECONDS=1\nPREFECT_WORKER_HEARTBEAT_SECONDS=5\n"
"""Looks at what is scheduled, and shows that it is there, more often than it has to."""


@pytest.fixture(scope="module")  # a worker and a server that wait take time of all other tests
def running_services():
    """Folder of services that run; a test that ends some starts them again."""
    require_postgres()
    with place() as path:
        folder = new_services(path)
        private_file(folder.path / "worker.env", OFTEN)
        up(folder, print)
        yield folder
        down(folder, (), print)
