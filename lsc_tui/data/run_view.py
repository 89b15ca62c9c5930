"""What the screens show, as plain values: one view per run, the machine, and the store that holds them.

The collector makes these off the UI thread; a view is never changed, only replaced, so a row is redrawn exactly when
its view is another one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lsc_engine.analysis.saved_views import SavedView
from lsc_engine.charts.chart import Series
from lsc_engine.common.duration import Duration
from lsc_engine.common.formatting import grouped
from lsc_engine.common.hardware import Gpu, Hardware
from lsc_engine.common.settings import lookup
from lsc_engine.runs.folder.layout import runs_dirs
from lsc_engine.runs.folder.status import Status
from lsc_engine.runs.metrics.machine import Sample
from lsc_engine.runs.read.embeddings import Snapshot
from lsc_engine.runs.read.run import Run, loss_group, loss_kind
from lsc_engine.runs.settings import differences, settings_of
from lsc_tui.data.reports import Report
from lsc_tui.lines import clean

Floats = npt.NDArray[np.float64]
Config = dict[str, Any]

LOSS = "train/loss"
SPEED = "speed/images_per_second"
ACCURACY = "train/accuracy"
# What a list of runs may show as accuracy, one for all its runs, and the head of that column.
ACCURACIES = {ACCURACY: "TRAIN%", "val/accuracy": "VAL%"}
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class RunView:
    """One run as it was last read. `key` is unique over all folders, `root` counts the folders looked at."""

    key: str
    run: Run
    root: int
    read_only: bool
    short: str
    status: Status
    config: Config
    source: Config
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # oldest first
    trend: tuple[float, ...] = ()
    place: int = 0  # in its queue, from 1
    held: bool = False  # not to be started while it waits

    @property
    def remarks(self) -> str:
        """Its tags and its newest note."""
        return " ".join([*(f"#{tag}" for tag in self.tags), *self.notes[-1:]])

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def study(self) -> str:
        return self.run.study

    @property
    def variant(self) -> str:
        return self.run.variant

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def label(self) -> str:
        label = lookup(self.config, "run.label") or self.config.get("label")
        return clean(label) if isinstance(label, str) and label else self.run.variant

    @property
    def state(self) -> str:
        return self.status.shown_state

    @property
    def queue(self) -> tuple[object, ...]:
        """What the queue that it waits in has in common: the process that trains its runs one after another."""
        return self.root, self.status.identity

    @property
    def loss_kind(self) -> str:
        kind = loss_kind(self.config)
        return "" if kind == "?" else kind

    @property
    def loss_group(self) -> str:
        return loss_group(self.config)

    def last(self, metric: str) -> float | None:
        return self.status.metrics.get(metric)

    def best(self, metric: str) -> float | None:
        return self.status.best.get(metric)

    @property
    def done(self) -> float:
        total = self.status.total_steps or lookup(self.config, "total_steps")
        if self.state == "finished":
            return 1.0
        return min(1.0, self.status.step / total) if isinstance(total, int) and total > 0 else 0.0

    @property
    def epochs(self) -> float | None:
        """Epochs of the whole run, estimated from the share that is done."""
        with suppress(ValueError):
            duration = Duration.parse(str(lookup(self.config, "train.duration")))
            if duration.unit == "epochs":
                return duration.amount
        status = self.status
        if status.epoch and status.step and status.total_steps:
            return round(status.epoch * status.total_steps / status.step, 1)
        return None


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric of one run: arrays of equal length, steps rising."""

    step: Floats
    value: Floats
    epoch: Floats
    time: Floats

    def x(self, axis: str, images_per_step: float = 1.0) -> Floats:
        """The x values for `epoch`, `step`, `time` (minutes) or `images`."""
        if axis == "epoch":
            return self.epoch if np.isfinite(self.epoch).any() else self.step
        if axis == "time":
            return self.time / 60
        return self.step * images_per_step if axis == "images" else self.step


@dataclass(frozen=True, eq=False)
class Curves:
    """The metrics of one run that were requested, all names there are, and where it was resumed (step, epoch,
    time)."""

    curves: dict[str, Curve] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    resumed: tuple[tuple[float, float, float], ...] = ()
    behind: bool = False
    checkpoints: tuple[tuple[int, float, int], ...] = ()  # step, when, bytes
    sampled: bool = False  # points from all over a long file, which is still being read
    fixed: tuple[tuple[float, float, float], ...] = ()  # where layers were fixed
    machine: Sample | None = None  # the newest of its machine
    drawn: dict[Hashable, Series] = field(default_factory=dict)  # made once, kept with the arrays

    @cached_property
    def without_epochs(self) -> bool:
        """Whether there are curves, and another tool logged them by step alone."""
        return bool(self.curves) and not any(np.isfinite(curve.epoch).any() for curve in self.curves.values())


@dataclass(frozen=True, eq=False)
class EmbeddingHistory:
    """The snapshots of a run in rising steps, why one could not be read, and the last of the run it started from."""

    shots: tuple[Snapshot, ...] = ()
    problem: str = ""
    before: Snapshot | None = None


@dataclass(frozen=True)
class Folder:
    """One runs folder as it was last seen."""

    path: Path
    name: str = ""  # whose it is, where it is another's
    read_only: bool = False
    problem: str = ""
    views: bool = False  # whether there are saved ones
    passed: tuple[str, ...] = ()  # what may hold runs and is not listed, a sentence each


@dataclass
class Update:
    """What changed since the last message."""

    runs: dict[str, RunView] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    curves: dict[str, Curves] = field(default_factory=dict)
    embeddings: dict[str, EmbeddingHistory] = field(default_factory=dict)
    folders: tuple[Folder, ...] | None = None
    reports: tuple[Report, ...] | None = None
    hardware: Hardware | None = None
    older: int = 0
    loaded: bool = False


