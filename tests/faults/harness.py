"""Real runs to break: small, on digits, in processes of their own; and what "bit-equal" is read from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lsc_engine.runs.folder.checkpoints import Checkpoint, newest_good
from lsc_engine.runs.read.run import Run, open_run
from tests.processes import start
from tests.tiny import tiny
from tests.waiting import LIMIT
from tests.waiting import wait_until as until

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

    started: subprocess.Popen[Any]
    log: Path

    @property
    def pid(self) -> int:
        """Also that of its session."""
        return self.started.pid

    def wait(self) -> int:
        """Its exit code, negative for the signal that ended it."""
        try:
            return self.started.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {LIMIT} s: {self.log.read_text()}") from None

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.started.poll() is not None

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> bool:
        """Kill it; whether that ended it, and not its own end at the same moment."""
        self.started.kill()
        return self.wait() == -signal.SIGKILL


_started: list[Process] = []


def launch(
    folder: Path, *words: str, setup: str = "", env: dict[str, str] | None = None, log: Path | None = None
) -> Process:
    """`lsc-engine words` in `folder`, after the code `setup`, with what it prints at the end of `log`."""
    log = log or folder / "out.txt"
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o644)
    streams = {"stdin": subprocess.DEVNULL, "stdout": number, "stderr": number}
    env = {"NO_COLOR": "1", **(env or {})}
    _started.append(Process(start(*words, cwd=folder, env=env, setup=setup, start_new_session=True, **streams), log))
    os.close(number)
    return _started[-1]


def end_all() -> None:
    """End what the test has started."""
    while _started:
        process = _started.pop().started
        process.kill()
        process.wait()


def place(folder: Path, preset: str = PRESET) -> Path:
    """`folder`, made, with the preset t.toml in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "t.toml").write_text(preset)
    return folder


def train(folder: Path, *words: str, **options: Any) -> Process:
    """`lsc-engine run t.toml` in `folder`."""
    return launch(folder, "run", "t.toml", "--device", "cpu", *words, **options)


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
