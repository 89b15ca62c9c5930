"""Reading run folders: `open_run`, `list_runs`. Loads no torch, executes nothing, never writes. A damaged or hostile
folder is a run in state `unreadable` with a sentence; readers do not raise on what lies in it."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from time import time as now
from typing import Any

from lsc_engine.common import safe_io, settings
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import counted, natural
from lsc_engine.common.safe_io import UnreadableError, last_line, read_json, read_toml
from lsc_engine.common.settings import lookup
from lsc_engine.common.userpaths import user_path
from lsc_engine.runs.folder import checkpoints, layout, slurm
from lsc_engine.runs.folder.layout import LOG, MACHINE, METRICS, PRESET, SEED, SOURCE, STATUS, launch_log
from lsc_engine.runs.folder.lock import gone, silent_for
from lsc_engine.runs.folder.machine import load_record
from lsc_engine.runs.folder.status import Status, clock_offset, read_status
from lsc_engine.runs.metrics.machine import GPU_THROTTLED, LOAD, PREFIX, MachineTail, beside
from lsc_engine.runs.metrics.parsing import Floats, Ints
from lsc_engine.runs.metrics.reader import MAX_METRICS, MetricsTable, MetricsTail, read_last
from lsc_engine.runs.read import notes
from lsc_engine.runs.read.foreign.find import GROWING_SECONDS, ForeignTail, foreign_runs, runs_in
from lsc_engine.runs.read.foreign.log import Log, changed
from lsc_engine.runs.settings import PLACE

_MAX_CANDIDATES = 12
Dirs = Iterable[str | Path] | None
_AXES = ("epoch", "time")
_SHORT = re.compile(r"[0-9a-f]{4,64}")


class Run:
    """One run folder, read as it is now; metrics are followed, so a Run may be kept and read again."""

    # The tool or format that writes it; others than ours are only read.
    origin: str = "lsc"

    def __init__(self, path: Path, identifier: str, root: Path | None = None) -> None:
        self.path = path
        self.id = identifier
        self.root = root
        parts = identifier.split("/")
        self.study = "/".join(parts[:-2])
        self.variant = parts[-2] if len(parts) > 1 else ""
        seed = SEED.fullmatch(parts[-1])
        self.seed = int(seed[1]) if seed else 0
        # The reader behind `history`: its generation, whether it is behind, its problem.
        self.tail = MetricsTail(path / METRICS)

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {str(self.path)!r})"

    def again(self) -> Run:
        return Run(self.path, self.id, self.root)

    @property
    def state_file(self) -> Path:
        return self.path / STATUS

    @property
    def log_path(self) -> Path:
        return self.path / LOG

    @cached_property
    def config(self) -> dict[str, Any]:
        """preset.toml as plain tables; empty when it cannot be read (see `config_problem`)."""
        with contextlib.suppress(UnreadableError):
            return read_toml(self.path / PRESET)
        return {}

    @property
    def config_problem(self) -> str | None:
        try:
            read_toml(self.path / PRESET)
        except UnreadableError as error:
            return str(error)
        return None

    @property
    def label(self) -> str:
        label = lookup(self.config, "run.label")
        return label if isinstance(label, str) and label else self.variant

    @property
    def loss_kind(self) -> str:
        return loss_kind(self.config)

    @property
    def source(self) -> dict[str, Any]:
        with contextlib.suppress(UnreadableError):
            return read_json(self.path / SOURCE)
        return {}

    @cached_property
    def machine(self) -> MachineTail:
        return MachineTail(self.path / MACHINE)

    @property
    def load(self) -> dict[str, Any] | None:
        """How busy its machine was, as recorded at its end, else by the samples so far; None if unknown."""
        if isinstance(recorded := self.source.get("load"), dict):
            return recorded
        self.machine.poll()
        loads, throttled = (self.machine.table.series(name)[1] for name in (LOAD, GPU_THROTTLED))
        return load_record(loads.tolist(), throttled.tolist()) if len(loads) else None

    @property
    def notes(self) -> list[notes.Note]:
        return notes.read_notes(self.path)[0]

    @property
    def tags(self) -> list[str]:
        return notes.read_notes(self.path)[1]

    def status(self) -> Status:
        """The state as far as this process can find out; never raises."""
        status = read_status(self.path).judged(lambda: clock_offset(self.root or self.path))
        if status.active and status.shown_state != "lost" and gone(self.path, status):
            return replace(status, shown_state="lost")
        if status.state == "queued" and status.shown_state == "lost" and self.root is not None and not status.message:
            return replace(status, message=last_line(launch_log(self.root, self.study)))
        return status

    def scheduled_status(self, jobs: Callable[[], slurm.Jobs | None] = slurm.jobs) -> Status:
        """`status` with what Slurm knows; `jobs`, its answer, is called only for a run that Slurm may still train."""
        status = self.status()
        if status.scheduler is None or status.state in ("finished", "failed", "diverged"):
            return status
        return status.scheduled(jobs(), silent_for(self.path, status))

    def poll(self, budget: int = MAX_METRICS) -> int:
        """Read what is new in the metrics (at most about `budget` bytes); the number of new rows."""
        return self.tail.poll(budget)

    @property
    def table(self) -> MetricsTable:
        return self.tail.table

    def metric_names(self) -> list[str]:
        self.poll()
        return self.table.names

    def history(self, name: str) -> tuple[Ints, Floats]:
        """Steps (rising) and values of a metric; where a step repeats, the latest attempt. Both empty if unknown. Those
        of the machine are called machine/…, and are not among `metric_names`."""
        tail = self.machine if name.startswith(PREFIX) else self.tail
        tail.poll()
        return tail.table.series(name)

    def axes(self, name: str) -> tuple[Ints, Floats, Floats, Floats]:
        """Steps and values as `history`; at each the epoch and the training seconds, NaN where unknown."""
        self.poll()
        if name.startswith(PREFIX):
            at, numbers = self.history(name)
            return at, numbers, *beside(at, self.table)
        step, (values, epoch, time) = self.table.columns(name, *_AXES)
        return step, values, epoch, time

    def last(self, status: Status | None = None) -> dict[str, float]:
        """The newest value of every metric, without reading the whole file (`status`: if it has been read already)."""
        found = (status or read_status(self.path)).metrics
        try:
            return {**found, **read_last(self.path / METRICS)}
        except UnreadableError:
            return found

    def frame(self) -> Any:
        """All metrics, one row per step, as a pandas frame (ImportError with a sentence without pandas)."""
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise ImportError("frame() needs pandas, which is not installed: pip install pandas") from None
        series = {name: self.history(name) for name in self.metric_names()}
        frame = pandas.DataFrame({name: pandas.Series(values, index=step) for name, (step, values) in series.items()})
        frame.index.name = "step"
        return frame

    def checkpoints(self) -> list[checkpoints.Checkpoint]:
        return checkpoints.list_checkpoints(self.path)


class ForeignRun(Run):
    """A run that another tool logs. What its log does not say is unknown; `seed` is 0."""

    def __init__(self, log: Log, identifier: str, root: Path | None = None) -> None:
        super().__init__(log.folder, identifier, root)
        *above, self.variant = identifier.split("/")
        self.study = "/".join(above) or self.variant
        self.tail: ForeignTail = ForeignTail(log)
        self.origin = log.origin

    def again(self) -> ForeignRun:
        return ForeignRun(self.tail.log.again(), self.id, self.root)

    @property
    def log_path(self) -> Path:
        """What the process printed, or the log itself if it is text; a file that is not there for other formats."""
        return self.tail.log.printed or super().log_path

    @property
    def state_file(self) -> Path:
        files = self.tail.log.files()
        return max(files, key=changed, default=self.path)

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.tail.log.settings()

    # Our files are not in its folder.
    config_problem = None
    loss_kind = ""

    def status(self, budget: int = MAX_METRICS) -> Status:
        """What the log records, else running while something was logged within the last ten minutes, else finished;
        reads at most about `budget` new bytes."""
        self.poll(budget)
        if not self.__dict__.get("config", True):
            # Settings may be logged after the first values.
            del self.__dict__["config"]
        when = self.tail.log.written()
        state = self.tail.log.state() or ("running" if now() - when < GROWING_SECONDS else "finished")
        last, step = self.table.newest()
        status = Status(state=state, shown_state=state, step=step, metrics=last, message=self.tail.problem or "")
        return replace(status, changed=when or None, heartbeat=when or None)

    def scheduled_status(self, jobs: Callable[[], slurm.Jobs | None] = slurm.jobs) -> Status:
        return self.status()

    def last(self, status: Status | None = None) -> dict[str, float]:
        return (status or self.status()).metrics


def loss_kind(config: dict[str, Any]) -> str:
    """The letter of the loss that these settings train with, as `common.settings.loss_kind` has it."""
    return settings.loss_kind(lookup(config, "target.method"), lookup(config, "target.loss"))


def loss_group(config: dict[str, Any]) -> str:
    """Losses of two runs may be compared only if this is equal: kind, radii and weights where they act, scale, margin,
    and what is added by a loss within classes, a teacher or a temperature."""
    kind = loss_kind(config)
    radii = ["radius", "cluster_radius"]
    keys = {"d": radii, "b": [*radii, "weights"], "i": ["radius"]}.get(kind, [])
    margins = ("scale", "batch_axis", "margin", "share", "center_weight")
    added = ("within", "within_weight", "teacher_weight", "temperature", *margins)
    keys = [*keys, *(key for key in added if lookup(config, f"target.{key}") is not None)]
    first = f"o {lookup(config, 'target.loss')}" if kind == "o" else kind
    return first + "".join(f" {key}={lookup(config, f'target.{key}')}" for key in keys)


def moved_from(folder: Path, place: str | None) -> str | None:
    """Where the images of the run in `folder` are by its preset, in words, unless that is `place`."""
    with contextlib.suppress(UnreadableError):
        before = lookup(read_toml(folder / PRESET), PLACE)
        return (before or "the data folder") if before != place else None
    return None


def metric_lines(runs: Sequence[Run]) -> tuple[list[str], Iterator[list[Any]]]:
    """Head and lines: run, step, epoch, time, and every metric of any of the runs; None if it was not logged."""
    names = list(dict.fromkeys(name for run in runs for name in run.metric_names()))

    def lines(run: Run) -> Iterator[list[Any]]:
        table: dict[int, dict[str, float]] = {}
        for name in run.metric_names():
            for step, value, *axes in zip(*(array.tolist() for array in run.axes(name)), strict=True):
                known = ((axis, at) for axis, at in zip(_AXES, axes, strict=True) if math.isfinite(at))
                table.setdefault(step, {}).update([(name, value), *known])
        for step in sorted(table):
            yield [run.id, step, *(table[step].get(name) for name in (*_AXES, *names))]

    return ["run", "step", *_AXES, *names], chain.from_iterable(map(lines, runs))


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """Write the table as CSV, whole or not at all; what was not logged is empty. Raises OSError."""
    head, rows = metric_lines(runs)
    safe_io.write_csv(path, chain([head], rows))


def list_runs(dirs: Dirs = None, skipped: list[str] | None = None, *, foreign: bool = False) -> list[Run]:
    """All runs below the runs folders (default `$LSC_RUNS`, else ./runs), in order of their ids; damaged ones too.
    `skipped` gets a sentence for everything that may hold runs and is not listed. `foreign`: with those that other
    tools log, which can only be read."""
    roots = layout.runs_dirs(dirs)
    found = ((root, pair) for root in roots for pair in layout.walk(root, skipped))
    if not foreign:
        return [Run(path, identifier, root) for root, (identifier, path) in found]
    runs = [run for root, (identifier, path) in found for run in _at(path, identifier, root)]
    runs += [ForeignRun(*found) for root in roots for found in foreign_runs(root)]
    return sorted(runs, key=lambda run: (roots.index(run.root or roots[0]), [*map(natural, run.id.split("/"))]))


def _at(path: Path, identifier: str, root: Path) -> list[Run]:
    """What lies where a run of ours may lie: one, or logs of another tool."""
    if (path / STATUS).exists() or (path / PRESET).exists():
        return [Run(path, identifier, root)]
    return [ForeignRun(*found) for found in runs_in(path, identifier, root)] or [Run(path, identifier, root)]


def short_ids(runs: Iterable[Run | str]) -> dict[str, str]:
    """Per run id the shortest beginning of its sha256 that no other has, at least four digits."""
    return layout.short_ids(run if isinstance(run, str) else run.id for run in runs)


def open_run(ref: str | Path, dirs: Dirs = None, *, foreign: bool = False) -> Run:
    """The run that `ref` names: an id, a path, a short id or a part that only one id holds. UsageError if none or
    several match, with the candidates, and for a run of another tool unless `foreign`."""
    run = _find(ref, dirs)
    if run.origin != "lsc" and not foreign:
        raise UsageError(only_read(run))
    return run


def no_checkpoint(run: Run, at: int | None = None) -> str:
    """The sentence on a run without a good checkpoint (of step `at`): which others are good, or what makes one."""
    good = [str(one.step) for one in run.checkpoints() if checkpoints.verify(one) is None]
    if good:
        return f"{run.id} has no good checkpoint of step {at}; it has: {', '.join(good)}"
    if run.status().state == "finished":
        again = f"lsc-engine run {run.path / PRESET} --name NAME trains it again as another study"
        return f"{run.id} is finished, but its checkpoints are missing or damaged; {again}"
    return f"{run.id} has no good checkpoint; lsc-engine resume {run.id} makes one"


def only_read(run: Run) -> str:
    """Why nothing is done to a run of another tool."""
    return f"{run.id} is a {run.origin} log of another tool, which is only read here"


def _find(ref: str | Path, dirs: Dirs) -> Run:
    roots = layout.runs_dirs(dirs)
    text = str(ref)
    if isinstance(ref, str) and (not text or any(not c.isprintable() for c in text)):
        raise UsageError(f"{text!r} names no run: empty or with control characters")
    refused: list[str] = []
    for root in roots:
        try:
            path = layout.run_folder(root, text)
        except layout.LinkError as error:
            refused += error.faults
            continue
        except UsageError:
            break
        if path.is_dir():
            return _at(path, text, root)[0]
    path = user_path(text)
    if (path / PRESET).is_file() or (path / STATUS).is_file():
        return _from_path(path, roots)
    runs = list_runs(roots, foreign=True)
    if path.is_dir() and not any(run.id == text for run in runs):
        # The logs of other tools in a folder named by its path; its id comes from the runs folder it lies in.
        root = next((root for root in roots if layout.stays_inside(root, path)), path.absolute().parent)
        found = runs_in(path, os.path.relpath(path.resolve(), root.resolve()), root)
        runs = [ForeignRun(*one) for one in found] or runs
    if exact := [run for run in runs if run.id == text or run.path == path]:
        return exact[0]
    by_short = [run for run in runs if layout.digest(run.id).startswith(text)] if _SHORT.fullmatch(text) else []
    by_part = [run for run in runs if text in run.id]
    for matching in (by_short, by_part):
        if len({run.id for run in matching}) == 1:
            return matching[0]
    if refused:
        raise UsageError(*refused)
    if by_part:
        short, more = short_ids(runs), len(by_part) - _MAX_CANDIDATES
        listed = "; ".join(f"{short[run.id]} {run.id}" for run in by_part[:_MAX_CANDIDATES])
        more_text = f"; and {more} more" if more > 0 else ""
        raise UsageError(f"{text!r} names {len(by_part)} runs: {listed}{more_text}")
    where = ", ".join(str(root) for root in roots)
    ids = [run.id for run in runs]
    near = ", ".join(difflib.get_close_matches(text, ids, 3, 0))
    there = f"the nearest of {counted(len(ids), 'run')}: {near}" if runs else "there are no runs"
    raise UsageError(f"{text!r} names no run in {where}; {there}")


def _from_path(path: Path, dirs: Sequence[Path]) -> Run:
    """The run in a folder named by its path; its id comes from the runs folder it lies in."""
    resolved = path.resolve()
    for root in dirs:
        top = root.resolve()
        if resolved != top and resolved.is_relative_to(top):
            identifier = str(resolved.relative_to(top))
            with contextlib.suppress(UsageError):
                layout.split_id(identifier)
                return Run(path, identifier, root)
    # Outside the known folders: four of the last parts are the id if source.json agrees.
    recorded, longest = Run(resolved, "").source.get("id"), "/".join(resolved.parts[-4:])
    count = 4 if longest.count("/") == 3 and longest == recorded else 3
    identifier = "/".join(resolved.parts[-count:])
    return Run(path, identifier, resolved.parents[count - 1] if len(resolved.parts) > count else None)
