"""Runs, and comparisons of them, as JSON and as text: what `list`, `compare` and the end of `run` print."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lsc_engine.analysis.compare import Comparison, Row, compare
from lsc_engine.analysis.seed_curves import over_seeds
from lsc_engine.analysis.verdict import to_json, verdicts
from lsc_engine.charts.chart import Series, View, to_text
from lsc_engine.cli.output import chart_mode, print_json, printable, table, wait_for_more
from lsc_engine.common.formatting import percent, significant
from lsc_engine.runs.folder.status import Status
from lsc_engine.runs.read.run import Run, short_ids
from lsc_engine.runs.read.studies import tries_beside

# What the logs of other tools do not hold.
_UNKNOWN_ELSEWHERE = ("seed", "host", "device", "owner", "seconds", "attempt", "message")

_FOLLOW_SECONDS = 0.3

Levels = Mapping[str, Sequence[float]]


def run_row(run: Run, short: str) -> dict[str, Any]:
    """A run as `list --json` has it."""
    status = run.scheduled_status()
    row = {
        "id": run.id,
        "short": short,
        "study": run.study,
        "variant": run.variant,
        "seed": run.seed,
        "state": status.shown_state,
        "step": status.step,
        "total_steps": status.total_steps,
        "metrics": run.last(status),
        "host": status.host,
        "device": status.device,
        "owner": status.owner,
        "tags": run.tags,
        "started": status.started,
        "seconds": status.seconds,
        "eta": status.eta,
        "attempt": status.attempt,
        "exit_code": status.exit_code,
        "message": status.news,
        "path": str(run.path),
        "scheduler": None if status.scheduler is None else asdict(status.scheduler),
        "origin": run.origin,
        "read_only": run.origin != "lsc",
    }
    return row if run.origin == "lsc" else row | {key: row[key] or None for key in _UNKNOWN_ELSEWHERE}


def follow_lines(run: Run) -> None:
    """Print a JSON object a line, flushed, until the run has ended: {"event": "metrics", "step", "attempt", "epoch",
    "time", …} for each line of its metrics, from the first, and {"event": "state", "state", …} at first and at each
    change."""
    shown: tuple[object, ...] = ()
    generation, lines = 0, 0
    while True:
        # In this order: what is logged before the end is read after it was seen.
        status = run.status()
        ended = not (status.active or status.state == "queued") or status.shown_state == "lost"
        state = (status.shown_state, status.attempt, status.exit_code)
        if state != shown and not ended:
            print_json(_state_line(run, status), None)
        run.poll()
        if run.tail.generation != generation:
            generation, lines = run.tail.generation, 0
        for step, attempt, values in run.table.rows(lines):
            flags = {name: str(value) for name, value in values.items() if not math.isfinite(value)}
            extra = {"nonfinite": flags} if flags else {}
            print_json({"event": "metrics", "step": step, "attempt": attempt, **values, **extra}, None)
        lines, shown = run.table.lines, state
        if ended:
            print_json(_state_line(run, status), None)
            return
        wait_for_more(_FOLLOW_SECONDS)


def _state_line(run: Run, status: Status) -> dict[str, Any]:
    keys = ("step", "total_steps", "attempt", "exit_code")
    values = {key: getattr(status, key) for key in keys}
    return {"event": "state", "id": run.id, "state": status.shown_state, **values, "message": status.news}


def study_document(study: str, runs: Sequence[Run], baseline: str | None, levels: Levels) -> dict[str, Any]:
    """{"study", "runs", "comparison"}: the runs as `list` has them, the comparison as `compare` does."""
    short = short_ids(runs)
    comparison = to_json(compare(runs, baseline, levels or None, tries_beside(runs)))
    return {"study": study, "runs": [run_row(run, short[run.id]) for run in runs], "comparison": comparison}


def study_text(title: str, runs: Sequence[Run], baseline: str | None, levels: Levels) -> str:
    """Accuracy and loss curves (mean of the seeds) and the comparison, for this terminal's width."""
    found = compare(runs, baseline, levels or None, tries_beside(runs))
    letters = dict(zip((row.key for row in found.rows), _letters(found), strict=True))
    if "SLURM_JOB_ID" in os.environ and not sys.stdout.isatty():
        # Curves would fill the log of a job.
        return comparison_text(found)
    parts = [printable(title)]
    metrics = {name for row in found.rows for name in row.last}
    name = next((name for name in ("val/accuracy", "train/accuracy") if name in metrics), None)
    if name is not None:
        heading = f"{name} %, mean of seeds · epoch"
        parts.append(_chart(found.rows, name, heading, letters, log_y=False, scale=100))
    for group in dict.fromkeys(row.group for row in found.rows):
        rows = [row for row in found.rows if row.group == group]
        heading = f"train/loss {rows[0].kind}, mean of seeds · log y · epoch"
        parts.append(_chart(rows, "train/loss", heading, letters, log_y=True, scale=1))
    return "\n\n".join([*(part for part in parts if part), comparison_text(found)])


