"""Command lines as tests start them: in processes of their own, with what `subprocess` offers.

Python, torch and the engine take seconds to load. A server (process_server.py) has them loaded once for all tests of
this process and forks; a test of what is loaded, and from where, starts a `fresh` Python.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_POPEN = subprocess.Popen
# Options of subprocess.Popen that need an own child.
_NOT_FORKED = {"preexec_fn", "pass_fds", "process_group", "shell", "executable"}
# Variables that Python and libraries read while they load: with others than those of the server, a process is fresh.
_READ_WHILE_LOADING = (
    "PYTHON", "LC_", "LANG", "TZ", "OMP_", "GOMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMPY_", "TORCH", "CUDA_", "LD_",
    "MALLOC_", "SLURM_", "TYPER_", "TERMINAL_WIDTH",
)  # fmt: skip


def environment(**changes: str) -> dict[str, str]:
    """The environment of this process, in which the modules of this checkout are found, with changes."""
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), **changes}


@functools.cache
def loaded_in() -> dict[str, str]:
    """The environment of the server: that of this process once its tests are collected (conftest.py)."""
    return environment()


def start(
    *words: object,
    env: Mapping[str, str] | None = None,
    module: str = "lsc_engine",
    setup: str = "",
    fresh: bool = False,
    **options: Any,
) -> subprocess.Popen[Any]:
    """`python -m module words`, started. `env`: changes of the environment; `setup`: code that runs before it;
    `options`: as of subprocess.Popen."""
    env = environment(**(env or {}))
    command = [sys.executable, "-m", module, *map(str, words)]
    if fresh or not _can_fork(env):
        if setup:
            code = f"{setup}\nimport runpy\nrunpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
            command[1:3] = ["-c", code]
        return _POPEN(command, env=env, **options)
    return _Forked(command, module=module, setup=setup, env=env, **options)


def popen(command: Any, *, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
    """subprocess.Popen where `python -P -m` of our own modules, as programs of ours start each other, is forked."""
    given = dict(os.environ if env is None else env)
    ours = not isinstance(command, str) and [*command[:3]] == [sys.executable, "-P", "-m"]
    if ours and command[3].startswith("lsc_") and not options.keys() & _NOT_FORKED and _can_fork(given):
        return _Forked(list(command), module=command[3], safe_path=True, env=given, **options)
    return _POPEN(command, env=env, **options)


def call(*words: object, code: int | None = None, **options: Any) -> subprocess.CompletedProcess[Any]:
    """`start`, at its end, with what it printed; `code` is the exit code that it must have."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with start(*words, **(pipes | options)) as process:
        try:
            out, err = process.communicate(timeout=600)
        except BaseException:
            process.kill()
            raise
    assert code in (None, process.returncode), (process.returncode, out, err)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _can_fork(env: Mapping[str, str]) -> bool:
    return _while_loading(env) == _while_loading(loaded_in()) and _server().forks


def _while_loading(env: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in env.items() if k.startswith(_READ_WHILE_LOADING) and k != "PYTHONPATH"}


class _Server:
    """The process that forks."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-c", "from tests.process_server import main; main()", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, env=loaded_in())
        theirs.close()
        self._lock = threading.Lock()
        atexit.register(self._end)
        # What forks with other threads keeps the locks that they held. On some machines torch starts threads while it
        # is loaded; there every process is a fresh one.
        self.forks = int(self._socket.recv(100)) == 1

    def request(self, streams: list[int], **values: Any) -> int:
        """The answer, a number."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(values).encode()], streams)
            return int(self._socket.recv(100))

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


_creation = threading.Lock()
_cached = functools.cache(_Server)


def _server() -> _Server:
    """The one of this process; threads of the viewer want it too."""
    with _creation:
        return _cached()


class _Forked(subprocess.Popen[Any]):
    """A process that the server forks: a Popen in all but who its parent is."""

    def __init__(
        self, command: list[str], *, module: str, setup: str = "", safe_path: bool = False, umask: int = -1,
        **options: Any,
    ) -> None:  # fmt: skip
        argv = command[command.index(module) + 1 :]
        self._request = {"argv": argv, "module": module, "setup": setup, "safe_path": safe_path}
        if umask < 0:
            os.umask(umask := os.umask(0))
        self._request["umask"] = umask
        super().__init__(command, **options)

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any,
                       env: Any, *rest: Any) -> None:  # fmt: skip
        # As the fields of subprocess.Popen._execute_child of Python 3.11 to 3.14.
        *_, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, _, _, _, _, _, new_session, _ = rest
        assert preexec_fn is None
        assert not pass_fds
        sys.audit("subprocess.Popen", executable, args, cwd, env)
        streams = [own if own >= 0 else number for number, own in enumerate((p2cread, c2pwrite, errwrite))]
        request = {**self._request, "cwd": str(cwd or Path.cwd()), "env": env, "new_session": new_session}
        self.pid = _server().request(streams, **request)
        self._child_created = True
        # Readable when it has ended; nobody else is that process before the server has waited for it.
        self._ended = os.pidfd_open(self.pid)
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self._look(0)

    def _wait(self, timeout: float | None) -> int:
        code = self._look(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _look(self, seconds: float | None) -> int | None:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None:
                poll = select.poll()
                poll.register(self._ended, select.POLLIN)
                if poll.poll(None if seconds is None else max(0, seconds) * 1000):
                    self.returncode = _server().request([], wait=self.pid)
                    os.close(self._ended)
        return self.returncode
