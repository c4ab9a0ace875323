"""Schedulers and workers as operators start them, each in a process of its own."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from flows.worker_config import environment

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/cluster.md").read_text()


def commands(first):
    """The block of the page that begins with a word, without the prompt."""
    return next(
        block for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if block.startswith(first)
    )


def make_certificates(folder):
    """Make an authority and a certificate as the page says; give the options of Dask and the settings."""
    folder.mkdir()
    subprocess.run(["bash", "-euc", commands("openssl")], cwd=folder, check=True, capture_output=True)
    ca, cert, key = (str(folder / name) for name in ("ca.pem", "node.pem", "node.key"))
    return {"tls_ca": ca, "tls_cert": cert, "tls_key": key}


def tls_options(files):
    return ["--tls-ca-file", files["tls_ca"], "--tls-cert", files["tls_cert"], "--tls-key", files["tls_key"]]


@contextmanager
def started(*command, log, says, folder, **changed):
    """Run ``dask …`` until the block ends; it begins when the log says something, whose match is given."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **environment(), "PYTHONPATH": str(ROOT), **changed},
        )
    try:
        for _ in range(1200):
            if found := re.search(says, log.read_text()):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        else:
            raise AssertionError(log.read_text())
        yield found
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def scheduler(folder, files=None):
    """A scheduler on a port of its own; gives its address."""
    options = ["--protocol", "tls", *tls_options(files)] if files else []
    with started(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", *options,
        log=folder / "scheduler.log", says=r"Scheduler at: +(\S+)", folder=folder,
    ) as found:  # fmt: skip
        yield found[1]


@contextmanager
def worker(address, name, folder, *options, files=None, **changed):
    """A worker with a name."""
    with started(
        "worker", address, "--name", name, "--nthreads", "1", "--memory-limit", "2GiB", "--no-dashboard",
        "--local-directory", str(folder), *(tls_options(files) if files else ()), *options,
        log=folder / f"{name}.log", says="Registered to", folder=folder, **changed,
    ):  # fmt: skip
        yield
