"""Schedulers and workers as operators start them, each in a process of its own."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from flows.nights.cluster.local import environment
from tests.support.services import absent, free_ports

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operate/clusters.md").read_text()


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
def started(*command, log, says, folder, python=(sys.executable,), **changed):
    """Run ``dask …`` until the block ends; it begins when the log says something, whose match is given."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [*python, "-m", "dask", *command],
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
def scheduler(folder, files=None, host="127.0.0.1"):
    """A scheduler on a port of its own; gives its address."""
    options = ["--protocol", "tls", *tls_options(files)] if files else []
    with started(
        "scheduler", "--host", host, "--port", "0", "--dashboard-address", "127.0.0.1:0", *options,
        log=folder / "scheduler.log", says=r"Scheduler at: +(\S+)", folder=folder,
    ) as found:  # fmt: skip
        yield found[1]


@contextmanager
def worker(address, name, folder, *options, files=None, scratch=None, **changed):
    """A worker with a name."""
    with started(
        "worker", address, "--name", name, "--nthreads", "1", "--memory-limit", "2GiB", "--no-dashboard",
        "--local-directory", str(scratch or folder), *(tls_options(files) if files else ()), *options,
        log=folder / f"{name}.log", says="Registered to", folder=folder, **changed,
    ):  # fmt: skip
        yield


CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def require_slurm():
    """Skip, or fail where services are required, if SLURM cannot be started here."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=_path()) is None]
    reason = (
        f"not installed: {', '.join(missing)}" if missing else "" if os.geteuid() == 0 else "only root can start it"
    )
    if reason:
        absent(f"SLURM: {reason}")


@contextmanager
def slurm(folder):
    """Start a SLURM whose files are in a folder; gives the environment in which its commands work."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().split(".")[0]
    text = CONFIGURATION.format(host=host, folder=folder, ports=free_ports(2), cores=os.cpu_count(), memory=8192)
    (folder / "slurm.conf").write_text(text)
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    commands = (
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
         f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    )  # fmt: skip
    running = []
    try:
        running.extend(_start(command, folder, environment) for command in commands)
        _wait_until_idle(folder, environment)
        yield environment
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(60)


def ask(environment, *command):
    """Run one of SLURM's commands; give what it says."""
    told = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60, check=True
    )
    return told.stdout


def _start(command, folder, environment):
    with (folder / f"{command[0]}.out").open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **environment})


def _wait_until_idle(folder, environment):
    for _ in range(600):
        try:
            if ask(environment, "sinfo", "--noheader", "--format=%T").strip() == "idle":
                return
        except subprocess.CalledProcessError:
            pass
        time.sleep(0.1)
    raise AssertionError("\n".join(path.read_text()[-2000:] for path in sorted(Path(folder).glob("*.out"))))


def _path():
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"
