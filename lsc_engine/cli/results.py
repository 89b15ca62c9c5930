"""Runs, and comparisons of them, as JSON and as text: what `list`, `compare` and the end of `run` print."""

from __future__ import annotations

import math
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsc_engine.analysis.compare import Comparison, Row, spread_text
from lsc_engine.analysis.seed_curves import over_seeds
from lsc_engine.analysis.verdict import last_value, verdicts
from lsc_engine.charts.chart import Series, View, to_text
from lsc_engine.cli.output import chart_mode, print_json, printable, table, wait_for_more
from lsc_engine.common.formatting import loss_text, significant
from lsc_engine.runs.folder.status import Status
from lsc_engine.runs.read.run import Run, open_run

if TYPE_CHECKING:
    from lsc_engine.studies.plan import TunePlan

_OF_STATUS = (
    *("step", "total_steps", "host", "device", "owner", "started"),
    *("seconds", "eta", "attempt", "exit_code"),
)
# What the logs of other tools do not hold.
_UNKNOWN_ELSEWHERE = ("seed", "host", "device", "owner", "seconds", "attempt", "message")

_FOLLOW_SECONDS = 0.3


def run_row(run: Run, short: str) -> dict[str, Any]:
    """A run as `list --json` has it."""
    status = run.scheduled_status()
    row = {
        "id": run.id,
        "short": short,
        **{key: getattr(run, key) for key in ("study", "variant", "seed", "tags")},
        "state": status.shown_state,
        "metrics": run.last(status),
        **{key: getattr(status, key) for key in _OF_STATUS},
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
    values = {key: getattr(status, key) for key in ("step", "total_steps", "attempt", "exit_code")}
    return {"event": "state", "id": run.id, "state": status.shown_state, **values, "message": status.news}


def tries_document(tries: TunePlan, runs_dir: Path) -> list[dict[str, Any]]:
    """The tries of [tune] for JSON: run, variant, values, state, and the last value for each purpose."""
    found = []
    for attempt in tries.runs:
        run = open_run(attempt.id, [runs_dir])
        purposes = tries.purposes[attempt.of]
        results = [{"by": str(purpose), "value": last_value(run, purpose.metric)} for purpose in purposes]
        about = {"id": run.id, "variant": attempt.of, "values": dict(attempt.values)}
        found.append({**about, "state": run.status().shown_state, **results[0], "results": results})
    return found


def study_text(title: str, found: Comparison) -> str:
    """Accuracy and loss curves (mean of the seeds) and the comparison, for this terminal's width."""
    if "SLURM_JOB_ID" in os.environ and not sys.stdout.isatty():
        # Curves would fill the log of a job.
        return comparison_text(found)
    letters = dict(zip((row.key for row in found.rows), _letters(found), strict=True))
    charts: list[tuple[str, str, list[Row]]] = []
    metrics = {name for row in found.rows for name in row.last}
    for accuracy in [name for name in ("val/accuracy", "train/accuracy") if name in metrics][:1]:
        charts.append((accuracy, f"{accuracy} %, mean of seeds · epoch", found.rows))
    for group in dict.fromkeys(row.group for row in found.rows):
        rows = [row for row in found.rows if row.group == group]
        charts.append(("train/loss", f"train/loss {rows[0].kind}, mean of seeds · log y · epoch", rows))
    parts = [printable(title)]
    for name, heading, rows in charts:
        is_loss = name == "train/loss"
        means = [(i, row, over_seeds(row.runs, name)) for i, row in enumerate(rows)]
        series = [
            Series(m.x, m.mean * (1 if is_loss else 100), letter=letters[row.key][0], colour=i, name=row.label)
            for i, row, m in means
            if len(m.x)
        ]
        if series:
            view = View(mode=chart_mode(), log_y=is_loss)
            columns = shutil.get_terminal_size((80, 24)).columns
            parts.append(printable(to_text(series, columns, 14, view, title=heading)))
    return "\n\n".join([*parts, comparison_text(found)])


def _letters(found: Comparison) -> list[str]:
    return [chr(ord("a") + i) if i < 26 else str(i) for i in range(len(found.rows))]


def comparison_text(found: Comparison) -> str:
    """Final values, levels with speed-ups, differing settings and remarks as tables; text from files made printable."""
    letters = _letters(found)
    names = sorted({name for row in found.rows for name in row.last if "/accuracy" in name})
    head = ["", "RUN", "SEEDS", "LOSS", *(f"{name} %".upper() for name in names)]
    body = []
    for letter, row in zip(letters, found.rows, strict=True):
        mark, (loss, *_) = "*" if row is found.baseline else " ", row.last.get("train/loss", (None,))
        cells = [row.label, row.finished, loss_text(loss, row.kind)]
        body.append([f"{mark}{letter}", *cells, *(spread_text(row.last.get(name), 100) for name in names)])
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
