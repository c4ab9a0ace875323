"""Stores of the association, on both databases."""

import pytest

from flows.storage.association_store import opened_association
from schemas.settings import AssociationSettings
from tests.support.services import association_database

SETTINGS = AssociationSettings()


@pytest.fixture(scope="session")
def postgres():
    """Server of PostgreSQL, and the URL of an empty database in it."""
    with association_database() as found:
        yield found


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def given_settings(request):
    if request.param == "sqlite":
        yield SETTINGS
        return
    server, url = request.getfixturevalue("postgres")
    with pytest.MonkeyPatch.context() as patch:
        # For the test alone: what is started by a later one must not find the password.
        patch.setenv("PGPASSWORD", server.folder.database_password)
        yield SETTINGS.model_copy(update={"store": url})


@pytest.fixture
def store(tmp_path, given_settings):
    with opened_association(tmp_path, given_settings, rebuild=True) as opened:
        yield opened