def _letters(found: Comparison) -> list[str]:
    return [chr(ord("a") + i) if i < 26 else str(i) for i in range(len(found.rows))]


def _chart(
    rows: Sequence[Row], metric: str, title: str, letters: Mapping[str, str], *, log_y: bool, scale: float
) -> str:
    """The mean over seeds of `metric` per row against the epoch; "" if nothing was logged."""
    series = []
    for i, row in enumerate(rows):
        mean = over_seeds(row.runs, metric)
        if len(mean.x):
            series.append(Series(mean.x, mean.mean * scale, letter=letters[row.key][0], colour=i, name=row.label))
    if not series:
        return ""
    columns, _ = shutil.get_terminal_size((80, 24))
    view = View(mode=chart_mode(), log_y=log_y)
    return printable(to_text(series, columns, 14, view, title=title))


def comparison_text(found: Comparison) -> str:
    """Final values, levels with speed-ups, differing settings and remarks as tables; text from files made printable."""
    letters = _letters(found)
    names = sorted({name for row in found.rows for name in row.last if "/accuracy" in name})
    head = ["", "RUN", "SEEDS", "LOSS", *(f"{name} %".upper() for name in names)]
    body = []
    for letter, row in zip(letters, found.rows, strict=True):
        mark = "*" if row is found.baseline else " "
        done = sum(state == "finished" for state in row.states.values())
        seeds = f"{len(row.runs)}" if done == len(row.runs) else f"{done} of {len(row.runs)}"
        loss = row.last.get("train/loss")
        cells = [_spread(row.last.get(name)) for name in names]
        body.append([f"{mark}{letter}", row.label, seeds, significant(loss[0]) + row.kind if loss else "-", *cells])
    parts = [table(head, body, "  rr" + "r" * len(names))]
    for index, level in enumerate(found.baseline.levels):
        rows = []
        for letter, row in zip(letters, found.rows, strict=True):
            at = row.levels[index]
            speed = [text for unit in ("steps", "epochs", "seconds") for text in (at.text(unit), str(at.faster[unit]))]
            speed[-2] += f" ({row.disturbed})" if row.disturbed and speed[-2] != "-" else ""
            rows.append([f" {letter}", row.label, *speed])
        columns = ("", "", "STEPS", "FASTER", "EPOCHS", "FASTER", "SECONDS", "FASTER")
        parts += [f"{printable(level.metric)} {significant(level.level)}", table(columns, rows, "  r r r ")]
    judged = []
    for one in verdicts(found):
        rates = ", ".join(f"{settings}: {at.so_far}" for settings, at in one.rates.items() if at.decided)
        rates += f"; best at the edge: {one.edge}" if one.edge else ""
        judged.append([f"{one.row} faster than {one.baseline}", one.kind, str(one), rates.lstrip("; ")])
    if judged:
        parts.append(table(["verdict", "by", "", "rates"], judged))
    if found.differing:
        rows = [[key, *("-" if v is None else str(v) for v in values)] for key, values in found.differing.items()]
        parts.append(table(["differing", *letters], rows))
    if found.notes:
        parts.append("\n".join(printable(note) for note in found.notes))
    return "\n\n".join(parts)


def _spread(last: tuple[float, float, int] | None) -> str:
    if last is None:
        return "-"
    mean, spread, seeds = last
    return percent(mean) + (f" ±{percent(spread)}" if seeds > 1 else "")
