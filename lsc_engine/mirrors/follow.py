"""The process that writes one run into the log of one tool: it follows metrics.jsonl until the run has ended.

    <run folder>/mirrors/<tool>/    the log of the tool, mirror.json (how far it is) and mirror.log (what was printed)

After rows were written, mirror.json is replaced with the place in metrics.jsonl behind them. After a crash the rows
behind that place are written again: the tools count them once (tools/)."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import shutil
import signal
import sys
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lsc_engine.common.safe_io import UnreadableError, number_of, opened, read_json, read_toml, replace_json
from lsc_engine.mirrors.base import Facts, Mirror, Row
from lsc_engine.runs.folder.layout import METRICS, MIRRORS, PRESET, SOURCE, digest
from lsc_engine.runs.folder.status import ENDED, UNREADABLE, Status
from lsc_engine.runs.metrics.parsing import MAX_LINE, parse_line
from lsc_engine.runs.read.run import Run, open_run

# Bytes that are left to the training where the run lies.
LEAST_FREE = 64 << 20
_LOOK_SECONDS = 1.0
# A sign of life at least so often, so that a process that hangs is found out.
_BEAT_SECONDS = 5.0
_MOST_ROWS = 500
_READ = 1 << 20


@dataclass
class Position:
    """mirror.json: the byte of metrics.jsonl up to which all is written, the last step, `state` of the tool, whether
    the run had ended with it, and the sentence of a failure since."""

    offset: int = 0
    step: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    ended: bool = False
    error: str | None = None

    @classmethod
    def read(cls, folder: Path, tool: str) -> Position:
        """That of a tool; what cannot be read of it is as at the beginning."""
        kinds = {"offset": int, "step": int, "state": dict, "ended": bool, "error": str}
        with contextlib.suppress(UnreadableError):
            raw = read_json(place_of(folder, tool) / "mirror.json")
            return cls(**{key: raw[key] for key, kind in kinds.items() if type(raw.get(key)) is kind})
        return cls()

    def write(self, folder: Path, tool: str) -> None:
        """Raises OSError."""
        replace_json(place_of(folder, tool) / "mirror.json", asdict(self), durable=False)


def place_of(folder: Path, tool: str) -> Path:
    """Where the log of a tool lies in a run folder."""
    return folder / MIRRORS / tool


def has_ended(status: Status) -> bool:
    """Whether no process trains the run, or will."""
    return status.shown_state in (*ENDED, "lost", UNREADABLE)


class Lines:
    """The lines of metrics.jsonl that count. Where an attempt goes back, it replaces what was logged from its first
    step on, and of that step itself the first line with a name of its own and what follows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Of the lines that count: step, and byte at which the line begins.
        self.steps, self.offsets = array("q"), array("q")
        # The byte behind the last line taken.
        self.end = 0
        self._attempt = 0

    def new(self, until: int | None = None) -> Iterator[tuple[Row, bool]]:
        """Rows that are there now (up to byte `until`), each with whether it replaces others."""
        try:
            with opened(self.path) as descriptor:
                size = os.fstat(descriptor).st_size
                if size < self.end:
                    raise OSError(f"{self.path.name} was cut short")
                while self.end < (size if until is None else min(until, size)):
                    data = os.pread(descriptor, _READ, self.end)
                    cut = data.rfind(b"\n") + 1
                    if not cut and len(data) < MAX_LINE:
                        # The end of the last line is still to come.
                        return
                    for line in data[: cut or None].splitlines(keepends=True):
                        if until is not None and self.end >= until:
                            return
                        offset, self.end = self.end, self.end + len(line)
                        parsed = parse_line(line)
                        if parsed is not None and parsed[1] >= self._attempt:
                            row = Row(offset, *parsed)
                            yield row, self._take(row)
        except UnreadableError:
            # Nothing is logged yet.
            return

    def _take(self, row: Row) -> bool:
        keep = len(self.steps)
        if row.attempt > self._attempt:
            self._attempt = row.attempt
            keep = bisect_left(self.steps, row.step)
            while keep < len(self.steps) and self.steps[keep] == row.step:
                (before,) = self.rows(keep, keep + 1)
                if before.metrics.keys() & row.metrics.keys() - {"epoch"}:
                    break
                keep += 1
        replaces = keep < len(self.steps)
        del self.steps[keep:], self.offsets[keep:]
        self.steps.append(row.step)
        self.offsets.append(row.offset)
        return replaces

    def rows(self, first: int, last: int) -> Iterator[Row]:
        """Those that count, number `first` to `last` - 1, read again."""
        with opened(self.path) as descriptor:
            for offset in self.offsets[first:last]:
                line = os.pread(descriptor, MAX_LINE, offset).partition(b"\n")[0]
                if (parsed := parse_line(line)) is not None:
                    yield Row(offset, *parsed)


