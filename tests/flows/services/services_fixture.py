"""Services that several tests share: starting them takes a minute."""

import pytest

from flows.services.stack import down, up
from tests.flows.services.services_support import new_services, place, require_postgres


@pytest.fixture(scope="session")
def running_services():
    """Folder of services that run; a test that ends some starts them again."""
    require_postgres()
    with place() as path, pytest.MonkeyPatch.context() as patch:
        # Looks at what is scheduled, and shows that it is there, more often than it has to.
        patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
        patch.setenv("PREFECT_WORKER_HEARTBEAT_SECONDS", "5")
        folder = new_services(path)
        up(folder, print)
        yield folder
        down(folder, (), print)
