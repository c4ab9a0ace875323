"""The command line in this process: what it says and how it ends, without the seconds that a new process takes."""

import contextlib
import gc
import json
import logging
import os
import sys
import traceback
import warnings
from dataclasses import dataclass

import fsspec
from typer.testing import CliRunner

from flows.cli.app import app
from flows.nights.cluster import local
from flows.runtime import log
from flows.storage import object_store
from flows.storage.object_store import configure
from schemas.settings import StoreSettings

local._MODULES += ["flows.nights.run", "flows.storage.association_store", "flows.results.page.page"]
"""What the process beside a run imports by itself: here it is forked from one that serves hundreds of runs."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def summary(self):
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def counts(self):
        return tuple(self.summary["exposures"][name] for name in ("seen", "done", "skipped", "quarantined", "failed"))


def nightstride(*arguments, cwd=".", **environment):
    """Run ``nightstride`` with some arguments, in a folder and with variables of the environment of its own."""
    with contextlib.chdir(cwd), _unchanged_process(environment):
        result = CliRunner(env=environment).invoke(app, [str(one) for one in arguments], prog_name="nightstride")
    stderr = result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        stderr += "".join(traceback.format_exception(result.exception))
    return Finished(result.exit_code, result.stdout, stderr)


@contextlib.contextmanager
def _unchanged_process(given):
    """Keep what a command sets for the rest of its process from the tests after it, and their rules from it."""
    root, hook, level = logging.getLogger(), sys.excepthook, log.LOGGER.level
    handlers, environment = root.handlers[:], dict(os.environ)
    try:
        with warnings.catch_warnings(), _prefect_at(given):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:], sys.excepthook, log._run = handlers, hook, None
        log.LOGGER.setLevel(level)
        logging.captureWarnings(False)
        os.environ.clear()
        os.environ.update(environment)
        forget_stores()


def forget_stores():
    """Leave no store behind: the next command may have another endpoint in its environment."""
    object_store._store.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    configure(StoreSettings())


@contextlib.contextmanager
def _prefect_at(given):
    """Have Prefect talk to the server that variables name, whatever it was imported with."""
    if "PREFECT_API_URL" not in given:
        yield
        return
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    from flows.nights.cluster.prefect_server import prefect_server

    prefect_server.cache_clear()
    named = {one: given[one.name] for one in (PREFECT_API_URL, PREFECT_API_AUTH_STRING) if one.name in given}
    with temporary_settings(named):
        yield
    prefect_server.cache_clear()
    gc.collect()  # here, where warnings are ignored: Prefect leaves connections to be collected some time