class Store:
    """All that is known, on the UI thread. Screens read it; the app puts in what the collector found."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.runs: dict[str, RunView] = {}
        self.version = 0  # rises when a run or a folder changed
        self.folders: tuple[Folder, ...] = ()
        self.reports: tuple[Report, ...] = ()  # studies that have one and no runs
        self.making: dict[str, int] = {}  # key of a report that was started here -> process
        self.hardware = Hardware()
        self.curves: dict[str, Curves] = {}
        self.embeddings: dict[str, EmbeddingHistory] = {}  # of the run that Monitor shows
        self.older = 0  # runs beyond the list's limit
        self.loaded = False
        self.marked: dict[str, str] = {}  # key -> letter
        self.pinned = ""
        # What one tab leaves for another: the run in Monitor, the runs in Compare, what New run starts from.
        self.watched = ""
        self.deleted: set[str] = set()  # keys of runs moved to the trash from here
        self.compared: list[str] = []
        self.launched = ""
        self.form: tuple[str, str] = ("", "")
        self.view: tuple[Path, SavedView] | None = None

    def apply(self, update: Update) -> bool:
        """Take in what the poller found; whether these are the first runs."""
        self.runs.update(update.runs)
        self.curves.update(update.curves)
        for key in update.gone:
            for known in (self.runs, self.curves, self.embeddings, self.marked):
                known.pop(key, None)
        self.version += bool(update.runs or update.gone or update.folders is not None or update.loaded)
        # Embeddings of one run at a time: the others give their memory back.
        self.embeddings, self.hardware = update.embeddings or self.embeddings, update.hardware or self.hardware
        self.reports = update.reports if update.reports is not None else self.reports
        if update.folders is not None:
            self.folders, self.older = update.folders, update.older
        first, self.loaded = update.loaded and not self.loaded, self.loaded or update.loaded
        return first

    def own_folder(self, first: Path) -> Path:
        """Where new runs go: the first runs folder here that can be written to, else one that is not there and may be
        made, else the one that lsc-engine takes."""
        own = [f.path for f in self.folders if not f.read_only and not f.problem]
        own += [f.path for f in self.folders if f.problem]
        return own[0] if own else runs_dirs([])[0] if self.folders else first

    def counts(self) -> Counter[str]:
        return Counter(view.state for view in self.runs.values())

    def mark(self, key: str) -> None:
        """Mark a run with the first free letter, or unmark it."""
        if self.marked.pop(key, None) is None:
            used = set(self.marked.values())
            self.marked[key] = next((letter for letter in LETTERS if letter not in used), "+")

    def owner_of(self, gpu: Gpu) -> str:
        """What runs on a GPU: a run of ours by its label, else users, else free."""
        by_pid = {v.status.pid: v for v in self.runs.values() if v.status.active and v.status.host == self.host}
        names = {pid: f"{view.label} s{view.seed}" for pid, view in by_pid.items()}
        owners = dict.fromkeys(names.get(pid) or user or "someone" for pid, user in gpu.processes)
        return ", ".join(owners) or ("in use" if gpu.busy else "free")


def gpu_number(device: str) -> int | None:
    """The GPU's number in what a run calls its device: "NVIDIA H100 (cuda:2)" or "cuda:2"; None for any other."""
    found = re.search(r"\bcuda:([0-9]{1,3})\)?$", device)
    return int(found[1]) if found else None


def colour_of(letter: str) -> int:
    """The colour that belongs to a letter."""
    return LETTERS.index(letter) if letter in LETTERS and letter else 0


def baseline_of(view: RunView, views: list[RunView]) -> RunView | None:
    """The run of its study that a run is compared with: the preset's baseline, else the first variant."""
    named = lookup(view.config, "compare.baseline")
    others = sorted((v for v in views if v.study == view.study and v.root == view.root), key=lambda v: v.id)
    found = [v for v in others if named in (v.variant, v.label)] or others
    same_seed = [v for v in found if v.seed == view.seed] or found
    return same_seed[0] if same_seed and same_seed[0].variant != view.variant else None


def reference_of(store: Store, view: RunView) -> tuple[RunView | None, list[RunView]]:
    """What a run is compared with: the pinned run, else the baseline of its study; and the runs of its study."""
    group = [v for v in store.runs.values() if v.study == view.study and v.root == view.root]
    pinned = store.runs.get(store.pinned)
    return (pinned if pinned is not None and pinned.key != view.key else baseline_of(view, group)), group


def reference_words(store: Store, base: RunView) -> str:
    """`the baseline n=384`, `the pinned n=384 s0`"""
    return f"the pinned {base.label} s{base.seed}" if base.key == store.pinned else f"the baseline {base.label}"


def setting_differences(view: RunView, base: RunView) -> list[tuple[str, str, str]]:
    """The settings in which two runs differ: name, own value, the other's."""
    found = differences(settings_of(view.config), settings_of(base.config))
    return [(name, value_text(own), value_text(other)) for name, (own, other) in found.items()]


def value_text(value: Any) -> str:
    """A setting as it is written for people: `1e-4`, `300 000`, `true`, `a, b`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, int) and abs(value) >= 10_000:
        return grouped(value)
    if isinstance(value, dict):
        return ", ".join(f"{k} = {value_text(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value)) or "none"
    return "-" if value is None else str(value)


def float_text(value: float) -> str:
    """`0.25`, and `1e-4` for what is small where that is shorter."""
    plain, power = f"{value:g}".replace("e-0", "e-"), re.sub(r"\.?0*e-0?", "e-", f"{value:.5e}")
    return power if 0 < abs(value) < 0.1 and len(power) < len(plain) else plain


def finite(value: float | None) -> float | None:
    """The value, None if it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None
