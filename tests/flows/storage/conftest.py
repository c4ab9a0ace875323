"""Stores of the association, on both databases."""

import pytest

from flows.nights.services.folder import DATABASE
from flows.nights.services.processes import Postgres
from flows.storage.association_store import opened_association
from schemas.settings import AssociationSettings
from tests.support.services import new_services, place, require_postgres

SETTINGS = AssociationSettings()


@pytest.fixture(scope="session")
def postgres_url():
    """An empty database of a server of the system's packages; the password is in the environment."""
    require_postgres()
    with place() as path:
        folder = new_services(path)
        server = Postgres(folder)
        server.start()
        try:
            port = folder.addresses.postgres_port
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PGPASSWORD", folder.database_password)
                yield f"postgresql+psycopg://{DATABASE}@127.0.0.1:{port}/{DATABASE}"
        finally:
            server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def given_settings(request):
    return SETTINGS if request.param == "sqlite" else SETTINGS.model_copy(
        update={"store": request.getfixturevalue("postgres_url")}
    )  # fmt: skip


@pytest.fixture
def store(tmp_path, given_settings):
    with opened_association(tmp_path, given_settings, anew=True) as opened:
        yield opened
