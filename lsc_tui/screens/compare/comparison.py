"""From marked runs to what Compare shows: reading off the UI thread, letters, and the sentences on what is unequal.

The numbers are those of lsc_engine.analysis.compare and verdict; here they only get letters and words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lsc_engine.analysis.compare import (
    ENDED,
    OTHER_DATA,
    OTHER_DEVICE,
    OTHER_LOSS,
    SHARED,
    UNCOMPILED,
    Comparison,
    Row,
    compare,
    levels_of,
)
from lsc_engine.analysis.levels import LevelResult, is_loss
from lsc_engine.analysis.seed_curves import Mean, over_seeds
from lsc_engine.analysis.verdict import OVER, Verdict, verdicts
from lsc_engine.common.errors import LscError
from lsc_engine.common.safe_io import UnreadableError, read_toml
from lsc_engine.common.settings import lookup
from lsc_engine.runs.folder.layout import MACHINE, PRESET
from lsc_engine.runs.folder.machine import BUSY, THROTTLED
from lsc_engine.runs.metrics.machine import PREFIX, newest
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.studies import tries_beside
from lsc_engine.runs.settings import differing, settings_of
from lsc_engine.vectors.registry import facts
from lsc_tui.data.run_view import ACCURACY, LETTERS, LOSS, RunView, Store, value_text
from lsc_tui.lines import clean, counted, loss_text, millions, near_text
from lsc_tui.widgets.chart import is_share

_MOST_TRIES = 200


@dataclass(frozen=True)
class RowDetails:
    """Of one row: tried values per setting, trained parameters, classes in use at the smallest angle (fewest, most),
    and the cosine loss under which an image surely has the right label."""

    tried: dict[str, tuple[Any, ...]]
    parameters: int | None = None
    near: tuple[float, float] | None = None
    sure_below: float | None = None


def behind(row: Row) -> RowDetails:
    """What is known of a row; what is not known is left out. Never raises for what a folder holds."""
    run = row.runs[0]
    tried: dict[str, tuple[Any, ...]] = {}
    if run.root is not None:
        tried = tries_of(run.root / f"{run.study}.tune", run.variant)
    counted = run.source.get("parameters")
    parts = [v for v in counted.values() if type(v) is int] if isinstance(counted, dict) else []
    near, sure = _vectors(row.settings)
    return RowDetails(tried, sum(parts) if parts else None, near, sure)


def tries_of(study: Path, variant: str) -> dict[str, tuple[Any, ...]]:
    """The settings in which the tries of a variant differ, with their values in order."""
    try:
        folders = sorted(p for p in study.iterdir() if p.name.startswith(f"{variant}+"))[:_MOST_TRIES]
    except OSError:
        return {}
    tables = []
    for folder in folders:
        for path in sorted(folder.glob(f"seed-*/{PRESET}"))[:1]:
            try:
                tables.append(settings_of(read_toml(path)))
            except UnreadableError:
                continue
    return {key: _in_order(values) for key, values in differing(tables).items()}


def _in_order(values: Sequence[Any]) -> tuple[Any, ...]:
    numbers = [v for v in values if type(v) in (int, float)]
    return tuple(sorted(set(numbers))) if len(numbers) == len(values) else tuple(dict.fromkeys(map(str, values)))


def _vectors(settings: dict[str, Any]) -> tuple[tuple[float, float] | None, float | None]:
    name, n, classes = (settings.get(key) for key in ("target.system", "model.dim", "data.classes"))
    if settings.get("target.method") == "ce" or not isinstance(name, str) or type(n) is not int:
        return None, None
    if type(classes) is not int:
        return None, None
    try:
        known = facts(name, n, classes, int(settings.get("seed") or 0))
        near = known.used_neighbours(classes)
    except (LscError, ValueError, OverflowError):
        return None, None
    sure = known.guaranteed_below if math.isfinite(known.guaranteed_below) else None
    return near, sure if settings.get("target.loss", "cosine") == "cosine" else None


def rows_behind(known: Sequence[RowDetails]) -> list[tuple[str, list[str]]]:
    """Lines for the table of settings: what was tried, parameters, classes that lie near, sure below."""
    out: list[tuple[str, list[str]]] = []
    for key in dict.fromkeys(key for one in known for key in one.tried):
        counts = [str(len(one.tried[key])) if key in one.tried else "-" for one in known]
        out.append((f"{key.rpartition('.')[2]} tried", counts))
    if any(one.parameters is not None for one in known):
        out.append(("parameters", [millions(one.parameters) for one in known]))
    if any(one.near is not None for one in known):
        out.append(("near in use", [near_text(one.near) for one in known]))
    if any(one.sure_below is not None for one in known):
        out.append(("sure below", [loss_text(one.sure_below) for one in known]))
    return out


def tried_text(known: Sequence[RowDetails]) -> str:
    """`lr: best of 1e-4 3e-4 1e-3, tried for each`; "" where nothing was tried."""
    sets: dict[str, Counter[tuple[Any, ...]]] = {}
    for one in known:
        for key, values in one.tried.items():
            sets.setdefault(key, Counter())[values] += 1
    out = []
    for key, counts in sets.items():
        name = key.rpartition(".")[2]
        ((values, most),) = counts.most_common(1)
        each = "each" if len(counts) == 1 and most == len(known) else f"{counts.total()} of {len(known)}"
        out.append(f"{name}: best of {' '.join(map(value_text, values))}, tried for {each}")
    return "; ".join(out)


def why_they_disagree(row: RowDetails, base: RowDetails, n: Any, base_n: Any) -> str:
    """Why a loss may be low while labels are wrong, or the other way: the classes at the smallest angle."""
    if row.near is None or base.near is None:
        return ""
    return (
        f"at n = {n} a class has {near_text(row.near)} classes in use at the smallest angle, "
        f"at n = {base_n} {near_text(base.near)}"
    )


# Levels count in the unit of the x axis; a number of images is a number of epochs of the same data.
UNIT_OF = {"epoch": "epochs", "step": "steps", "time": "seconds", "images": "epochs"}
METRICS = (ACCURACY, LOSS, "val/accuracy", "val/loss")


@dataclass
class Chosen:
    """Which runs: keys, whole studies (root, study) whose new runs join, and whether the marks chose them."""

    keys: list[str] = field(default_factory=list)
    studies: set[tuple[int, str]] = field(default_factory=set)
    by_marks: bool = False


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
    set_here: bool
    problem: str = ""
    views: dict[str, list[RunView]] = field(default_factory=dict)
    behind: dict[str, RowDetails] = field(default_factory=dict)

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
        self._behind: dict[tuple[object, ...], RowDetails] = {}

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
        kept, self._behind = self._behind, {}
        for row in found.rows:  # read again when one of its runs has begun or ended
            key = (row.key, *row.states.items())
            self._behind[key] = kept[key] if key in kept else behind(row)
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
        letters = _letters(found.rows, views, dict(zip((v.key for v in request.views), request.letters, strict=False)))
        preset = {m: tuple(v) for m, v in levels_of(runs).items()}
        set_here = request.levels is not None and dict(request.levels) != preset
        return Compared(
            request,
            found,
            letters,
            metrics,
            curves,
            verdicts(found, UNIT_OF[request.axis]),
            set_here,
            views=views,
            behind={row.key: one for row, one in zip(found.rows, self._behind.values(), strict=True)},
        )


def _letters(rows: Sequence[Row], views: dict[str, list[RunView]], marked: dict[str, str]) -> dict[str, str]:
    kept = [next((marked[v.key] for v in views.get(row.key, []) if marked.get(v.key)), "") for row in rows]
    if "" in kept or len(set(kept)) < len(kept):
        kept = [LETTERS[i % len(LETTERS)] for i in range(len(rows))]
    return {row.key: letter for row, letter in zip(rows, kept, strict=True)}


def request_of(
    store: Store,
    views: Sequence[RunView],
    levels: dict[str, list[float]] | None,
    axis: str,
    marked: bool,
    metric: str = "",
) -> Request:
    """The request for these runs as the store has them now."""
    pinned = store.runs.get(store.pinned)
    return Request(
        tuple(views),
        f"{pinned.study}/{pinned.variant}" if pinned is not None else "",
        None if levels is None else tuple((metric, tuple(values)) for metric, values in levels.items()),
        axis,
        tuple(store.marked.get(view.key, "") for view in views) if marked else (),
        metric if metric.startswith(PREFIX) else "",
    )


def level_name(metric: str, level: float) -> str:
    """`90%` for an accuracy, `.40` for a loss."""
    if is_loss(metric):
        text = f"{level:.2f}" if level >= 0.01 else f"{level:.2g}"
        return text.removeprefix("0")
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


def at_text(level: LevelResult, unit: str, *, wide: bool) -> str:
    """Where a level was reached: `46.6`, wide with its range over seeds; `>100` where no seed did."""
    text = level.text(unit)
    reached = [reach.at(unit) for reach in level.reached]
    if not wide or len(reached) < 2:
        return text.partition(" ")[0] if not wide else text
    mean = level.mean(unit) or 0.0
    digits = 0 if max(reached) >= 10 else 1
    return f"{_places(mean)} ({min(reached):.{digits}f}-{max(reached):.{digits}f})"


def _places(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def seeds_text(row: Row, *, wide: bool) -> str:
    """`3 of 3`, narrow `3`; `2/3` while one is missing."""
    done, all_ = sum(state == "finished" for state in row.states.values()), len(row.states)
    return f"{done} of {all_}" if wide else str(all_) if done == all_ else f"{done}/{all_}"


def counts_text(found: Compared) -> str:
    """`15 runs: 14 done, 1 diverged`."""
    words = {"finished": "done"}
    states = Counter(words.get(state, state) for row in found.rows for state in row.states.values())
    parts = [f"{states[word]} {word}" for word in sorted(states, key=lambda w: (w != "done", w))]
    return f"{counted(states.total(), 'run')}: {', '.join(parts)}"


def claim_of(found: Compared) -> tuple[str, str, str]:
    """Claim, source, and the sentence on the data, where the rows share them."""
    configs = [row.runs[0].config for row in found.rows]

    def shared(name: str) -> str:
        values = {str(config.get(name) or "") for config in configs}
        return clean(values.pop()) if len(values) == 1 else ""

    return shared("claim"), shared("source"), _data_text(configs)


def _data_text(configs: Sequence[dict[str, Any]]) -> str:
    texts = set()
    for config in configs:
        dataset, labels = lookup(config, "data.dataset"), lookup(config, "data.labels")
        classes, size = lookup(config, "data.classes"), lookup(config, "data.image_size")
        counted = value_text(classes) if isinstance(classes, int) else ""
        words = [dataset, counted, "unique" if labels == "unique" else "classes" if counted else ""]
        text = " ".join(clean(word) for word in words if word)
        if isinstance(size, int):
            text += f", {size} px"
        provenance = config.get("provenance")
        whose = provenance.get("data.dataset") if isinstance(provenance, dict) else None
        if isinstance(whose, str) and whose.startswith("ours"):
            text += ", not the paper's"
        texts.add(text)
    return texts.pop() if len(texts) == 1 else f"{len(texts)} kinds of data"


_DISTURBED = {
    SHARED: "shared a GPU with another process",
    BUSY: "trained on a machine with more work than processors",
    THROTTLED: "trained on a machine that was slowed down for heat or power",
}


def unequal(found: Compared) -> list[str]:
    """Sentences on what may not be compared, what is missing and what is not done, with the letters of the rows."""
    out: list[str] = []
    base, letter = found.base, found.letters
    for row in found.rows:
        if _notes_of(row, OTHER_DATA):
            sizes = ", ".join(value_text(r.settings.get("data.classes")) for r in (base, row))
            both = f"{letter[base.key]} and {letter[row.key]}"
            out.append(f"{both} train on different data ({sizes} classes): no speed-up")
    others = [letter[row.key] for row in found.rows if _notes_of(row, OTHER_LOSS)]
    if others:
        verb = "has another loss" if len(others) == 1 else "have another loss"
        out.append(f"{', '.join(others)} {verb} than {letter[base.key]}: their losses are not compared")
    for i in shown_levels(found):
        level = base.levels[i]
        if not any(row.levels[i].reached for row in found.rows):
            out.append(f"no run reaches {level_name(level.metric, level.level).replace('%', ' %')}: v sets another")
    going: dict[str, list[str]] = {}
    for row in found.rows:
        done = sum(state == "finished" for state in row.states.values())
        rest = Counter(state for state in row.states.values() if state not in ENDED)
        fallen = [f"seed {s} {state}" for s, state in row.states.items() if state == "diverged"]
        if fallen:
            out.append(f"{letter[row.key]}: {', '.join(fallen)}, counts as not reached")
        if rest:
            words = ", ".join(f"{count} {state}" for state, count in rest.items())
            going.setdefault(f"{done} of {len(row.states)} seeds, {words}", []).append(letter[row.key])
    out += [f"{', '.join(letters)}: {words}" for words, letters in going.items()]
    if any(row.device and _notes_of(row, OTHER_DEVICE, unit="seconds") for row in found.rows):
        out.append("not all on one kind of device: no seconds compared")
    if any(_notes_of(row, UNCOMPILED, unit="seconds") for row in found.rows):
        out.append("not all compiled alike: no seconds compared")
    for mark, words in _DISTURBED.items():
        if letters := [letter[row.key] for row in found.rows if row.disturbed == mark]:
            out.append(f"{', '.join(letters)} {words}: seconds not compared")
    return [clean(text) for text in out]


def _notes_of(row: Row, note: str, unit: str = "epochs") -> bool:
    return any(level.faster[unit].note == note for level in row.levels)


def disagreement(found: Compared) -> str:
    """The sentence where loss and accuracy tell different things of a row, else ""."""
    results: dict[str, dict[str, str]] = {}
    for verdict in found.verdicts:
        results.setdefault(verdict.row, {})[verdict.kind] = verdict.result
    letters = {row.label: found.letters[row.key] for row in found.rows}
    split = [row for row, kinds in results.items() if {kinds.get("accuracy"), kinds.get("loss")} == {"holds", "fails"}]
    if not split:
        return ""
    text = f"loss and accuracy disagree about {', '.join(letters[row] for row in split)}: report both"
    first = next(row for row in found.rows if row.label == split[0])
    dims = [row.settings.get("model.dim") for row in (first, found.base)]
    reason = why_they_disagree(found.behind[first.key], found.behind[found.base.key], *dims)
    return clean(f"{text}. {reason[0].upper()}{reason[1:]}" if reason else text)


def kinds_without_level(found: Compared) -> list[str]:
    """Of accuracy and loss, those for which no level is set: nothing follows for them."""
    set_for = {"loss" if is_loss(level.metric) else "accuracy" for level in found.base.levels}
    return [kind for kind in ("accuracy", "loss") if kind not in set_for]


def seconds_text(found: Compared) -> str:
    """What the column of seconds counts, and where."""
    devices = {row.device for row in found.rows}
    where = f"; all on {clean(devices.pop())}" if len(devices) == 1 and "" not in devices else ""
    return f"seconds are training only, without compile, evaluation and saving{where}"


def finished(found: Compared) -> bool:
    """Whether no run compared will go on."""
    return all(state in OVER for row in found.rows for state in row.states.values())


def group_of(found: Compared) -> str:
    """The group of losses that the loss chart shows: that of the baseline, else that of most rows."""
    groups = [row.group for row in found.rows]
    return found.base.group if found.base.group != "?" else max(groups, key=groups.count)


def number_text(value: float, metric: str) -> str:
    """A value of a metric in the readout: per cent without sign, a loss, or as it is."""
    if not math.isfinite(value):
        return "-"
    if is_loss(metric):
        return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.4g}"
    return f"{100 * value:.1f}" if is_share(metric) else f"{value:.4g}"
