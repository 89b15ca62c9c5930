"""A comparison of runs as text: what `compare` prints, and the end of `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_engine.cli.output import printable
from lsc_engine.cli.tables import percent, table, value

if TYPE_CHECKING:
    from lsc_engine.analysis.compare import Comparison
    from lsc_engine.analysis.levels import LevelResult


def comparison_text(found: Comparison) -> str:
    """Final values, levels with speed-ups, differing settings and remarks as tables; text from files made printable."""
    letters = [chr(ord("a") + i) if i < 26 else str(i) for i in range(len(found.rows))]
    names = sorted({name for row in found.rows for name in row.last if "/accuracy" in name})
    head = ["", "RUN", "SEEDS", "LOSS", *(f"{name} %".upper() for name in names)]
    body = []
    for letter, row in zip(letters, found.rows, strict=True):
        mark = "*" if row is found.baseline else " "
        done = sum(state == "finished" for state in row.states.values())
        seeds = f"{len(row.runs)}" if done == len(row.runs) else f"{done} of {len(row.runs)}"
        loss = row.last.get("train/loss")
        cells = [_spread(row.last.get(name)) for name in names]
        body.append([f"{mark}{letter}", row.label, seeds, value(loss[0]) + row.kind if loss else "-", *cells])
    parts = [table(head, body, "  rr" + "r" * len(names))]
    for index, level in enumerate(found.baseline.levels):
        rows = [
            _level_row(letter, row.label, row.levels[index]) for letter, row in zip(letters, found.rows, strict=True)
        ]
        parts.append(f"{printable(level.metric)} {value(level.level)}")
        columns = ("", "", "STEPS", "FASTER", "EPOCHS", "FASTER", "SECONDS", "FASTER")
        parts.append(table(columns, rows, "  r r r "))
    if told := _verdict_rows(found):
        parts.append(table(["verdict", "by", "", "rates"], told))
    if found.differing:
        rows = [[key, *("-" if v is None else str(v) for v in values)] for key, values in found.differing.items()]
        parts.append(table(["differing", *letters], rows))
    if found.notes:
        parts.append("\n".join(printable(note) for note in found.notes))
    return "\n\n".join(parts)


def _verdict_rows(found: Comparison) -> list[list[str]]:
    from lsc_engine.analysis.verdict import verdicts

    rows = []
    for one in verdicts(found):
        rates = ", ".join(f"{at.values}: {at.verdict.so_far}" for at in one.rates if at.verdict.decided)
        rates += f"; best at the edge: {one.edge}" if one.edge else ""
        rows.append([f"{one.row} faster than {one.baseline}", one.kind, str(one), rates.lstrip("; ")])
    return rows


def _spread(last: tuple[float, float, int] | None) -> str:
    if last is None:
        return "-"
    mean, spread, seeds = last
    return percent(mean) + (f" ±{percent(spread)}" if seeds > 1 else "")


def _level_row(letter: str, label: str, level: LevelResult) -> list[str]:
    cells = [f" {letter}", label]
    for unit in ("steps", "epochs", "seconds"):
        cells += [level.text(unit), str(level.faster[unit])]
    return cells
