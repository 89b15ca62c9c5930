"""Example runs that travel with the program: real ones, recorded by benchmarks/record_demo.py and kept as one archive.

At start they are copied to a temporary folder, with times moved near now; nothing of the user's is touched. Those that
the archive names in `replay.json` are shown at work: their recorded lines come in one by one, without any process,
and a stop request ends them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import tarfile
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from lsc_engine.analysis.levels import is_loss
from lsc_engine.common.safe_io import replace_file
from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.layout import LOG, METRICS, STATUS
from lsc_engine.runs.folder.status import Status, read_status, write_status
from lsc_engine.runs.metrics.parsing import parse_line
from lsc_engine.runs.read.embeddings import list_snapshots

ARCHIVE = Path(__file__).parent / "demo_runs.tar.xz"
HOST = "demo"
PREFIX = "lsc-demo-"
# The last finished run ended so long ago, and a recorded line comes in so often (seconds).
AGO = 420.0
PAUSE = 2.5
_WORDS = "an example: recorded earlier, replayed here"


def demo_folder(archive: Path = ARCHIVE, *, pause: float = PAUSE) -> Path | None:
    """A fresh temporary copy of the example runs, removed at the end; None where this build carries none."""
    if not archive.is_file():
        return None
    # Copies of viewers that were ended by a lost terminal.
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = old.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdigit() and old.stat().st_uid == os.getuid() and not old.is_symlink():
                try:
                    os.kill(int(pid), 0)
                except ProcessLookupError:
                    _remove(old)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    atexit.register(_remove, folder)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    runs = folder / "runs"
    plan = json.loads((folder / "replay.json").read_text(encoding="utf-8"))
    move_times(runs, time.time() - AGO)
    for part in plans(plan):
        Replay(runs, part, pause=pause).start()
    return runs


def plans(plan: dict[str, float]) -> list[dict[str, float]]:
    """The replay's plan, study by study: each has one run at work."""
    out: dict[str, dict[str, float]] = {}
    for key, share in plan.items():
        out.setdefault(str(key).rpartition("/seed-")[0].rpartition("/")[0], {})[str(key)] = float(share)
    return list(out.values())


def remove_when_ended(folder: Path) -> None:
    """Remove the copy also where a signal ends the program, as that of a lost terminal does."""

    def ended(number: int, _: object) -> None:
        _remove(folder)
        os._exit(128 + number)

    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, ended)


def _remove(folder: Path) -> None:
    """Remove the copy. What is played writes into it: once more where that came in between."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)


def move_times(runs: Path, end: float) -> None:
    """Move all times so that the newest recorded moment becomes `end` (Unix seconds)."""
    found = {path.parent: read_status(path.parent) for path in sorted(runs.rglob(STATUS))}
    shift = end - max((status.heartbeat or 0.0 for status in found.values()), default=0.0)
    for folder, status in found.items():
        started = None if status.started is None else status.started + shift
        at = end if status.heartbeat is None else status.heartbeat + shift
        write_status(folder, replace(status, started=started, heartbeat=at), durable=False)
        for path in folder.iterdir():
            os.utime(path, (at, at))


class Replay(threading.Thread):
    """Plays recorded runs, one after the other: run id -> share of its lines that is there at once.

    The first is at work at once, the others (of share 0) wait as queued. A daemon thread: it ends with the program.
    """

    def __init__(self, runs: Path, plan: dict[str, float], *, pause: float = PAUSE) -> None:
        super().__init__(name="replay", daemon=True)
        self._pause = pause
        self._ended = threading.Event()
        self._tapes = [_Tape(runs / key, share, pause) for key, share in plan.items()]
        for number, tape in enumerate(self._tapes):
            if number:
                waiting = replace(tape.end, state="queued", started=None, heartbeat=None, step=0, epoch=None, eta=None)
                tape.write(replace(waiting, metrics={}, best={}, exit_code=None, seconds=0.0, attempt=0))
            else:
                tape.show()

    def stop(self) -> None:
        self._ended.set()

    def run(self) -> None:
        for tape in self._tapes:
            # A folder that is gone (deleted in the viewer) is passed over.
            with contextlib.suppress(OSError):
                while tape.folder.is_dir() and not tape.stopped() and not tape.done:
                    tape.show()
                    if self._ended.wait(self._pause):
                        return
                    tape.play(tape.at + 1)


class _Tape:
    """The recorded lines of one run, and how far they have been played."""

    def __init__(self, folder: Path, share: float, pause: float) -> None:
        self.folder, self._pause, self.end = folder, pause, read_status(folder)
        self._lines = (folder / METRICS).read_bytes().splitlines(keepends=True)
        log = folder / LOG
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        self._log = text.splitlines(keepends=True)
        self._shots = {step: (path, path.read_bytes()) for step, path in list_snapshots(folder)}
        for path in (folder / METRICS, log, *(path for path, _ in self._shots.values())):
            path.unlink(missing_ok=True)
        self.at = 0
        self._best: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._step, self._epoch, self._time, self._started = 0, 0.0, 0.0, time.time()
        self.play(round(share * len(self._lines)), stamped=False)
        self._started -= self._time

    @property
    def done(self) -> bool:
        return self.at >= len(self._lines)

    def play(self, end: int, *, stamped: bool = True) -> None:
        """Append the lines before `end` to the files of the run, the log's with the time of day (`stamped`), and put
        down the snapshots that belong to them."""
        lines, logged = (
            self._lines[self.at : end],
            [len(self._log) * n // max(1, len(self._lines)) for n in (self.at, end)],
        )
        with (self.folder / METRICS).open("ab") as file:
            file.writelines(lines)
        with (self.folder / LOG).open("a", encoding="utf-8") as text:
            clock = time.strftime("%H:%M:%S ")
            text.writelines(clock + line.partition(" ")[2] if stamped else line for line in self._log[slice(*logged)])
        self.at = end
        for row in filter(None, map(parse_line, lines)):
            self._step, _, values = row
            self._epoch, self._time = values.pop("epoch", self._epoch), values.pop("time", self._time)
            for name, value in values.items():
                self._last[name] = value
                best = self._best.get(name, value)
                self._best[name] = min(best, value) if is_loss(name) else max(best, value)
        for step in [step for step in self._shots if step <= self._step]:
            path, data = self._shots.pop(step)
            replace_file(path, data, durable=False)
        if self.done:
            self.show()

    def write(self, status: Status) -> None:
        write_status(self.folder, status, durable=False)

    def show(self) -> None:
        """The status of a run at work that has come so far; after the last line the recorded end."""
        status = replace(self.end, started=self._started, heartbeat=time.time())
        if not self.done:
            status = replace(
                status,
                state="running",
                step=self._step,
                epoch=self._epoch,
                metrics=dict(self._last),
                best=dict(self._best),
                seconds=self._time,
                pace=self._pause,
                eta=(len(self._lines) - self.at) * self._pause,
                exit_code=None,
                message=_WORDS,
                attempt=1,
            )
        self.write(status)

    def stopped(self) -> bool:
        """Whether the run was requested to stop, which ends it."""
        if "stop" not in requests.take(self.folder):
            return False
        words = "stopped on request; an example keeps no checkpoint"
        status = replace(read_status(self.folder), state="stopped", exit_code=143, eta=None, message=words)
        self.write(replace(status, heartbeat=time.time()))
        return True
