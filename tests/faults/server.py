"""Starts real command lines, each in a process of its own, from one that has loaded torch already: a start takes
milliseconds instead of seconds, and all that the new process does is what `lsc-engine` does.

Requests and answers are lines of JSON on stdin and stdout:
{"start": [words], "cwd", "env", "log", "setup": code run before main()} -> {"pid"};   {"wait": pid} -> {"code"}
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from typing import Any


def serve() -> dict[str, Any] | None:
    """Answer requests; in a started process return its request, at the end of the requests None."""
    statuses: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                return request
            answer = {"pid": pid}
        else:
            answer = {"code": wait(request["wait"], request["seconds"], statuses)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return None


def wait(pid: int, seconds: float, statuses: dict[int, int]) -> int | None:
    """The exit code (negative: the signal), None if it is still running after `seconds`."""
    deadline = time.monotonic() + seconds
    while pid not in statuses:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            statuses[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            return None
        else:
            time.sleep(0.005)
    return statuses[pid]


def become(request: dict[str, Any]) -> None:
    """Be the process that was asked for: its session, streams, folder, environment; then the command line."""
    os.setsid()
    streams = (os.open(os.devnull, os.O_RDONLY), os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
    for number, stream in ((0, streams[0]), (1, streams[1]), (2, streams[1])):
        os.dup2(stream, number)
    # Those of the server know what its own were: whether one can seek, is a terminal.
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    sys.argv = ["lsc-engine", *request["start"]]
    exec(request["setup"], {"__name__": "setup"})
    from lsc_engine.cli import main

    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    # The rest of Python's own ending takes longer than these runs.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    import torch

    for name in (
        "lsc_engine.studies.runner",
        "lsc_engine.cli.results",
        "lsc_engine.training.execute",
        *sys.argv[1:],
    ):
        importlib.import_module(name)
    from lsc_engine.data import augment
    from lsc_engine.data.datasets import digits

    torch.set_num_threads(1)
    digits.Digits().load("train", unique=True, folder=None)
    augment.light1(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), augment.draw(0, 0, torch.arange(4), 4, "image"))
    # One small step, so that what torch sets up at the first one is there in every started process.
    layer = torch.nn.Conv2d(1, 8, 3)
    layer(torch.zeros(2, 1, 8, 8)).sum().backward()
    torch.optim.AdamW(layer.parameters(), fused=True).step()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()
    asked = serve()
    if asked is not None:
        become(asked)
