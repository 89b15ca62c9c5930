"""Which process, on which machine, of which code. A pid alone is not enough, as it is reused: a process is the same
only if pid, start time, boot id and pid namespace (containers) agree."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lsc_engine

# The packages whose versions a run records.
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "safetensors", "pydantic")
_GIT_SECONDS = 5.0
# Set in the environment of a process that no terminal is meant to end.
DETACHED = "LSC_DETACHED"


@dataclass(frozen=True, slots=True)
class Identity:
    """A process as another process on the same machine can recognise it."""

    host: str
    machine: str
    boot_id: str
    pid_namespace: str
    pid: int
    pid_start: float


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""


@functools.cache
def host_name() -> str:
    """This machine's name."""
    return socket.gethostname() or "localhost"


@functools.cache
def machine_id() -> str:
    """A hash that distinguishes machines of one name; empty if the system has no machine id."""
    text = _read("/etc/machine-id")
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


@functools.cache
def boot_id() -> str:
    """Changes with every start of the machine."""
    if text := _read("/proc/sys/kernel/random/boot_id"):
        return text
    import psutil

    return f"boot-{host_name()}-{round(psutil.boot_time() / 60)}"


def pid_namespace() -> str:
    """Processes of one machine see each other's pids only inside one namespace."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_start(pid: int) -> float | None:
    """When process `pid` began (clock ticks since boot on Linux, seconds elsewhere); None if it is gone or a zombie."""
    if sys.platform.startswith("linux"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            return None if fields[0] in (b"Z", b"X", b"x") else float(fields[19])
        except (OSError, IndexError, ValueError):
            return None
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def this_process() -> Identity:
    """The identity of the calling process."""
    pid = os.getpid()
    return Identity(host_name(), machine_id(), boot_id(), pid_namespace(), pid, process_start(pid) or 0.0)


def same_machine(host: str, machine: str) -> bool:
    """Whether the names are this machine's (an unknown machine id leaves it to the host name)."""
    return host == host_name() and (not machine or not machine_id() or machine == machine_id())


def is_alive(who: Identity) -> bool | None:
    """Whether the process lives; None if that cannot be seen from here (another machine or another container)."""
    if who.boot_id != boot_id():
        return False if same_machine(who.host, who.machine) else None
    if who.pid_namespace != pid_namespace():
        return None
    start = process_start(who.pid)
    return start is not None and abs(start - who.pid_start) < 1


def python_command(*words: str) -> list[str]:
    """The command line that runs this Python with `words`; the current folder may hold a random.py."""
    return [sys.executable, "-P", *words]


def describe_source(argv: Sequence[str]) -> dict[str, Any]:
    """{"command", "code", "versions", "host", "platform"} of this process for source.json; `argv` as started."""
    # Reading versions loads half of the email package, which a viewer does without.
    from importlib import metadata

    versions: dict[str, str | None] = {"python": platform.python_version(), "lsc": lsc_engine.__version__}
    for name in PACKAGES:
        versions[name] = None
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "command": shlex.join(["lsc-engine", *argv[1:]]),
        "code": code_version(Path(lsc_engine.__file__).parent),
        "versions": versions,
        "host": host_name(),
        "platform": platform.platform(),
    }


def code_version(folder: Path) -> dict[str, Any]:
    """{"commit", "dirty"} of the checkout that holds `folder`, itself dirty or not; both None if installed."""
    found: list[str | None] = [None, None]
    for place, words in enumerate(("rev-parse HEAD", "status --porcelain --untracked-files=no -- .")):
        command = ["git", "-C", str(folder), *words.split()]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
            found[place] = done.stdout.strip()
    commit, changed = found
    return {"commit": commit, "dirty": None if commit is None or changed is None else bool(changed)}
