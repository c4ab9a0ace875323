"""Rubin's alert-production database (`lsst.dax.apdb`), in which exposures are stored.

Its package is under the GPL and used only at run time (extra ``apdb``). It cannot replace rows and refuses a visit that
is stored twice, so ask `ApdbDatabase.contains` first.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from flows.publish.avro_rows import Column
from kernels.sky.positions import unit_vectors
from schemas.errors import BadInput, Misconfigured, Retryable, missing_extra

if TYPE_CHECKING:
    import pandas as pd

OBJECT, SOURCE, FORCED = "DiaObject", "DiaSource", "DiaForcedSource"
"""Tables that nightstride fills."""

FILLED_BY_IT = frozenset({"validityStartMjdTai", "validityEndMjdTai"})
"""Columns of these tables that the package fills itself."""

_MARGIN = np.radians(10 / 3600)


class ApdbDatabase:
    """Open database; a context manager that closes it at the end.

    Parameters
    ----------
    where
        Path or URI of its configuration, as written by ``apdb-cli create-sql`` or ``create-cassandra``.

    Raises
    ------
    Misconfigured
        The extra ``apdb`` is missing; the configuration is missing or unusable (``bad_apdb``), of another version
        (``apdb_version``), or names psycopg 3 (``apdb_driver``).
    Retryable
        The database does not answer (``apdb_down``).
    """

    def __init__(self, where: str) -> None:
        try:
            from lsst.dax.apdb import Apdb, IncompatibleVersionError
        except ImportError as error:
            raise missing_extra("lsst-dax-apdb", "apdb") from error
        self._where = where
        with self._answers():
            try:
                self._apdb = Apdb.from_uri(where)
            except IncompatibleVersionError as error:
                remedy = "upgrade it with lsst-dax-apdb-migrate, or install the version of lsst-dax-apdb that made it."
                raise Misconfigured("apdb_version", where, f"is of another version: {error}.", remedy) from error
            except Exception as failure:  # reading a file or URI of any kind may raise any error
                if _of_database(failure):
                    raise
                remedy = "give the file that `apdb-cli create-sql` has written (docs/use/apdb.md)."
                reason = "there is no such file" if isinstance(failure, FileNotFoundError) else str(failure).rstrip(".")
                problem = f"is not a configuration of an APDB: {reason}."
                raise Misconfigured("bad_apdb", where, problem, remedy) from failure
        if str(getattr(self._apdb.getConfig(), "db_url", "")).startswith("postgresql+psycopg:"):
            self.__exit__()
            remedy = "write postgresql+psycopg2:// in db_url."
            raise Misconfigured(
                "apdb_driver", where, "its db_url names psycopg 3, through which the package cannot write.", remedy
            )

    def __enter__(self) -> "ApdbDatabase":
        return self

    def __exit__(self, *_: object) -> None:
        engine = getattr(self._apdb, "_engine", None)  # only SQL backends have one; the package does not close it
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Convert errors of the database: refused rows to `BadInput`, others to `Retryable`."""
        from pandas.errors import DatabaseError

        try:
            yield
        except Exception as error:
            cause = error.__cause__ if isinstance(error, DatabaseError) else error  # pandas writes the tables
            if isinstance(cause, (sa.exc.DataError, sa.exc.IntegrityError)):
                remedy = "look whether something else has stored the same ids there; nothing of the visit was stored."
                raise BadInput("apdb_refuses", self._where, f"refuses rows: {_words(cause)}.", remedy) from error
            if _of_database(cause):
                problem = f"the database does not answer, or lacks its tables: {_words(cause)}."
                remedy = "see to it, and run again: what is stored stays."
                raise Retryable("apdb_down", self._where, problem, remedy) from error
            raise

    def contains(self, visit: int, detector: int) -> bool:
        """Return whether a detection of an exposure is stored; raise as `put` does."""
        with self._answers():
            return bool(self._apdb.containsVisitDetector(visit, detector))

    def processed(self, identity: int, ra: float, dec: float, mjd: float) -> float | None:
        """Return the processing time of a detection, MJD TAI; None if it is not stored; raise as `put` does.

        Parameters
        ----------
        identity, ra, dec, mjd
            Its diaSourceId, position (ICRS, deg) and time (MJD TAI).
        """
        here, when = _about(np.array([ra]), np.array([dec])), _time(mjd - 1e-6)
        with self._answers():
            found = self._apdb.getDiaSources(here, None, _time(mjd), when)
        if found is None:
            return None
        times = found.loc[found["diaSourceId"] == identity, "timeProcessedMjdTai"]
        return float(times.iloc[0]) if len(times) else None

    def as_late(self, ra: NDArray[np.float64], dec: NDArray[np.float64], mjd: float) -> set[int]:
        """Return the ids of objects around positions whose version is from a time or later; raise as `put` does.

        Parameters
        ----------
        ra, dec : (n,)
            Positions, ICRS, deg; n is at least 1.
        mjd
            Time, MJD TAI.
        """
        with self._answers():
            found = self._apdb.getDiaObjects(_about(ra, dec))
        late = found["validityStartMjdTai"].to_numpy() >= mjd
        return set(found.loc[late, "diaObjectId"].tolist())

    def forced(
        self, objects: list[int], ra: NDArray[np.float64], dec: NDArray[np.float64], mjd: float
    ) -> set[tuple[int, int, int]]:
        """Return object, visit and detector of the forced fluxes of objects since a time; raise as `put` does.

        Parameters
        ----------
        objects, ra, dec : (n,)
            Ids and positions of the objects, ICRS, deg; n is at least 1.
        mjd
            Time, MJD TAI.
        """
        with self._answers():
            found = self._apdb.getDiaForcedSources(_about(ra, dec), objects, _time(mjd), _time(mjd - 1e-6))
        names = ("diaObjectId", "visit", "detector")
        return set() if found is None else set(zip(*(found[name].tolist() for name in names), strict=True))

    def frame(self, table: str, columns: Mapping[str, Column]) -> "pd.DataFrame":
        """Return columns as rows of a table, without columns that it lacks, and with long texts cut.

        Parameters
        ----------
        table
            `OBJECT`, `SOURCE` or `FORCED`.
        columns
            Columns by Rubin's names.

        Raises
        ------
        Misconfigured
            The table requires a column that is not given (``apdb_version``).
        """
        import pandas as pd
        from lsst.dax.apdb import ApdbTables

        definition = self._apdb.tableDef(ApdbTables[table])
        # Columns of the schema have ids like #DiaSource.ra, those that the package adds for itself like #pixelId.
        wanted = {} if definition is None else {one.name: one for one in definition.columns if "." in one.id}
        needed = {name for name, one in wanted.items() if not one.nullable and one.value is None}
        if missing := needed - columns.keys() - FILLED_BY_IT:
            raise Misconfigured(
                "apdb_version", self._where, f"its {table} wants {', '.join(sorted(missing))}: not known here.",
                "create it with the schema of an earlier lsst-sdm-schemas.",
            )  # fmt: skip
        return pd.DataFrame(
            {
                name: _series(columns[name], one.pandas_type, one.length)
                for name, one in wanted.items()
                if name in columns
            }
        )

    def put(
        self,
        mjd: float,
        objects: "pd.DataFrame | None" = None,
        sources: "pd.DataFrame | None" = None,
        forced: "pd.DataFrame | None" = None,
    ) -> None:
        """Store the rows of a visit, all or none of them if the database has transactions.

        Parameters
        ----------
        mjd
            Time of the visit, MJD TAI, from which versions of objects are valid.
        objects, sources, forced
            Rows from `frame`; None: no rows.

        Raises
        ------
        BadInput
            The database refuses rows (``apdb_refuses``): their ids exist, or values do not fit.
        Retryable
            The database does not answer (``apdb_down``).
        """
        import pandas as pd

        none = pd.DataFrame({"ra": [], "dec": []})
        with self._answers():
            self._apdb.store(_time(mjd), none if objects is None else objects, sources, forced)


