"""Machines of workers: network namespaces on one bridge, which lack what lies in folders of the tests."""

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.support.services import absent

OWN = "/mnt"
"""Folder that each machine has for itself."""


@dataclass(frozen=True)
class Network:
    """Machines, by the names of their network namespaces, and the address of this one in their network."""

    names: tuple[str, ...]
    here: str


@contextmanager
def network(count):
    """Connect some network namespaces with this one; skip, or fail where services are required, if that is refused."""
    missing = [name for name in ("ip", "unshare", "mount") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        absent(f"network namespaces: needs root and {', '.join(missing) or 'nothing else'}")
    number = os.getpid()
    # Of the networks for tests between machines (RFC 2544), which nobody routes.
    subnet, bridge = f"198.18.{number % 256}", f"night{number}"
    names = tuple(f"{bridge}-{one}" for one in range(count))
    with ExitStack() as stack:
        try:
            _ip("link", "add", bridge, "type", "bridge")
            stack.callback(_ip, "link", "delete", bridge)
            _ip("address", "add", f"{subnet}.1/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            for last, name in enumerate(names, 2):
                _ip("netns", "add", name)
                stack.callback(_ip, "netns", "delete", name)
                _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
                _ip("link", "set", name, "master", bridge, "up")
                _ip("-n", name, "address", "add", f"{subnet}.{last}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    _ip("-n", name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            absent(f"network namespaces: {error.stderr.strip()}")
        yield Network(names, f"{subnet}.1")


def python_on(name, hidden, copied):
    """Give the beginning of a command that runs Python on a machine, in a folder of its own.

    Parameters
    ----------
    name
        Of the machine.
    hidden
        Folder of which the machine has nothing.
    copied
        Folders below it that are copied to the machine, where they are.
    """
    bring = [f"cp -r {shlex.quote(str(one))} {OWN}/{number}" for number, one in enumerate(copied)]
    unpack = [
        f"mkdir -p {shlex.quote(str(one.parent))}; cp -r {OWN}/{number} {shlex.quote(str(one))}"
        for number, one in enumerate(copied)
    ]
    lines = [
        f"mount -t tmpfs tmpfs {OWN}", *bring, f"mount -t tmpfs tmpfs {shlex.quote(str(hidden))}", *unpack,
        f"export TMPDIR={OWN}", f"cd {OWN}", f'exec {shlex.quote(sys.executable)} "$@"',
    ]  # fmt: skip
    in_mounts = ("unshare", "--mount", "--propagation", "private", "bash", "-euc", "\n".join(lines), "bash")
    return ("ip", "netns", "exec", name, *in_mounts)


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
