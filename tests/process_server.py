"""Forks the command lines that tests start, from a process that has loaded torch and the engine (processes.py)."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import socket
import sys
import threading
import traceback
from typing import Any, NoReturn


def main() -> NoReturn:
    """Send the number of threads, then answer requests on the socket that the command line names until it is closed."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    load()
    requests.send(str(len(os.listdir("/proc/self/task"))).encode())
    while True:
        data, streams, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not data:
            os._exit(0)
        request = json.loads(data)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                requests.close()
                become(request, streams)
            for stream in streams:
                os.close(stream)
        requests.send(str(answer).encode())


def become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Be `python -m` of the requested module."""
    if request["new_session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Those of the server know what its own were: whether one can seek, is a terminal.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        was = getattr(sys, name)
        own = os.fdopen(was.fileno(), mode, -1, was.encoding, was.errors, closefd=False)
        setattr(sys, name, own)
        setattr(sys, f"__{name}__", own)
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["safe_path"]:
        sys.path.remove("")
    sys.path[:0] = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    sys.argv = ["", *request["argv"]]
    code: Any = 0
    try:
        exec(request["setup"], {"__name__": "setup"})
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
        if not isinstance(code, int | None):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    # The end of a Python without the taking down of its modules.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


def load() -> None:
    """What command lines that train or look at runs import, and what torch and the digits set up at their first use."""
    import torch

    from lsc_engine.cli import build_app
    from lsc_engine.data import augment
    from lsc_engine.data.datasets import digits

    build_app()
    for name in ("cli.results", "studies.runner", "training.execute", "analysis.claims", "report.study_data"):
        importlib.import_module(f"lsc_engine.{name}")
    # As the viewer's command line sets it before it loads them.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    for name in ("app", "data.ui_state", "screens.runs.screen", "screens.monitor.screen"):
        importlib.import_module(f"lsc_tui.{name}")
    torch.set_num_threads(1)
    digits.Digits().load("train", unique=True, folder=None)
    augment.light1(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), augment.draw(0, 0, torch.arange(4), 4, "image"))
    # No backward pass: on a machine with GPUs it would start threads.
    weight = torch.nn.Parameter(torch.ones(8, 1, 3, 3))
    weight.grad = torch.nn.functional.conv2d(torch.ones(2, 1, 8, 8), weight.detach()).sum() * torch.ones_like(weight)
    torch.optim.AdamW([weight], fused=True).step()
    gc.freeze()