def _of_database(error: BaseException | None) -> bool:
    """Return whether an error comes from SQLAlchemy or the Cassandra driver."""
    return isinstance(error, sa.exc.SQLAlchemyError) or type(error).__module__.startswith("cassandra")


def _words(error: BaseException | None) -> str:
    """Return the first line of an error; the others are the statement and all its rows."""
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _time(mjd: float) -> Any:
    from astropy.time import Time

    return Time(mjd, format="mjd", scale="tai")


def _about(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> Any:
    """Return a circle around positions, with a margin of 10 arcsec."""
    from lsst.sphgeom import Angle, Circle, UnitVector3d

    where = unit_vectors(ra, dec)
    middle = where.mean(axis=0)
    middle /= np.linalg.norm(middle)
    radius = 2 * np.arcsin(np.clip(np.linalg.norm(where - middle, axis=1).max() / 2, 0, 1))
    return Circle(UnitVector3d(*map(float, middle)), Angle(float(radius + _MARGIN)))


def _series(column: Column, dtype: str, length: int | None) -> Any:
    """Return a column as a pandas series; NaN, infinity and empty texts are null."""
    import pandas as pd

    if dtype == "object":
        return pd.Series([one[:length] if one else None for one in column.values], dtype=object)
    plain = np.asarray(column.values)
    if np.issubdtype(plain.dtype, np.floating):
        known = np.isfinite(plain) if column.valid is None else np.isfinite(plain) & column.valid
        return pd.Series(np.where(known, plain, np.nan), dtype="float64")
    found = pd.Series(plain).astype(dtype)
    return found if column.valid is None else found.where(pd.Series(column.valid), pd.NA)
