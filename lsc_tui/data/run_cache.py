"""From run folders to views: what the collector does with one run. No thread and no widget here.

Everything read may be damaged or hostile; lsc_engine.runs turns that into sentences, and what is shown later goes
through `lines.clean`.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from lsc_engine.common.safe_io import UnreadableError, opened
from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.layout import METRICS, NOTES, STATUS
from lsc_engine.runs.folder.requests import TURN
from lsc_engine.runs.folder.slurm import Jobs
from lsc_engine.runs.metrics.machine import beside
from lsc_engine.runs.metrics.parsing import parse_line
from lsc_engine.runs.metrics.reader import FIXED, MetricsTable, layers_fixed
from lsc_engine.runs.read.embeddings import Snapshot, list_snapshots, read_snapshot
from lsc_engine.runs.read.notes import read_notes
from lsc_engine.runs.read.run import ForeignRun, Run
from lsc_tui.data.run_view import LOSS, Curve, Curves, EmbeddingHistory, RunView

TREND_POINTS = 24
_WHOLE = 64 << 10
_FOREIGN, _FOREIGN_FIRST = 1 << 20, 1 << 18
_SAMPLE = 3 << 10
SAMPLES = 256
_AXES = ("epoch", "time")
_READABLE = suppress(UnreadableError, OSError)  # what cannot be read is as good as empty


class TrackedRun:
    """One run that is looked at again and again; says whether something changed."""

    def __init__(self, key: str, run: Run, root: int, read_only: bool) -> None:
        self.key, self.run, self.root, self.read_only = key, run, root, read_only
        self.view: RunView | None = None
        self.started, self.turn, self._metrics_size = 0.0, 0, -1
        self._signature: tuple[object, ...] = ()
        self._trend: tuple[float, ...] = ()
        self._source: dict[str, object] = {}

    @property
    def quiet(self) -> bool:
        return self.view is not None and not self.view.status.active and self.view.state != "queued"

    def look(self, *, short: str, place: int, with_trend: bool, jobs: Callable[[], Jobs | None] = lambda: None) -> bool:
        """Read what changed on the disk; True if there is a new view. `jobs`: what Slurm has, for runs of its own."""
        run = self.run
        if isinstance(run, ForeignRun):
            return self._look_foreign(run, short)
        names = (STATUS, NOTES) if self.quiet else (STATUS, NOTES, TURN, "hold.request")
        stats = (*(_stat(run.path / name) for name in names), short, place, self.read_only)
        if stats[0] is None and self.view is not None and run.root is not None and not run.root.is_dir():
            return False  # the runs folder is moved or not mounted: what was read last stays
        metrics = _stat(run.path / METRICS)
        size = metrics[1] if metrics else -1
        # What waits reads lost once the process that was to train it is gone, without a change of any file.
        ended = self.view is not None and not self.view.status.active and self.view.status.state != "queued"
        if ended and (stats,) == self._signature[:1] and not (with_trend and not self._trend):
            return False
        status = run.scheduled_status(jobs)
        trend_due = with_trend and size != self._metrics_size and (not self._trend or size > 1.05 * self._metrics_size)
        signature = (stats, status.shown_state, status.scheduler)
        if signature == self._signature and not trend_due:
            return False
        # A run may be seen before its files are written.
        self._source = self._source or run.source
        if not run.config:
            run.__dict__.pop("config", None)
        if trend_due:
            self._trend, self._metrics_size = read_trend(run.path / METRICS), size
        self._signature = signature
        waits = status.shown_state == "queued"
        self.turn = requests.turn(run.path) if waits else 0
        held = waits and "hold" in requests.pending(run.path)
        notes, tags = read_notes(run.path)
        self.started = status.started or status.changed or 0.0
        texts, own = tuple(note.text for note in notes), (self.key, run, self.root, self.read_only, short, status)
        self.view = RunView(*own, run.config, self._source, tuple(tags), texts, self._trend, place, held)
        return True

    def _look_foreign(self, run: ForeignRun, short: str) -> bool:
        """Read what another tool has logged since, a portion at a time."""
        status = run.status(_FOREIGN if self.view else _FOREIGN_FIRST)
        signature = (len(run.table), run.tail.generation, status.shown_state, status.message, short)
        if signature == self._signature:
            return False
        self._signature = signature
        self.started = self.started or status.changed or 0.0
        own = (self.key, run, self.root, self.read_only, short, status)
        self.view = RunView(*own, run.config, {}, trend=_thinned(run.table.series(LOSS)[1].tolist()))
        return True


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def _samples(descriptor: int, places: int) -> Iterator[bytes]:
    """Whole lines at `places` places all over a file: the cost does not grow with it."""
    size = os.fstat(descriptor).st_size
    for i in range(places):
        offset = round(i * max(0, size - _SAMPLE) / (places - 1))
        data = os.pread(descriptor, _SAMPLE, offset)
        yield data[data.find(b"\n") + 1 if offset else 0 : data.rfind(b"\n") + 1]


def read_trend(path: Path) -> tuple[float, ...]:
    """About `TREND_POINTS` losses over the whole file; of a long one read at as many places."""
    with _READABLE, opened(path) as descriptor:
        if os.fstat(descriptor).st_size > _WHOLE:
            return tuple(value for data in _samples(descriptor, TREND_POINTS) for value in _losses(data)[-1:])
        return _thinned(_losses(os.pread(descriptor, _WHOLE, 0)))
    return ()


def _thinned(values: Sequence[float]) -> tuple[float, ...]:
    """At most `TREND_POINTS` of the values, evenly over all."""
    places = np.linspace(0, len(values) - 1, min(len(values), TREND_POINTS))
    return tuple(values[round(place)] for place in places)


def _losses(data: bytes) -> list[float]:
    rows = (parse_line(line) for line in data.split(b"\n") if line)
    return [row[2][LOSS] for row in rows if row is not None and LOSS in row[2]]


def read_sample(run: Run) -> MetricsTable:
    """The lines at `SAMPLES` places all over the file: what a long curve looks like, before all of it is read."""
    if isinstance(run, ForeignRun):
        return run.tail.sample(SAMPLES // 2)
    table = MetricsTable()
    with _READABLE, opened(run.path / METRICS) as descriptor:
        table.add(b"".join(_samples(descriptor, SAMPLES)))
    return table


def curves_of(run: Run, names: set[str], sample: MetricsTable | None = None) -> Curves:
    """The metrics `names` of what was read so far; of `sample`, if one stands for the whole."""
    table = run.table if sample is None else sample
    curves: dict[str, Curve] = {}
    shared = np.empty(0)
    for name in sorted(names):
        step, (values, epoch, time) = table.columns(name, *_AXES)
        if step.size:
            # Most metrics are logged at the same steps; equal as float64 too, steps stay below 2^53.
            if not np.array_equal(step, shared):
                shared = step.astype(np.float64)
            curves[name] = Curve(shared, values, epoch, time)
    machine = run.machine.table
    for name in names.intersection(machine.names):
        at, values = machine.series(name)
        curves[name] = Curve(at.astype(np.float64), values, *beside(at, table))
    resumed = []
    if LOSS in curves and sample is None:
        loss = curves[LOSS]
        for start in table.attempt_starts()[1:]:
            i = int(np.searchsorted(loss.step, start))
            if i < loss.step.size:
                resumed.append((float(loss.step[i]), float(loss.epoch[i]), float(loss.time[i])))
    count = curves.get(FIXED)
    events = [] if count is None else [int(i) for i in layers_fixed(count.value)]
    fixed = tuple((float(count.step[i]), float(count.epoch[i]), float(count.time[i])) for i in events if count)
    saved = tuple((c.step, c.written or 0.0, c.size) for c in run.checkpoints())
    own = (tuple(resumed), run.tail.behind, saved, sample is not None, fixed, machine.newest_sample)
    return Curves(curves, (*table.names, *machine.names), *own)


class LogIndex:
    """Where the lines of a log begin, so that any part of a file of any length is read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts, self._inode, self._read_to = array("q", [0]), (0, 0), 0

    @property
    def count(self) -> int:
        """Lines found so far; a last line without its end counts."""
        return len(self._starts) - (self._read_to <= self._starts[-1])

    def poll(self, budget: int = 8 << 20) -> bool:
        """Look for new lines; True if there are any. A file that shrank or was replaced is begun again."""
        with _READABLE, opened(self.path) as descriptor:
            info = os.fstat(descriptor)
            before = self._read_to
            if self._inode != (info.st_dev, info.st_ino) or info.st_size < before:
                self._starts, self._inode = array("q", [0]), (info.st_dev, info.st_ino)
                self._read_to, before = 0, -1
            end = min(info.st_size, self._read_to + budget)
            while self._read_to < end:
                data = os.pread(descriptor, min(1 << 20, end - self._read_to), self._read_to)
                if not data:
                    break
                found = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1 + self._read_to
                self._starts.frombytes(found.astype(np.int64).tobytes())
                self._read_to += len(data)
            return self._read_to != before
        return False

    def lines(self, first: int, count: int, longest: int = 2000) -> list[str]:
        """Lines first .. first + count - 1 as text, each cut at `longest` bytes; fewer at the end."""
        last = min(self.count, first + count)
        out: list[str] = []
        if first >= last or first < 0:
            return out
        with _READABLE, opened(self.path) as descriptor:
            for i in range(first, last):
                start = self._starts[i]
                stop = self._starts[i + 1] - 1 if i + 1 < len(self._starts) else self._read_to
                raw = os.pread(descriptor, max(0, min(stop - start, longest)), start)
                # A progress bar that rewrites its line leaves the newest state behind its last carriage return.
                out.append(raw.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace"))
        return out


NO_LOG = LogIndex(Path(os.devnull))


class SnapshotReader:
    """Follows the embeddings of `run`; `start` is the folder of the run whose weights it began with, if it is here."""

    def __init__(self, run: Run, start: Path | None = None) -> None:
        self.path = run.path
        ends = list_snapshots(start) if start is not None else []
        self._before = _snapshot(ends[-1][1])[0] if ends else None
        self._known: dict[Path, tuple[object, Snapshot | None, str]] | None = None

    def poll(self) -> EmbeddingHistory | None:
        """All snapshots as they are now, of which only new ones are read; None where nothing has changed."""
        before, known = self._known, dict[Path, tuple[object, Snapshot | None, str]]()
        for _, path in list_snapshots(self.path):
            if (sign := _stat(path)) is not None:
                old = (before or {}).get(path)
                known[path] = old if old is not None and old[0] == sign else (sign, *_snapshot(path))
        self._known = known
        if before is not None and known == before:
            return None
        problem = next((problem for _, _, problem in known.values() if problem), "")
        return EmbeddingHistory(tuple(s for _, s, _ in known.values() if s is not None), problem, self._before)


def _snapshot(path: Path) -> tuple[Snapshot | None, str]:
    try:
        return read_snapshot(path), ""
    except UnreadableError as error:
        return None, str(error)
