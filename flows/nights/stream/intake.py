"""Intake of a stream: from files that arrive to exposures to be searched."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from flows.inputs.butler_repository import is_repository
from flows.inputs.folder_arrivals import Arrivals
from flows.inputs.folder_walk import SUFFIXES
from flows.inputs.source import AN_ALERT, Source, name_of
from flows.inputs.sources import list_sources
from flows.pipeline.outcome import Item, Plan
from flows.pipeline.plan import Planner
from flows.pipeline.superseded import Name, name_tuple
from flows.runtime.secrets import without_credentials
from flows.storage.quarantine import Quarantine
from schemas.errors import BadInput, Misconfigured, NightstrideError, Retryable, printable
from schemas.settings import Settings
from schemas.summary import Trouble

Arrived = frozenset[str]
"""Names, at the place of arrival, of the files that hold an exposure."""


@dataclass
class Intake:
    """Intake of a stream: takes files that have arrived, and plans their exposures.

    One thread may call `take` while another calls `finished`.

    Parameters
    ----------
    arrivals
        Where files arrive.
    planner
        Decides what to do with each exposure.
    quarantine
        Records why something that arrived cannot be read.
    settings
        Settings of the run.
    clock
        Returns the time, s.

    Attributes
    ----------
    unread
        Files, or the place itself, that could not be read the last time; they are tried again the next time.
    """

    arrivals: Arrivals
    planner: Planner
    quarantine: Quarantine
    settings: Settings
    clock: Callable[[], float] = time.monotonic
    unread: tuple[Trouble, ...] = field(default=(), init=False)
    _unlisted: list[str] = field(default_factory=list, init=False)
    _waiting: dict[Source, Arrived] = field(default_factory=dict, init=False)
    _held: int = field(default=0, init=False)
    _flying: dict[Name, Arrived] = field(default_factory=dict, init=False)
    _since: dict[tuple[str, int], float] = field(default_factory=dict, init=False)
    _failing: dict[str, float] = field(default_factory=dict, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @property
    def on_the_way(self) -> int:
        """Count exposures handed out and not finished, and repeated deliveries that wait for them."""
        return len(self._flying) + self._held

    def take(self, room: int) -> Plan:
        """Plan what has arrived; at most ``room`` files are held without being handed out.

        Another delivery of an exposure in progress waits until that is finished; then the ledger shows whether it is
        the same. What cannot be read now also waits; it is in ``unread`` and in no plan.

        Raises
        ------
        Retryable
            The place of arrival or the ledger cannot be read now.
        Misconfigured
            A model or the ledger cannot be used.
        """
        free = room - len(set().union(self._unlisted, *self._waiting.values()))
        if free > 0:
            self._unlisted = [*self._unlisted, *self._polled(free)]
        arrived = set(self._unlisted).union(*self._waiting.values())
        refused = self._list()
        # Before planning: the ledger, as the planner reads it, may or may not include what finishes meanwhile.
        with self._lock:
            flying = set(self._flying)
        plan = self._dead(self._planned())
        todo = tuple(item for item in plan.todo if name_tuple(item.key) not in flying)
        self._keep(todo, {item.source for item in plan.todo} - {item.source for item in todo}, plan.failed)
        self._settle(sorted(arrived))
        return replace(plan, todo=todo, quarantined=(*plan.quarantined, *refused), failed=())

    def waited(self, item: Item) -> float:
        """Return the time since the first exposure in progress of a visit arrived, s; 0: there is none."""
        now = self.clock()
        return now - self._since.get((item.key.night, item.key.visit), now)

    def oldest_s(self) -> float:
        """Return the time since the first arrival of the visit longest in progress, s; 0: there is none."""
        now = self.clock()
        with self._lock:
            return now - min(self._since.values(), default=now)

    def finished(self, item: Item) -> None:
        """Note that an exposure that was handed out has an outcome."""
        visit = item.key.night, item.key.visit
        with self._lock:
            arrived = self._flying.pop(name_tuple(item.key), frozenset())
            if not any(name[:2] == visit for name in self._flying):
                self._since.pop(visit, None)
        self._settle(sorted(arrived))

    def _polled(self, room: int) -> list[str]:
        try:
            return self.arrivals.poll(room)
        except Retryable as error:
            place = _trouble(error.where, error)
            self.unread = (*(one for one in self.unread if one.uri != place.uri), place)
            raise

    def _list(self) -> list[Trouble]:
        """List the exposures in what has arrived; return troubles of files that hold none and are quarantined."""
        waiting, left, refused, unread = dict(self._waiting), [], [], []
        for uri in self._unlisted:
            try:
                if self.arrivals.announced:
                    require_allowed(uri, self.settings.watch.allow)
                found = self._listed(uri)
            except Retryable as error:
                left.append(uri)
                unread.append(_trouble(uri, error))
                continue
            except (BadInput, Misconfigured) as error:
                found = []
                try:
                    self.quarantine.put(error, _shown(uri))
                    refused.append(_trouble(uri, error))
                except Retryable as full:  # the disk may be full
                    left.append(uri)
                    unread.append(_trouble(uri, full))
            for source in found:
                waiting[source] = waiting.get(source, frozenset()) | {uri}
        with self._lock:
            self._waiting, self._unlisted, self.unread = waiting, left, tuple(unread)
        return refused

    def _listed(self, uri: str) -> list[Source]:
        """Return the exposures in a file; errors as in `_sources`, and `BadInput` if it was unreadable for too long."""
        try:
            found = _sources(uri, self.settings)
        except Retryable as error:
            if (dead := self._dead_letter(uri, error.problem)) is not None:
                raise dead from error
            raise
        self._failing.pop(uri, None)
        return found

    def _dead_letter(self, uri: str, problem: str) -> BadInput | None:
        """Return an error if a file has been unreadable for too long; None while it is still waited for."""
        since = self._failing.setdefault(uri, self.clock())
        if self.clock() - since < self.settings.watch.give_up_s:
            return None
        del self._failing[uri]
        return BadInput(
            "dead_letter",
            _shown(uri),
            f"could not be looked at for {self.settings.watch.give_up_s:g} s: {problem}",
            "see the place; then `nightstride run` it by its name: that takes it out of quarantine.",
        )

    def _planned(self) -> Plan:
        if not self._waiting:
            return Plan((), (), 0)
        try:
            return self.planner.plan(self._waiting)
        except Retryable as error:
            self._held = 0
            self.unread += tuple(_trouble(name_of(source), error) for source in self._waiting)
            raise

    def _dead(self, plan: Plan) -> Plan:
        """Quarantine sources that have been unreadable for too long."""
        failed, given_up = [], []
        for trouble in plan.failed:
            if (error := self._dead_letter(trouble.uri, trouble.message)) is None:
                failed.append(trouble)
            else:
                self.quarantine.put(error, trouble.uri)
                given_up.append(_trouble(trouble.uri, error))
        still = {trouble.uri for trouble in failed}.union(self._unlisted)
        self._failing = {name: since for name, since in self._failing.items() if name in still}
        return replace(plan, failed=tuple(failed), quarantined=(*plan.quarantined, *given_up))

    def _keep(self, todo: Sequence[Item], held: set[Source], failed: Sequence[Trouble]) -> None:
        """Record which exposures are handed out now, and which wait."""
        names, now = {trouble.uri for trouble in failed}, self.clock()
        with self._lock:
            for item in todo:
                self._flying[name_tuple(item.key)] = self._waiting[item.source]
                self._since.setdefault((item.key.night, item.key.visit), now)
            self._waiting = {
                source: arrived
                for source, arrived in self._waiting.items()
                if source in held or name_of(source) in names
            }
            self._held = len(held)
        self.unread += tuple(failed)

    def _settle(self, uris: Sequence[str]) -> None:
        """Tell the place of arrival which files have no exposure left in progress or waiting."""
        with self._lock:
            still = set(self._unlisted).union(*self._waiting.values(), *self._flying.values())
        for uri in uris:
            if uri not in still:
                self.arrivals.finished(uri)


def require_allowed(uri: str, allow: Sequence[str]) -> None:
    """Refuse names that a message may not contain: its sender must not reach everything that this process can read.

    Parameters
    ----------
    uri
        Name in the message.
    allow
        Allowed prefixes of paths and URLs; empty: image files on this machine and in S3 buckets.

    Raises
    ------
    BadInput
        ``not_allowed``.
    """
    if uri == AN_ALERT:
        raise BadInput(
            "alert_message", uri, "is in a topic of exposures.",
            "send alerts to a topic of their own, and read it with nightstride watch --content alerts.",
        )  # fmt: skip
    protocol, separator, rest = uri.partition("://")
    local = not separator or protocol in ("file", "local")
    # Patterns name many files, and percent signs could hide what is checked here.
    plain = uri.isprintable() and not any(sign in uri for sign in ("::", "*", "?", "[", "%", "#"))
    if not plain or is_repository(uri) or ".." in rest.split("/"):
        raise _not_allowed(uri, "is not a plain name of an image file")
    path = os.path.realpath(rest if separator else uri) if local else uri
    if not path.lower().endswith(SUFFIXES) or (local and _is_folder(Path(path))):
        raise _not_allowed(uri, "is not an image file by its name")
    if not allow and not local and protocol != "s3":
        raise _not_allowed(uri, f"would be fetched by {protocol}")
    if allow and not any(_is_below(path, os.path.realpath(one) if "://" not in one else one) for one in allow):
        raise _not_allowed(uri, "lies in no place that watch.allow names")


def _is_folder(path: Path) -> bool:
    """Return whether the path is a folder that can be accessed; too long a name is none."""
    with suppress(OSError):
        return path.is_dir()
    return False


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")


def _not_allowed(uri: str, why: str) -> BadInput:
    return BadInput(
        "not_allowed", _shown(uri), f"{why}: a message may not name it.", "name its place in the setting watch.allow."
    )


def _sources(uri: str, settings: Settings) -> list[Source]:
    """Return the exposures in what arrived; a message may name anything.

    Raises
    ------
    Retryable
        It cannot be read now.
    BadInput, Misconfigured
        It names nothing readable.
    """
    try:
        if not uri:  # it would mean the current folder
            raise BadInput("no_such_input", _shown(uri), "names no file.", "send a path or URL.")
        return list_sources([uri], settings)
    except Misconfigured as error:
        if error.code == "no_exposures":
            return []
        if error.code == "unreadable_input":
            raise Retryable(error.code, error.where, error.problem, error.remedy) from error
        raise
    except NightstrideError:
        raise
    except OSError as error:
        raise Retryable(
            "unreadable_input", _shown(uri), f"cannot be looked at: {type(error).__name__}.", "check the place."
        ) from error
    except Exception as error:  # file systems of all kinds refuse URLs in their own ways
        raise BadInput(
            "no_such_input",
            _shown(uri),
            f"is not a path or URL that can be read: {type(error).__name__}.",
            "correct it.",
        ) from error


def _shown(uri: str) -> str:
    return printable(without_credentials(uri)) or "an empty message"


def _trouble(uri: str, error: NightstrideError) -> Trouble:
    return Trouble.of(_shown(uri), error)
