"""Store of the association: a database of PostgreSQL that crashes, and a command that is killed right behind it."""

import signal

import psutil
import psycopg
import sqlalchemy as sa

from benchmarks.faults.fault import Fault
from benchmarks.faults.lab import Lab
from benchmarks.faults.orchestrator import started
from benchmarks.faults.scene import Scene
from benchmarks.support.moto_server import free_port
from flows.nights.services.folder import DATABASE, made
from flows.nights.services.processes import Postgres
from flows.storage.association_database import ONE_WRITER
from flows.storage.association_tables import NIGHT, TABLES, VISIT


def _server(lab: Lab) -> Postgres:
    """Return a server for the association, which runs; it ends with the lab.

    Raises
    ------
    NotAvailable
        It cannot be started here.
    """
    path = lab.folder / "association"
    new = not path.exists()
    server = Postgres(made(path, {"postgres_port": free_port()} if new else {}))
    if new:
        lab.closing.callback(server.stop)
    started(server, path)
    return server


def in_postgres(scene: Scene) -> Postgres:
    """Return the server in whose database, now empty, the association of a scene is kept; errors as in `_server`."""
    server = _server(scene.lab)
    if scene.store is None:
        port, password = server.folder.addresses.postgres_port, server.folder.database_password
        url = sa.URL.create("postgresql+psycopg", DATABASE, None, "127.0.0.1", port, DATABASE)
        scene.environment |= {"NIGHTSTRIDE_ASSOCIATION__STORE": str(url), "PGPASSWORD": password}
        scene.store = url.set(password=password)
        TABLES.drop_all(sa.create_engine(scene.store, poolclass=sa.NullPool))
    return server


class Turnstile:
    """Lock by which one process writes the store at a time: who comes in waits here, and is let through one by one.

    Parameters
    ----------
    connection
        To the database of the store.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._lock()

    def waits(self) -> bool:
        """Return whether somebody waits."""
        statement = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return self._connection.execute(statement).fetchone() != (0,)

    def let_through(self) -> None:
        """Let who waits write one transaction, the locks being given in the order in which they are asked for."""
        self.open()
        self._lock()

    def open(self) -> None:
        """Let all through."""
        self._connection.execute("SELECT pg_advisory_unlock(%s)", (ONE_WRITER,))

    def _lock(self) -> None:
        self._connection.execute("SELECT pg_advisory_lock(%s)", (ONE_WRITER,))


def database_crashes(scene: Scene) -> None:
    """Crash the database when some exposures are associated and the next is about to be, and start it again."""
    scene.part = "objects"
    server = in_postgres(scene)
    assert scene.store is not None
    wanted = scene.rng.randint(1, scene.lab.size.exposures - 1)
    scene.environment["NIGHTSTRIDE_EXECUTION__RETRIES"] = "8"  # for two minutes: a start takes long on a busy machine
    conninfo = scene.store.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        turnstile = Turnstile(connection)
        command = scene.start()
        while True:
            scene.until(turnstile.waits, command)
            if scene.associated(VISIT) == wanted:
                break
            turnstile.let_through()
        main = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
        scene.strike(lambda: main.send_signal(signal.SIGQUIT))
        scene.until(lambda: not server.running)
    scene.require(
        command.poll() is None,
        f"with {wanted} of {scene.lab.size.exposures} exposures associated PostgreSQL was down, the run was not",
    )
    server.start()
    scene.finish(command)


def flow_killed(scene: Scene) -> None:
    """Kill the command when a night is associated, and no catalogue of objects is published."""
    scene.part = "objects"
    command = scene.start()
    scene.until(lambda: scene.associated(NIGHT), command)
    scene.strike(command.kill)
    scene.until(lambda: command.poll() is not None)
    scene.require(command.poll() == -signal.SIGKILL, "it was ended by SIGKILL")
    scene.require(not scene.done(), "the night is in the store, and no dia_object is published")
    scene.finish(command)


FAULTS = (
    Fault(
        "association's PostgreSQL crashes",
        "SIGQUIT to the server among the exposures that are associated; it is started again",
        database_crashes,
    ),
    Fault(
        "flow process killed, association",
        "SIGKILL to the command between the store of the association and its catalogues; the same again",
        flow_killed,
        (-9, 0),
    ),
)
