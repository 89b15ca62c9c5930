"""Real runs to break: small, on digits, in processes of their own; and what "bit-equal" is read from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lsc_engine.runs.folder.checkpoints import Checkpoint, newest_good
from lsc_engine.runs.read.run import Run, open_run
from tests.tiny import tiny
from tests.waiting import LIMIT
from tests.waiting import wait_until as until

ROOT = Path(__file__).parents[2]
# Where packages that are not installed are, as on a machine without a network.
PATHS = filter(None, [os.environ.get("PYTHONPATH")])
ENV = {"PYTHONPATH": os.pathsep.join([str(ROOT), *PATHS]), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
RUN = "t/default/seed-0"

PRESET = tiny(
    {
        "data.classes": 96,
        "data.augment": "light1",
        "optimizer.schedule": "cosine",
        "optimizer.warmup": "6 steps",
        "train.duration": "6 epochs",
        "eval.every": "7 steps",
        "log.every": "3 steps",
        "checkpoint.every": "5 steps",
    }
)

# Tells where a run is, in a file with one byte per beginning of a phase, so that a fault can be placed; FAULT_SLOW =
# "t9" makes the ninth beginning of t last until `go_on`.
PHASES = """
import os, time
from lsc_engine.data import batches
from lsc_engine.training import checkpointing, evaluator, run_images, trainer
_file = os.open("phases", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
_slow, _seen = os.environ.get("FAULT_SLOW", ""), {}
def _telling(letter, function):
    def told(*words, **options):
        _seen[letter] = _seen.get(letter, 0) + 1
        os.write(_file, letter.encode())
        if _slow == f"{letter}{_seen[letter]}":
            os.write(_file, b"!")
            while not os.path.exists("go-on"):
                time.sleep(0.005)
        return function(*words, **options)
    return told
run_images.open_source = _telling("d", run_images.open_source)
evaluator.evaluate = _telling("e", evaluator.evaluate)
checkpointing.save = _telling("s", checkpointing.save)
trainer.learning_rate = _telling("t", trainer.learning_rate)
def _each(function):
    wait = _telling("w", next)
    def told(*words):
        made = function(*words)
        while True:
            yield wait(made)
    return told
batches.Batches.from_step = _each(batches.Batches.from_step)
"""


@dataclass
class Process:
    """A started command line."""

    server: Server
    pid: int
    log: Path

    def wait(self, seconds: float = LIMIT) -> int:
        """Its exit code, negative for the signal that ended it."""
        code = self.server.ask({"wait": self.pid, "seconds": seconds})["code"]
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"it did not end in {seconds} s: {self.log.read_text()}")
        return int(code)

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.server.ask({"wait": self.pid, "seconds": 0.0})["code"] is not None

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)


class Server:
    """The process that starts processes (server.py)."""

    def __init__(self, *modules: str) -> None:
        """`modules` are loaded besides, before the first process is started."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py")), *modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **ENV}, cwd=ROOT,
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def start(
        self, folder: Path, *words: str, setup: str = "", env: dict[str, str] | None = None, log: Path | None = None
    ) -> Process:
        """`lsc-engine words` in `folder`, after the code `setup`."""
        log = log or folder / "out.txt"
        # It is there at once, whenever the process gets to open it.
        log.touch()
        request = {"start": words, "cwd": str(folder), "env": {**ENV, **(env or {})}, "log": str(log), "setup": setup}
        return Process(self, self.ask(request)["pid"], log)

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(LIMIT)
        self._process.stdout.close()


def place(folder: Path, preset: str = PRESET) -> Path:
    """`folder`, made, with the preset t.toml in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "t.toml").write_text(preset)
    return folder


def train(server: Server, folder: Path, *words: str, **options: Any) -> Process:
    """`lsc-engine run t.toml` in `folder`."""
    return server.start(folder, "run", "t.toml", "--device", "cpu", *words, **options)


def run_of(folder: Path) -> Run:
    """The one run of `folder`."""
    return open_run(folder / "runs" / RUN)


def begun(folder: Path, phase: str) -> int:
    """How often `phase` has begun: d data opened, w data waited for, t step, e evaluation, s save, ! the slow one."""
    with contextlib.suppress(FileNotFoundError):
        return (folder / "phases").read_bytes().count(phase.encode())
    return 0


def in_slow_phase(folder: Path, process: Process) -> None:
    """Wait until the run is in the phase that FAULT_SLOW names."""
    until(lambda: begun(folder, "!") or process.ended(), f"the slow phase: {folder}")
    assert begun(folder, "!"), process.log.read_text() if process.log.is_file() else "it ended"


def go_on(folder: Path) -> None:
    """End the slow phase."""
    (folder / "go-on").touch()


def good(folder: Path) -> Checkpoint:
    """The newest good checkpoint of the one run."""
    found, _ = newest_good(folder / "runs" / RUN)
    assert found is not None
    return found


def outcome(folder: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on what happened on the way: hashes of weights and optimizer state,
    and every metric series but times and speeds."""
    run = run_of(folder)
    status = run.status()
    assert (status.state, status.exit_code) == ("finished", 0), (status, run.log_path.read_text())
    newest = good(folder)
    assert newest.step == status.step == status.total_steps
    names = sorted(name for name in run.metric_names() if not name.startswith("speed/"))
    series = {name: [column.tolist() for column in run.history(name)] for name in names}
    return {"weights": newest.files["model.safetensors"][1], "optimizer": _optimizer(newest.path), **series}


def _optimizer(checkpoint: Path) -> str:
    state = torch.load(checkpoint / "state.pt", weights_only=True)
    digest = hashlib.sha256()
    for number, values in sorted(state["optimizer"]["state"].items()):
        for name, value in sorted(values.items()):
            digest.update(f"{number} {name}".encode() + value.numpy().tobytes())
    digest.update(f"{state['loss_sum'].item()} {state['loss_count']} {state['best']}".encode())
    return digest.hexdigest()


def files(folder: Path) -> Iterator[Path]:
    """Every file below `folder`."""
    return (path for path in folder.rglob("*") if path.is_file())


def at_steps(codes: dict[int, str]) -> str:
    """Setup code that runs codes[n] when the n-th step of the process begins."""
    return PHASES + (
        f"_codes = {codes!r}\n"
        "_rate = trainer.learning_rate\n"
        "def _faulty(step, **schedule):\n"
        "    rate = _rate(step, **schedule)\n"
        "    scope = {**globals(), 'rate': rate}\n"
        "    exec(_codes.get(_seen['t'], ''), scope)\n"
        "    return scope['rate']\n"
        "trainer.learning_rate = _faulty\n"
    )
