"""From the curves of a run to the series of a chart."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lsc_engine.charts.chart import Mark, Series
from lsc_engine.common.safe_io import number_of
from lsc_engine.common.settings import LOSS_WORDS, lookup
from lsc_tui.data.run_view import LOSS, Curve, Curves, RunView, Store
from lsc_tui.lines import clean


def loss_word(group: str) -> str:
    """The word for a group of losses (loss_group): `cosine`; a plugin's by its own name; "" if unknown."""
    return clean(group[2:]) if group.startswith("o ") else LOSS_WORDS.get(group[:1], "")


def curve_series(
    view: RunView,
    curves: Curves | None,
    name: str,
    axis: str,
    letter: str = "",
    colour: int = 0,
    scale: float = 1.0,
    *,
    dim: bool = False,
) -> Series | None:
    """One metric as a series, with `R` where the run was resumed, `|` where layers were fixed, `×` where a loss was not
    finite."""
    curve = curves.curves.get(name) if curves is not None else None
    if curves is None or curve is None:
        return None
    per_step = number_of(lookup(view.config, "train.batch_size")) or 1.0
    label = f"{view.label} s{view.seed}"
    key = (name, axis, letter, colour, scale, dim, per_step, label)
    if key not in curves.drawn:
        curves.drawn[key] = _series(curves, curve, *key)
    return curves.drawn[key]


def shown_axis(axis: str, runs: Iterable[Curves | None]) -> str:
    """The x axis that all of the runs have: `step` in place of `epoch` where one was logged by step alone."""
    alone = any(curves is not None and curves.without_epochs for curves in runs)
    return "step" if axis == "epoch" and alone else axis


def _series(
    curves: Curves,
    curve: Curve,
    name: str,
    axis: str,
    letter: str,
    colour: int,
    scale: float,
    dim: bool,
    per_step: float,
    label: str,
) -> Series:
    x = curve.x(axis, per_step)
    marks = []
    for glyph, places in (("R", curves.resumed), ("|", curves.fixed)):
        for step, epoch, time in places:
            at = {"epoch": epoch, "time": time / 60, "images": step * per_step}.get(axis, step)
            marks.append(Mark(at, glyph))
    if name == LOSS:
        marks += [Mark(float(at), "×") for at in x[~np.isfinite(curve.value)][:20]]
    with np.errstate(over="ignore"):
        y = curve.value * scale
    return Series(x, y, letter, colour, dim, marks=tuple(marks), name=label)


def parent_key(store: Store, view: RunView) -> str:
    """The key of the run that this one was forked from, if it is known here; else ""."""
    parent = view.source.get("parent")
    name = parent.get("id") if isinstance(parent, dict) else parent
    if not isinstance(name, str):
        return ""
    found = [key for key, other in store.runs.items() if other.id == name]
    return f"{view.root}:{name}" if f"{view.root}:{name}" in found else next(iter(found), "")


def whole_x(view: RunView, axis: str) -> float | None:
    """Where the x axis ends when the run is done; None if that is not known."""
    total = view.status.total_steps
    if axis == "epoch":
        return view.epochs
    if total is None or axis == "time":
        return None
    batch = number_of(lookup(view.config, "train.batch_size"))
    return total * (batch if axis == "images" and batch else 1.0)


def missing_words(view: RunView, curves: Curves | None, name: str) -> str:
    """Why there is no curve of this metric, and when one comes."""
    if curves is None:
        return "reading …"
    curve = curves.curves.get(name)
    if curve is not None and curve.value.size:
        first = int(curve.step[~np.isfinite(curve.value)][0]) if not np.isfinite(curve.value).all() else 0
        return f"no finite value: not finite from step {first} on"
    if view.state == "queued":
        return f"no curve yet: {waiting_words(view)}"
    if view.state == "starting":
        return "no curve yet: reading data, compiling the model"
    if not view.status.active:
        return f"no curve: {view.state} before the first value"
    every = lookup(view.config, "log.every" if name == LOSS else "eval.every")
    what = "loss is logged" if name == LOSS else "it is evaluated"
    return f"no curve yet: {what} every {clean(every)}" if isinstance(every, str) else "no curve yet"


def waiting_words(view: RunView) -> str:
    """What a queued run waits for: `Slurm 123_4: Priority`, or its turn, as in `12th in line`."""
    return clean(view.status.news) if view.status.scheduler else f"{place_words(view.place)} in line"


def place_words(place: int) -> str:
    """A place in the queue: `1st`, `2nd`, `3rd`, `12th`."""
    return f"{place}{'th' if 10 <= place % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"
