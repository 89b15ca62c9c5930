"""What Compare shows, as files: the table as CSV and LaTeX, the figure by a process that loads matplotlib."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lsc_engine
from lsc_engine.analysis.levels import is_loss
from lsc_engine.analysis.seed_curves import as_series
from lsc_engine.common.errors import LscError
from lsc_engine.report.page import tabular
from lsc_engine.runs.folder.process import python_command
from lsc_tui.data.run_view import LETTERS, value_text
from lsc_tui.lines import clean
from lsc_tui.screens.compare.comparison import Compared, level_name, shown_levels
from lsc_tui.screens.compare.panels import table_cells
from lsc_tui.widgets.chart import UNITS, Look, is_share, scale_of

FIGURE_SECONDS = 120


def csv_text(found: Compared) -> str:
    """One line per row: settings that differ, seeds, last and best values, and every level with its speed-up."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = list(found.comparison.differing)
    names = [m for m in found.metrics if any(m in row.last for row in found.rows)]
    head = ["run", "label", "baseline", *keys, "seeds", "finished", "loss_kind", "device"]
    for name in names:
        head += [f"{name} mean", f"{name} std", f"{name} best"]
    unit = found.unit
    for level in found.base.levels:
        at = f"{level.metric} {level.level:g}"
        head += [f"{at} {word}" for word in (unit, "lowest", "highest", "reached", "faster", "from", "to", "note")]
    writer.writerow(head)
    for row in found.rows:
        cells: list[Any] = [row.key, clean(row.label), int(row is found.base)]
        cells += [value_text(row.settings.get(key)) for key in keys]
        cells += [len(row.states), sum(s == "finished" for s in row.states.values()), row.kind, row.device]
        for name in names:
            mean, spread, _ = row.last.get(name, (math.nan, math.nan, 0))
            cells += [_number(mean), _number(spread), _number(row.best.get(name, math.nan))]
        for level in row.levels:
            reached, speed = [reach.at(unit) for reach in level.reached], level.faster[unit]
            ends = (level.mean(unit), min(reached, default=math.nan), max(reached, default=math.nan))
            cells += [*map(_number, ends), f"{len(reached)} of {len(level.by_seed)}"]
            cells += [speed.bound + _number(speed.ratio), _number(speed.low), _number(speed.high), speed.note]
        writer.writerow(cells)
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def latex_text(found: Compared, accuracy: str) -> str:
    """The table as shown, as a booktabs tabular."""
    columns, rows = table_cells(found, True, accuracy)
    align = "".join("l" if where == "<" else "r" for _, _, where in columns)
    return tabular([clean(head) for head, _, _ in columns], [[clean(cell) for cell in cells] for cells in rows], align)


def write_figure(
    path: Path, found: Compared, metric: str, keys: Sequence[str], look: Look, band: bool, width: float = 3.3
) -> None:
    """The chart as shown, `width` inches wide, as SVG, PDF or PNG by the ending of `path`. LscError when it cannot be
    made."""
    scale = scale_of(metric)
    rows = [row for row in found.rows if row.key in keys]
    document: dict[str, Any] = {
        "x_label": {"time": "training time (min)"}.get(found.request.axis, UNITS[found.request.axis]),
        "y_label": f"{metric} (%)" if is_share(metric) else metric,
        "width": width,
        "x_range": [look.x0, look.x1],
        "log_x": look.log_x,
        "log_y": look.log_y and is_loss(metric),
        "levels": [
            {"y": level.level * scale, "label": level_name(metric, level.level)}
            for level in (found.base.levels[i] for i in shown_levels(found))
            if level.metric == metric
        ],
    }
    series: list[dict[str, Any]] = []
    for row in rows:
        mean, letter = found.curves[metric][row.key], found.letters[row.key]
        label = clean(row.label) + (f" ({len(mean.seeds)} seeds)" if len(mean.seeds) > 1 else "")
        colour = LETTERS.index(letter) if letter in LETTERS else 0
        series += as_series(mean, label=label, colour=colour, scale=scale, band=band)
    document["series"] = series
    # With the package that runs here, so this works from any folder.
    package = str(Path(lsc_engine.__file__).parent.parent)
    known = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    argv = python_command("-m", "lsc_engine.report.figures", str(path))
    try:
        done = subprocess.run(
            argv,
            input=json.dumps(document).encode(),
            capture_output=True,
            timeout=FIGURE_SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(known)},
        )
    except subprocess.TimeoutExpired:
        raise LscError(f"no figure within {FIGURE_SECONDS} s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise LscError(clean(lines[-1]) if lines else f"the figure failed with exit code {done.returncode}")
