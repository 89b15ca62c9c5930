"""Example runs that travel with the program: real ones, recorded by benchmarks/record_demo.py and kept as one archive.

At start they are copied to a temporary folder, with times moved near now; nothing of the user's is touched. Those that
the archive names in `replay.json` are shown at work: their recorded lines come in one by one, without any process.
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
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from lsc_engine.analysis.levels import is_loss
from lsc_engine.common.safe_io import replace_file
from lsc_engine.runs.folder.layout import LOG, METRICS, STATUS
from lsc_engine.runs.folder.status import read_status, write_status
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
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    atexit.register(_remove, folder)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    runs = folder / "runs"
    plan = json.loads((folder / "replay.json").read_text(encoding="utf-8"))
    move_times(runs, time.time() - AGO)
    Replay(runs, plan, pause=pause).start()
    return runs


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
    """Plays recorded runs: run id -> share of its lines that is there at once. Of each study the first one is at work,
    the others wait as queued. A daemon thread: it ends with the program."""

    def __init__(self, runs: Path, plan: Mapping[str, float], *, pause: float = PAUSE) -> None:
        super().__init__(name="replay", daemon=True)
        self._pause = pause
        tapes = [_Tape(runs / key, pause) for key in plan]
        self._queues = [list(group) for _, group in groupby(tapes, lambda tape: tape.folder.parents[1])]
        for first, *_ in self._queues:
            first.play(round(plan[first.folder.relative_to(runs).as_posix()] * len(first.lines)))

    def run(self) -> None:
        while self._queues:
            time.sleep(self._pause)
            for queue in self._queues:
                # A folder that is gone (deleted in the viewer) is passed over.
                more = False
                with contextlib.suppress(OSError):
                    more = queue[0].play(1)
                if not more:
                    queue.pop(0)
            self._queues = [queue for queue in self._queues if queue]


class _Tape:
    """The recorded lines of one run, and how far they have been played."""

    def __init__(self, folder: Path, pause: float) -> None:
        self.folder, self._pause, self._end, self._at = folder, pause, read_status(folder), 0
        metrics, log, shots = folder / METRICS, folder / LOG, list_snapshots(folder)
        self.lines, self._log = (path.read_bytes().splitlines(keepends=True) for path in (metrics, log))
        self._shots = {step: (path, path.read_bytes()) for step, path in shots}
        metrics.write_bytes(b"")
        for path in (log, *(path for _, path in shots)):
            path.unlink()
        queued = replace(self._end, state="queued", started=None, heartbeat=None, step=0, epoch=None, eta=None)
        self._status = replace(queued, metrics={}, best={}, exit_code=None, seconds=0.0, attempt=0)
        write_status(folder, self._status, durable=False)

    def play(self, count: int) -> bool:
        """Append the next lines to the files of the run, with the snapshots and the status that belong to them; whether
        any are left."""
        lines, before = self.lines[self._at : self._at + count], self._at
        self._at += len(lines)
        start, end = (len(self._log) * at // len(self.lines) for at in (before, self._at))
        for name, new in ((METRICS, lines), (LOG, self._log[start:end])):
            with (self.folder / name).open("ab") as file:
                file.writelines(new)
        for step, _, values in filter(None, map(parse_line, lines)):
            epoch, seconds, best = values.pop("epoch"), values.pop("time"), dict(self._status.best)
            for name, value in values.items():
                best[name] = (min if is_loss(name) else max)(value, best.get(name, value))
            metrics = self._status.metrics | values
            self._status = replace(self._status, step=step, epoch=epoch, seconds=seconds, metrics=metrics, best=best)
        for step in [step for step in self._shots if step <= self._status.step]:
            path, data = self._shots.pop(step)
            replace_file(path, data, durable=False)
        now, left = time.time(), len(self.lines) - self._at
        started = self._status.started or now - self._status.seconds
        self._status = replace(self._status, started=started, heartbeat=now, pace=self._pause, eta=left * self._pause)
        self._status = replace(self._status, state="running", message=_WORDS, attempt=1)
        shown = self._status if left else replace(self._end, started=started, heartbeat=now)
        write_status(self.folder, shown, durable=False)
        return left > 0
