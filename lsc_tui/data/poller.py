"""Reads the run folders off the UI thread, by polling (network file systems have no events), and posts what changed.

One message is under way at most: while the UI is busy or the link is stalled, changes are merged, never queued. Runs
are looked at newest first; those that are active every second, the others when their files changed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lsc_engine.analysis.saved_views import VIEWS
from lsc_engine.common.hardware import Sampler
from lsc_engine.common.userpaths import home_path
from lsc_engine.runs.folder import slurm
from lsc_engine.runs.folder.layout import short_ids
from lsc_engine.runs.metrics.reader import MetricsTable
from lsc_engine.runs.read.run import Run, list_runs
from lsc_tui.data.reports import Report, ReportReader
from lsc_tui.data.run_cache import NO_LOG, LogIndex, SnapshotReader, TrackedRun, curves_of, read_sample
from lsc_tui.data.run_view import Folder, RunView, Update

MOST_RUNS = 1000
POLL_SECONDS = 1.0
SCAN_SECONDS = 5.0
HARDWARE_SECONDS = 2.0
# Of the runs that have ended or wait, every tenth is looked at in each round: a look at 1000 takes 30 ms.
QUIET_ROUNDS = 10
# Bytes of metrics read at once: a huge file is read in pieces, so that keys are answered in between.
BUDGET = 2 << 20
PIECE_PAUSE = 0.002
# Of a file with more bytes than this to read a sample is shown first, and the whole when it is there.
SAMPLE_FROM = 8 << 20
# Logs of other tools are not columns of numbers, and read more slowly.
SAMPLE_FOREIGN_FROM = 1 << 20


class Poller(threading.Thread):
    """The reading thread: `subscribe` names the runs whose curves and log are shown; `take` hands the changes over.
    `folders` may grow meanwhile."""

    def __init__(
        self, folders: Sequence[Path], notify: Callable[[], object], *, hardware: bool = True, made_later: bool = False
    ) -> None:
        super().__init__(name="collector", daemon=True)
        self._folders, self._notify, self._made_later = folders, notify, made_later
        self._lock, self._ended, self._wake = threading.Lock(), threading.Event(), threading.Event()
        self._update, self._work = Update(), list[Callable[[dict[str, Run]], object]]()
        self.update_waiting = False  # a change has been posted that `take` has not handed over yet
        self._loaded = False  # every run has been looked at once
        self._reading, self._rounds = False, 0
        self._next_scan = self._next_look = self._next_hardware = self._all_until = 0.0
        self._tracked: dict[str, TrackedRun] = {}
        self._short: dict[str, str] = {}
        self.subscribed: dict[str, frozenset[str]] = {}  # the runs whose curves are wanted, with the metrics
        self.watched = ""  # the run whose log and embeddings are wanted
        self._sent: dict[str, tuple[object, ...]] = {}
        self._samples: dict[str, tuple[int, MetricsTable]] = {}
        self._snapshots: SnapshotReader | None = None
        self._report_reader, self._reports = ReportReader(), tuple[Report, ...]()
        self.log = NO_LOG
        self._sampler = Sampler() if hardware else None
        self._jobs: slurm.Jobs | None = None
        self._slurm_thread, self._slurm_queried = threading.Thread(), float("-inf")

    def subscribe(self, curves: dict[str, frozenset[str]], watched: str = "") -> None:
        """Ask for the metrics of runs (key -> names), and for the log and the embeddings of one run."""
        with self._lock:
            if (curves, watched) == (self.subscribed, self.watched):
                return
            self.subscribed, self.watched = curves, watched
        self._wake.set()

    def do(self, work: Callable[[dict[str, Run]], object]) -> None:
        """Have the reading thread do this with the runs that it reads, by key: no other may touch their tables."""
        with self._lock:
            self._work.append(work)
        self._wake.set()

    def rescan(self) -> None:
        """Look for new and gone runs now."""
        self._next_scan = 0.0
        self._all_until = time.monotonic() + QUIET_ROUNDS
        self._wake.set()

    def take(self) -> Update:
        with self._lock:
            news, self._update, self.update_waiting = self._update, Update(), False
        return news

    def stop(self) -> None:
        self._ended.set()
        self._wake.set()

    def run(self) -> None:
        while not self._ended.is_set():
            started = time.monotonic()
            more = self.round()
            self._wake.wait(PIECE_PAUSE if more else max(0.05, POLL_SECONDS - (time.monotonic() - started)))
            self._wake.clear()

    def round(self) -> bool:
        """One look at everything; True if some metrics file has more to read at once."""
        now = time.monotonic()
        if now >= self._next_scan:
            self._scan()
            # A walk over very many folders is made seldom enough to cost nothing.
            self._next_scan = now + max(SCAN_SECONDS, 200 * (time.monotonic() - now))
        if not self._reading or now >= self._next_look:
            self._next_look = now + POLL_SECONDS
            self._look()
        more = self._reading = self._read_subscribed()
        with self._lock:
            work, self._work = self._work, []
        for do in work:
            do({key: tracked.run for key, tracked in self._tracked.items()})
        if self._sampler is not None and now >= self._next_hardware:
            self._next_hardware = now + HARDWARE_SECONDS
            hardware = self._sampler.sample(next((f for f in self._folders if f.is_dir()), None))
            with self._changing() as update:
                update.hardware = hardware
        return more

    @contextmanager
    def _changing(self) -> Iterator[Update]:
        """The update to be changed; it is posted afterwards unless a message is under way."""
        with self._lock:
            yield self._update
            post, self.update_waiting = not self.update_waiting, True
        if post:
            self._notify()

    def _scan(self) -> None:
        """Which runs there are: the newest `MOST_RUNS`, and how many more."""
        folders: list[Folder] = []
        found: dict[str, TrackedRun] = {}
        reports: list[Report] = []
        for number, path in enumerate(self._folders):
            seen = not self._made_later or any(t.root == number for t in self._tracked.values())
            folder = _folder(path, number, seen=seen)
            folders.append(folder)
            if folder.problem:
                # A folder that is not there for a moment keeps its rows.
                found |= {k: t for k, t in self._tracked.items() if t.root == number}
                reports += [report for report in self._reports if report.root == number]
                continue
            with_runs, passed = set[str](), list[str]()
            for run in list_runs([path], passed, foreign=True):
                key = f"{number}:{run.id}"
                found[key] = self._tracked.get(key) or TrackedRun(
                    key, run, number, folder.read_only or run.origin != "lsc"
                )
                with_runs.add(run.study)
            folders[-1] = replace(folder, passed=tuple(passed))
            reports += self._report_reader.scan(number, path, with_runs, folder.read_only)
        older = max(0, len(found) - MOST_RUNS)
        if older or not self._tracked:
            # Those that are shown stay among them.
            newest = sorted(found, key=lambda k: (k in self.subscribed, _changed(found[k].run)), reverse=True)
            found = {key: found[key] for key in newest[:MOST_RUNS]}
        gone, self._tracked = set(self._tracked) - set(found), found
        self._short = short_ids(t.run.id for t in found.values())
        with self._changing() as update:
            update.folders, update.older = tuple(folders), older
            if tuple(reports) != self._reports:
                update.reports = self._reports = tuple(reports)
            update.gone |= gone
            for key in gone:
                update.runs.pop(key, None)

    def _look(self) -> None:
        """Look at every run; what changed is posted in portions, so the first screen does not wait for the last."""
        queued = sorted(
            (t for t in self._tracked.values() if t.view and t.view.state == "queued" and not t.view.status.scheduler),
            key=lambda t: (t.turn, t.started, t.run.id),
        )
        waiting, places = Counter[object](), dict[str, int]()
        for t in queued:
            if t.view is not None:
                waiting[t.view.queue] += 1
                places[t.key] = waiting[t.view.queue]
        fresh: dict[str, RunView] = {}
        self._rounds += 1
        first = any(t.view is None for t in self._tracked.values())
        for with_trend in (False, True) if first else (True,):
            for number, (key, tracked) in enumerate(list(self._tracked.items())):
                if self._ended.is_set():
                    return
                waits = tracked.quiet and not first and key not in self.subscribed
                if waits and (number + self._rounds) % QUIET_ROUNDS and time.monotonic() > self._all_until:
                    continue
                short, place = self._short.get(tracked.run.id, ""), places.get(key, 0)
                if tracked.look(short=short, place=place, with_trend=with_trend, jobs=self._slurm) and tracked.view:
                    fresh[key] = tracked.view
                if first and len(fresh) >= 50:
                    self._post_runs(fresh)
                    fresh = {}
            self._post_runs(fresh, loaded=True)
            fresh = {}

    def _slurm(self) -> slurm.Jobs | None:
        """What Slurm answered last. It is asked in a thread of its own, since it may take long, and only from here:
        while some run is one of its jobs."""
        due = time.monotonic() - self._slurm_queried > slurm.KEEP_SECONDS
        if due and not self._slurm_thread.is_alive():

            def ask() -> None:
                self._jobs = slurm.query() or self._jobs

            self._slurm_queried = time.monotonic()
            self._slurm_thread = threading.Thread(target=ask, name="squeue", daemon=True)
            self._slurm_thread.start()
        return self._jobs

    def _post_runs(self, fresh: dict[str, RunView], loaded: bool = False) -> None:
        if fresh or (loaded and not self._loaded):
            self._loaded = self._loaded or loaded
            with self._changing() as update:
                update.runs.update(fresh)
                update.loaded = update.loaded or loaded

    def _read_subscribed(self) -> bool:
        with self._lock:
            subscribed, watched = self.subscribed, self.watched
        more = False
        for key, names in subscribed.items():
            tracked = self._tracked.get(key)
            if tracked is None or self._ended.is_set():
                continue
            run = tracked.run
            if key not in self._sent and self._sample(key, run) is not None:
                self._send_curves(key, run, names)
            for tail in (run.tail, run.machine):
                tail.poll(BUDGET // max(1, len(subscribed)))
                more = more or tail.behind
            self._send_curves(key, run, names)
        for key in set(self._sent) - set(subscribed):
            # A chart that is left gives its memory back.
            del self._sent[key]
            self._samples.pop(key, None)
            # The last values of another tool's run are found by reading all of it: what was read stays.
            if (tracked := self._tracked.get(key)) is not None and tracked.run.origin == "lsc":
                tracked.run = tracked.run.again()
        self._read_watched(watched)
        return more

    def _send_curves(self, key: str, run: Run, names: frozenset[str]) -> None:
        """Post the curves if they are new; while a long file is read, those of a sample of it."""
        table, generation = run.table, run.tail.generation
        sample = self._sample(key, run)
        state = (names, len(sample or table), generation, run.machine.generation, run.machine.table.lines)
        if self._sent.get(key) != state:
            self._sent[key] = state
            curves = curves_of(run, set(names), sample)
            with self._changing() as update:
                update.curves[key] = curves

    def _sample(self, key: str, run: Run) -> MetricsTable | None:
        """The sample that stands for the file while much of it is still to be read."""
        known = self._samples.get(key)
        if known is not None and (not run.tail.behind or known[0] != run.tail.generation):
            known = None
            del self._samples[key]
        if known is None and run.tail.waiting > (SAMPLE_FROM if run.origin == "lsc" else SAMPLE_FOREIGN_FROM):
            known = self._samples[key] = (run.tail.generation, read_sample(run))
        return known[1] if known is not None and len(known[1]) else None

    def _read_watched(self, key: str) -> None:
        """The log and the embeddings of the run that Monitor shows."""
        tracked = self._tracked.get(key)
        if tracked is None:
            self.log, self._snapshots = NO_LOG, None
            return
        if self.log.path != tracked.run.log_path:
            self.log = LogIndex(tracked.run.log_path)
        if self.log.poll():
            with self._changing():
                pass  # the screen reads the lines themselves
        if self._snapshots is None or self._snapshots.path != tracked.run.path:
            name = tracked.run.config.get("start_from")
            start = next((t.run.path for t in self._tracked.values() if t.run.id == name), None)
            self._snapshots = SnapshotReader(tracked.run, start)
        if (history := self._snapshots.poll()) is not None:
            with self._changing() as update:
                update.embeddings[key] = history


def _changed(run: Run) -> float:
    try:
        return os.stat(run.state_file).st_mtime
    except OSError:
        return 0.0


def _folder(path: Path, number: int, *, seen: bool = True) -> Folder:
    """The folder as it is now. Folders after the first are named by their owner where that is not the user. One that
    was never `seen` may be missing: the first launch makes it."""
    try:
        info = os.stat(path)
    except OSError:
        if not seen and path.absolute().parent.is_dir():
            return Folder(path, read_only=not os.access(path.absolute().parent, os.W_OK))
        again = f"looking again every {SCAN_SECONDS:.0f} s"
        return Folder(path, problem=f"{home_path(path)} is not there (moved? not mounted?), {again}")
    if not path.is_dir():
        return Folder(path, problem=f"{home_path(path)} is not a folder")
    read_only = not os.access(path, os.W_OK)
    name = ""
    if number and info.st_uid != os.getuid():
        try:
            name = path.owner()
        except KeyError:
            name = str(info.st_uid)
    elif number:
        name = path.parent.name if path.name == "runs" else path.name
    return Folder(path, name, read_only, views=any((path / VIEWS).glob("*.toml")))
