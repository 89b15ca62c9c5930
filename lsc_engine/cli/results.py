"""What is told of a study when its command ends: curves of its variants, then the table that compares them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lsc_engine.analysis.compare import Comparison, Row, compare
from lsc_engine.analysis.verdict import to_json
from lsc_engine.charts.chart import to_text
from lsc_engine.charts.series import Series, View
from lsc_engine.cli.comparison import comparison_text
from lsc_engine.cli.output import printable
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.studies import tries_beside
from lsc_engine.streams import shows_unicode

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def terminal_mode() -> Literal["braille", "ascii"]:
    """Braille where stdout can say it."""
    return "braille" if shows_unicode(sys.stdout) else "ascii"


def study_text(title: str, runs: Sequence[Run], baseline: str | None, levels: Mapping[str, Sequence[float]]) -> str:
    """Accuracy and loss curves (mean of the seeds) and the comparison, for this terminal's width."""
    found = compare(runs, baseline, levels or None, tries_beside(runs))
    parts = [printable(title)]
    metrics = {name for row in found.rows for name in row.last}
    for name in ("val/accuracy", "train/accuracy"):
        if name in metrics:
            parts.append(_chart(found.rows, name, f"{name} %, mean of seeds · epoch", log_y=False, scale=100))
            break
    for group in dict.fromkeys(row.group for row in found.rows):
        rows = [row for row in found.rows if row.group == group]
        title = f"train/loss {rows[0].kind}, mean of seeds · log y · epoch"
        parts.append(_chart(rows, "train/loss", title, log_y=True, scale=1, letters=_letters(found)))
    return "\n\n".join([*(part for part in parts if part), comparison_text(found)])


def study_document(
    study: str, runs: Sequence[Run], baseline: str | None, levels: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """{"study", "runs", "comparison"}: the runs as `list` gives them, the comparison as `compare` does."""
    from lsc_engine.cli.look import summary
    from lsc_engine.runs.read.run import short_ids

    short = short_ids(runs)
    rows = [summary(run, run.status(), short[run.id]) for run in runs]
    return {
        "study": study,
        "runs": rows,
        "comparison": to_json(compare(runs, baseline, levels or None, tries_beside(runs))),
    }


def _letters(found: Comparison) -> dict[str, str]:
    return {row.key: LETTERS[i % len(LETTERS)] for i, row in enumerate(found.rows)}


def _chart(
    rows: Sequence[Row], metric: str, title: str, *, log_y: bool, scale: float, letters: dict[str, str] | None = None
) -> str:
    """The mean over seeds of `metric` per row against the epoch; "" where nothing was logged."""
    series = []
    for i, row in enumerate(rows):
        letter = (letters or {}).get(row.key, LETTERS[i % len(LETTERS)])
        x, y = _mean(row.runs, metric)
        if len(x):
            series.append(Series(x, y * scale, letter=letter, colour=i, name=row.label))
    if not series:
        return ""
    wide, _ = shutil.get_terminal_size((80, 24))
    view = View(mode=terminal_mode(), log_y=log_y)
    return printable(to_text(series, wide, 14, view, title=title))


def _mean(runs: Sequence[Run], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and mean values over the seeds, at the steps that all of them have."""
    found = [axes for run in runs if len((axes := run.axes(metric))[0])]
    if not found:
        return np.zeros(0), np.zeros(0)
    common = found[0][0]
    for step, _, _, _ in found[1:]:
        common = np.intersect1d(common, step)
    first = np.isin(found[0][0], common)
    return found[0][2][first], np.mean([values[np.isin(step, common)] for step, values, _, _ in found], axis=0)