class Follower:
    """Writes one run for one tool."""

    def __init__(self, run: Run, tool: str, least_free: int = LEAST_FREE) -> None:
        self._run, self._tool, self._least_free = run, tool, least_free
        self._place = place_of(run.path, tool)
        self._lines = Lines(run.path / METRICS)
        self._beaten = time.monotonic()
        self.position = Position.read(run.path, tool)

    def follow(self) -> None:
        """Until the run has ended and all is written, or its folder is gone."""
        run, metrics = self._run, self._run.path / METRICS
        size = metrics.stat().st_size if metrics.exists() else 0
        if self.position.ended and has_ended(run.status()) and self.position.offset == size:
            self._commit(size, ended=True)
            return
        self._check_room()
        settings, created = read_toml(run.path / PRESET), number_of(read_json(run.path / SOURCE).get("created")) or 0.0
        *study, variant, seed = run.id.split("/")
        began, unique = round(run.status().started or created, 3), digest(f"{run.id} {created}")[:16]
        facts = Facts(run.id, settings, began, unique, "-".join(study), f"{variant}/{seed}")
        module = importlib.import_module(f"lsc_engine.mirrors.tools.{self._tool}")
        mirror: Mirror = module.Tool(facts, self._place, self.position.state)
        if mirror.goes_on:
            for _ in self._lines.new(self.position.offset):
                pass
        self._commit(self._lines.end, mirror)
        while run.path.is_dir():
            # In this order: what is logged before the end is read after it was seen.
            ended = has_ended(run.status())
            self._write_new(mirror)
            if ended:
                status = run.status()
                mirror.end(status.shown_state, status.exit_code or 0)
                self._commit(self._lines.end, mirror, ended=True)
                return
            self._beat()
            time.sleep(_LOOK_SECONDS)

    def _write_new(self, mirror: Mirror) -> None:
        rows: list[Row] = []
        for row, replaces in self._lines.new():
            if replaces or len(rows) == _MOST_ROWS:
                self._write(mirror, rows)
                self._commit(row.offset, mirror)
                rows = []
            if replaces:
                # No other place is committed before all of this is written: after a crash it is done once more.
                first = bisect_left(self._lines.steps, mirror.go_back(row.step))
                for at in range(first, len(self._lines.steps) - 1, _MOST_ROWS):
                    again = self._lines.rows(at, min(at + _MOST_ROWS, len(self._lines.steps) - 1))
                    self._write(mirror, list(again))
            rows.append(row)
        if rows:
            self._write(mirror, rows)
            self._commit(self._lines.end, mirror)

    def _write(self, mirror: Mirror, rows: Sequence[Row]) -> None:
        if rows:
            self._check_room()
            mirror.write(rows)
            self._beat()

    def _check_room(self) -> None:
        if shutil.disk_usage(self._place).free < self._least_free:
            words = f"less than {self._least_free >> 20} MiB are free, which are left to the training"
            raise OSError(errno.ENOSPC, words)

    def _commit(self, offset: int, mirror: Mirror | None = None, *, ended: bool = False) -> None:
        step = self._lines.steps[-1] if self._lines.steps else self.position.step
        self.position = Position(offset, step, mirror.state() if mirror else self.position.state, ended)
        self.position.write(self._run.path, self._tool)

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > _BEAT_SECONDS:
            self._beaten = time.monotonic()
            os.utime(self._place / "mirror.json")


def main() -> None:
    """Arguments: the run folder, the tool, and the bytes to leave free; stdin is open as long as the starter lives."""
    folder, tool, *free = sys.argv[1:]

    def end_with_starter() -> None:
        # Nothing is ever written to it: it ends with the starter, and this process then with all that it has started.
        os.read(0, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_with_starter, daemon=True).start()
    try:
        Follower(open_run(folder), tool, *map(int, free)).follow()
    except OSError as error:
        if Path(folder).is_dir():
            raise
        sys.exit(f"{folder} is gone: {error.strerror}")
