"""Order of all tests, and properties that do not depend on how fast the machine is.

Files that take longest come first, so that no process of pytest-xdist is left alone with one. What starts servers or
processes, and waits for them, is tried again when it fails, and named in the summary with what was wrong.
"""

import faulthandler
import gc
import os
import sys
from collections import Counter

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import HealthCheck, settings

gc.disable()  # until all is collected: a third of the time of the collection, and little of it is garbage

# Read when OpenMP is loaded: a thread without work sleeps, instead of taking a core from the other processes of tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile("nightstride", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nightstride")


TRIED_AGAIN = ("slow", "services", "faults")

SERVICES = {"moto", "server", "browser", "encrypted"}
"""Fixtures that start an S3 server, a browser or a cluster: tests that use them are marked `services`."""


def pytest_collection_modifyitems(items):
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    for item in items:
        if SERVICES & set(item.fixturenames):
            item.add_marker(pytest.mark.services)
        if any(map(item.get_closest_marker, TRIED_AGAIN)):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=5))
    start_numba()
    gc.collect()
    gc.freeze()  # what was imported stays: no collection has to look through it
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node):
    """Set the limit of time again, which pytest lifts where a test fails: its end may hang, too, and the next try.

    Pytest lifts it for a debugger's sake, and in any case when the last try has ended.
    """
    limit = float(node.config.getini("faulthandler_timeout"))
    if limit and not node.config.getvalue("usepdb"):
        told = node.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(limit, file=told, exit=node.config.getini("faulthandler_exit_on_timeout"))


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.write_line(f"tried again: {report.nodeid}\n{report.longreprtext[-1500:]}\n")


def start_numba():
    """Start numba's threads now: whenever they start, torch's number, of `OMP_NUM_THREADS`, is raised to theirs."""
    if {"numba", "torch"} <= sys.modules.keys():
        import numba
        import torch

        before = torch.get_num_threads()
        numba.get_num_threads()
        torch.set_num_threads(before)
