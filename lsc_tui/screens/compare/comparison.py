"""From marked runs to what Compare shows: reading off the UI thread, letters, and the sentences on what is unequal.

The numbers are those of lsc_engine.analysis.compare and verdict; here they only get letters and words.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from lsc_engine.analysis import compare as analysis
from lsc_engine.analysis.compare import Comparison, Row, compare, levels_of
from lsc_engine.analysis.levels import LevelResult, is_loss
from lsc_engine.analysis.seed_curves import Mean, over_seeds
from lsc_engine.analysis.verdict import Verdict, verdicts
from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import counted
from lsc_engine.runs.folder.layout import MACHINE
from lsc_engine.runs.folder.machine import BUSY, THROTTLED
from lsc_engine.runs.metrics.machine import newest
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.studies import tries_beside
from lsc_engine.vectors.registry import facts
from lsc_tui.data.run_view import ACCURACY, LETTERS, LOSS, RunView, value_text
from lsc_tui.lines import clean, near_text
from lsc_tui.widgets.chart import is_share

# Levels count in the unit of the x axis; a number of images is a number of epochs of the same data.
UNIT_OF = {"epoch": "epochs", "step": "steps", "time": "seconds", "images": "epochs"}
METRICS = (ACCURACY, LOSS, "val/accuracy", "val/loss")


class RowDetails(NamedTuple):
    """Of one row: trained parameters, classes in use at the smallest angle (fewest, most), and the cosine loss under
    which an image surely has the right label; None for what is not known."""

    parameters: int | None = None
    near: tuple[float, float] | None = None
    sure_below: float | None = None


def details_of(row: Row) -> RowDetails:
    """What is known of a row beside its metrics. Never raises for what a folder holds."""
    found, near, sure, settings = row.runs[0].source.get("parameters"), None, None, row.settings
    parts = [v for v in found.values() if type(v) is int] if isinstance(found, dict) else []
    name, n, classes = (settings.get(key) for key in ("target.system", "model.dim", "data.classes"))
    if settings.get("target.method") != "ce" and isinstance(name, str) and type(n) is int and type(classes) is int:
        with contextlib.suppress(LscError, ValueError, OverflowError):
            known = facts(name, n, classes, int(settings.get("seed") or 0))
            near = known.used_neighbours(classes)
            if math.isfinite(known.guaranteed_below) and settings.get("target.loss", "cosine") == "cosine":
                sure = known.guaranteed_below
    return RowDetails(sum(parts) if parts else None, near, sure)


@dataclass(frozen=True)
class Request:
    """What is to be compared: runs with their states as known, baseline, levels (None: the presets'), x axis."""

    views: tuple[RunView, ...]
    baseline: str = ""
    levels: tuple[tuple[str, tuple[float, ...]], ...] | None = None
    axis: str = "epoch"
    letters: tuple[str, ...] = ()
    machine: str = ""  # the metric of the machines that is shown, machine/…


@dataclass(frozen=True, eq=False)
class Compared:
    """The answer: rows in their order with a letter each, the curves over seeds per metric and row, verdicts."""

    request: Request
    comparison: Comparison
    letters: dict[str, str]
    metrics: tuple[str, ...]
    curves: dict[str, dict[str, Mean]]
    verdicts: list[Verdict]
    set_here: set[str]  # metrics whose levels are not the preset's
    views: dict[str, list[RunView]]
    details: dict[str, RowDetails]

    @property
    def rows(self) -> list[Row]:
        return self.comparison.rows

    @property
    def base(self) -> Row:
        return self.comparison.baseline

    @property
    def unit(self) -> str:
        """The unit in which levels are shown."""
        return UNIT_OF[self.request.axis]


class Reader:
    """Compares runs, keeping their tries open, so that each look reads only what is new. One thread at a time."""

    def __init__(self) -> None:
        self._tries: dict[str, Run] = {}

    def read(self, request: Request, read: Mapping[str, Run]) -> Compared:
        """Compare the runs; `read`: those of the poller, by key. LscError where the baseline is none of them."""
        runs = [read.get(view.key, view.run) for view in request.views]
        self._tries = {run.id: self._tries.get(run.id, run) for run in tries_beside(runs)}
        tries = list(self._tries.values())
        levels = None if request.levels is None else {metric: list(values) for metric, values in request.levels}
        try:
            found = compare(runs, request.baseline or None, levels, tries)
        except LscError:
            # The pinned run is not among these: the presets' baseline stands.
            found = compare(runs, None, levels, tries)
        # The preset's baseline leads; pinning another row later moves nothing.
        table = found.rows[0].runs[0].config.get("compare")
        named = table.get("baseline") if isinstance(table, dict) else None
        order = sorted(range(len(found.rows)), key=lambda i: found.rows[i].runs[0].variant != named)
        for values in (found.rows, *found.differing.values()):
            values[:] = [values[i] for i in order]
        names = {name for run in runs for name in run.metric_names()}
        metrics = tuple(name for name in METRICS if name in names) or (ACCURACY, LOSS)
        # Those of the machines are read when they are shown.
        drawn = (*metrics, request.machine) if request.machine else metrics
        if request.axis == "epoch" and any(run.table.without_epochs for run in runs):
            # They share an axis that all of them have.
            request = replace(request, axis="step")
        curves = {m: {row.key: over_seeds(row.runs, m, request.axis) for row in found.rows} for m in drawn}
        sampled = [sample.values() for run in runs if (sample := newest(run.path / MACHINE)) is not None]
        metrics += tuple(dict.fromkeys(m for values in sampled for m in values if m.count("/") == 1))
        views: dict[str, list[RunView]] = {}
        for view in request.views:
            views.setdefault(f"{view.study}/{view.variant}", []).append(view)
        # The letters of the marks, where every row has one of its own.
        marked = dict(zip((v.key for v in request.views), request.letters, strict=False))
        letters = [next((marked[v.key] for v in views.get(r.key, []) if marked.get(v.key)), "") for r in found.rows]
        if "" in letters or len(set(letters)) < len(letters):
            letters = [LETTERS[i % len(LETTERS)] for i in range(len(letters))]
        preset = {m: tuple(v) for m, v in levels_of(runs).items()}
        set_here = {metric for metric, values in request.levels or () if values != preset.get(metric)}
        by_row = dict(zip((row.key for row in found.rows), letters, strict=True))
        details = {row.key: details_of(row) for row in found.rows}
        judged = verdicts(found, UNIT_OF[request.axis])
        return Compared(request, found, by_row, metrics, curves, judged, set_here, views, details)


def level_name(metric: str, level: float) -> str:
    """`90%` for an accuracy, `.40` for a loss."""
    if is_loss(metric):
        return (f"{level:.2f}" if level >= 0.01 else f"{level:.2g}").removeprefix("0")
    return f"{100 * level:.4g}%"


def shown_levels(found: Compared) -> list[int]:
    """Which levels stand in the table: the hardest that some row reached, of accuracy and of loss; else the hardest."""
    chosen = []
    for loss in (False, True):
        own = [i for i, level in enumerate(found.base.levels) if is_loss(level.metric) == loss]
        own.sort(key=lambda i: found.base.levels[i].level, reverse=loss)
        reached = [i for i in own if any(row.levels[i].reached for row in found.rows)]
        chosen += (reached or own)[-1:]
    return chosen


def drawn_levels(found: Compared, metric: str) -> list[float]:
    """Those of the table that are of a metric."""
    levels = (found.base.levels[i] for i in shown_levels(found))
    return [level.level for level in levels if level.metric == metric]


def at_text(level: LevelResult, unit: str, *, wide: bool) -> str:
    """Where a level was reached: `46.6`, wide with its range over seeds; `>100` where no seed did."""
    text, reached = level.text(unit), [reach.at(unit) for reach in level.reached]
    if not wide or len(reached) < 2:
        return text if wide else text.partition(" ")[0]
    mean, digits = level.mean(unit) or 0.0, 0 if max(reached) >= 10 else 1
    places = 0 if mean >= 100 else 1 if mean >= 1 else 2
    return f"{mean:.{places}f} ({min(reached):.{digits}f}-{max(reached):.{digits}f})"


_DISTURBED = {
    analysis.SHARED: "shared a GPU with another process",
    BUSY: "trained on a machine with more work than processors",
    THROTTLED: "trained on a machine that was slowed down for heat or power",
}


def unequal(found: Compared) -> list[str]:
    """Sentences on what may not be compared, what is missing and what is not done, with the letters of the rows."""
    out: list[str] = []
    base, letter = found.base, found.letters

    def noted(note: str, unit: str = "epochs") -> list[Row]:
        return [row for row in found.rows if any(level.faster[unit].note == note for level in row.levels)]

    sizes: dict[str, list[str]] = {}
    for row in noted(analysis.OTHER_DATA):
        size = ", ".join(value_text(r.settings.get("data.classes")) for r in (base, row))
        sizes.setdefault(size, []).append(letter[row.key])
    for size, others in sizes.items():
        both = f"{letter[base.key]} and {', '.join(others)}"
        out.append(f"{both} train on different data ({size} classes): no speed-up")
    if others := [letter[row.key] for row in noted(analysis.OTHER_LOSS)]:
        verb = "has another loss" if len(others) == 1 else "have another loss"
        out.append(f"{', '.join(others)} {verb} than {letter[base.key]}: their losses are not compared")
    for i in shown_levels(found):
        if not any(row.levels[i].reached for row in found.rows):
            name = level_name(base.levels[i].metric, base.levels[i].level).replace("%", " %")
            out.append(f"no run reaches {name}: v sets another")
    going: dict[str, list[str]] = {}
    for row in found.rows:
        done = sum(state == "finished" for state in row.states.values())
        rest = Counter(state for state in row.states.values() if state not in analysis.ENDED)
        if fallen := [f"seed {s} {state}" for s, state in row.states.items() if state == "diverged"]:
            out.append(f"{letter[row.key]}: {', '.join(fallen)}, counts as not reached")
        if rest:
            words = ", ".join(f"{count} {state}" for state, count in rest.items())
            going.setdefault(f"{done} of {counted(len(row.states), 'seed')}, {words}", []).append(letter[row.key])
    out += [f"{', '.join(letters)}: {words}" for words, letters in going.items()]
    if any(row.device for row in noted(analysis.OTHER_DEVICE, "seconds")):
        out.append("not all on one kind of device: no seconds compared")
    if noted(analysis.UNCOMPILED, "seconds"):
        out.append("not all compiled alike: no seconds compared")
    for mark, words in _DISTURBED.items():
        if letters := [letter[row.key] for row in found.rows if row.disturbed == mark]:
            out.append(f"{', '.join(letters)} {words}: seconds not compared")
    return [clean(text) for text in out]


def disagreement(found: Compared) -> str:
    """The sentence where loss and accuracy tell different things of a row, and why: the classes at the smallest angle;
    else ""."""
    results: dict[str, dict[str, str]] = {}
    for verdict in found.verdicts:
        results.setdefault(verdict.row, {})[verdict.kind] = verdict.result
    letters = {row.label: found.letters[row.key] for row in found.rows}
    split = [row for row, kinds in results.items() if {kinds.get("accuracy"), kinds.get("loss")} == {"holds", "fails"}]
    if not split:
        return ""
    text = f"loss and accuracy disagree about {', '.join(letters[row] for row in split)}: report both"
    first = next(row for row in found.rows if row.label == split[0])
    n, base_n = (row.settings.get("model.dim") for row in (first, found.base))
    near, base_near = (found.details[row.key].near for row in (first, found.base))
    if near is not None and base_near is not None:
        text += f". At n = {n} a class has {near_text(near)} classes in use at the smallest angle, "
        text += f"at n = {base_n} {near_text(base_near)}"
    return clean(text)


def kinds_without_level(found: Compared) -> list[str]:
    """Of accuracy and loss, those for which no level is set: nothing follows for them."""
    set_for = {"loss" if is_loss(level.metric) else "accuracy" for level in found.base.levels}
    return [kind for kind in ("accuracy", "loss") if kind not in set_for]


def group_of(found: Compared) -> str:
    """The group of losses that the loss chart shows: that of the baseline, else that of most rows."""
    groups = [row.group for row in found.rows]
    return found.base.group if found.base.group != "?" else max(groups, key=groups.count)


def number_text(value: float, metric: str) -> str:
    """A value of a metric in the readout: per cent without sign, a loss, or as it is."""
    if not math.isfinite(value):
        return "-"
    if is_loss(metric) and abs(value) < 1:
        return f"{value:.4f}".replace("0.", ".", 1)
    return f"{100 * value:.1f}" if is_share(metric) and not is_loss(metric) else f"{value:.4g}"
