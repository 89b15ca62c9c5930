"""The panels of Compare as lines: heading, readout, table, verdict, settings. Pure functions of what was compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lsc_engine.analysis.compare import OTHER_DEVICE, UNCOMPILED, Row
from lsc_engine.analysis.levels import LevelResult, is_loss
from lsc_engine.common.formatting import percent
from lsc_tui.data.run_view import ACCURACIES, LOSS, colour_of, value_text
from lsc_tui.lines import Line, clean, ends, fit, fit_ends, loss_text, over, pad, width_of
from lsc_tui.screens.compare.comparison import (
    Compared,
    at_text,
    claim_of,
    counts_text,
    level_name,
    number_text,
    seeds_text,
    shown_levels,
)

Column = tuple[str, int, str]  # head, width, alignment


def style_of(letter: str) -> str:
    """The style name of a letter's curve."""
    return f"series-{colour_of(letter) % 8}"


def heading(found: Compared, width: int, wide: bool) -> list[Line]:
    """Study and counts; claim, source and data."""
    studies = list(dict.fromkeys(run.study for row in found.rows for run in row.runs))
    name = clean(studies[0]) if len(studies) == 1 else f"{len(studies)} studies"
    claim, source, data = claim_of(found)
    quoted = f'"{claim}"' if claim else "none in the preset"
    counts = counts_text(found)
    if wide:
        first = ends([(f" {name}", "bold"), (f"   {counts}", "")], [(f"data: {data} ", "")], width)
        second: Line = [(" claim  ", "dim"), (quoted, ""), (f"   {source}", "dim")]
        return [pad(first, width), pad(second, width)]
    first = ends([(name, "bold")], [(counts, "")], width)
    left: Line = [("claim ", "dim"), (quoted, "")]
    room = width - width_of(left) - 2
    short = data if len(data) + 6 <= room else data.partition(",")[0]
    second = ends(left, [("data: ", "dim"), (short, "")], width) if len(short) + 6 <= room else left
    return [pad(first, width), pad(second, width)]


def readout(found: Compared, metric: str, keys: Sequence[str], cursor: float | None, wide: bool) -> Line:
    """Every row's mean at the cursor (else at the end) with its standard deviation over seeds."""
    curves = found.curves.get(metric, {})
    end = max((float(curves[key].x[-1]) for key in keys if key in curves and curves[key].x.size), default=math.nan)
    if not math.isfinite(end):
        return [("nothing logged yet", "dim")]
    x = end if cursor is None else cursor
    axis = {"time": "min"}.get(found.request.axis, found.request.axis)
    out: Line = [(" " if wide else "", ""), (f"{axis} {x:.4g} ", ""), ("┃ ", "cursor")]
    for key in keys:
        mean, spread, count = curves[key].at(x) if key in curves else (math.nan, 0.0, 0)
        if not count:
            continue
        letter = found.letters[key]
        text = number_text(mean, metric)
        if count > 1:
            text += f" ±{_spread(spread, metric)}"
        out += [(letter, style_of(letter)), (f" {text}  ", "")]
    return out


def _spread(value: float, metric: str) -> str:
    text = f"{value:.3f}" if is_loss(metric) else number_text(value, metric)
    return text.replace("0.", ".", 1) if text.startswith("0.") else text


_WORDED = ("target.method", "target.system", "target.order", "model.dim")


def telling(found: Compared) -> dict[str, list[Any]]:
    """The settings that differ, without those that cross-entropy merely has not."""
    differing = found.comparison.differing
    if "target.method" not in differing:
        return dict(differing)
    return {
        key: values
        for key, values in differing.items()
        if None not in values or len({str(value) for value in values if value is not None}) > 1
    }


def setting_columns(found: Compared, most: int) -> list[tuple[str, list[str]]]:
    """Head and cells of the settings in which the rows differ: system, n, then others, at most `most`."""
    rows = [row.settings for row in found.rows]
    differing = telling(found)
    out: list[tuple[str, list[str]]] = []
    if any(key in differing for key in _WORDED[:3]):
        ce = [row.get("target.method") == "ce" for row in rows]
        systems = [clean(value_text(row.get("target.system"))) for row in rows]
        out.append(("SYSTEM", ["CE" if other else name for other, name in zip(ce, systems, strict=True)]))
    if "model.dim" in differing:
        out.append(("n", [value_text(row.get("model.dim")) for row in rows]))
    ranked = sorted((key for key in differing if key not in _WORDED), key=lambda key: not key.startswith("optimizer"))
    for key in ranked:
        cells = [clean(value_text(value)) for value in differing[key]]
        out.append((key.rpartition(".")[2].upper()[:10], cells))
    return out[:most]


def table(found: Compared, width: int, wide: bool, highlighted: str, height: int, accuracy: str) -> list[Line]:
    """Head and rows; where they do not all fit, those around the highlighted one. `accuracy`: the metric shown."""
    columns, rows = table_cells(found, wide, accuracy)
    if not wide:
        # Each number column as wide as what stands in it: the names get the rest.
        needs = [max([len(head), *(len(row[i]) for row in rows)]) for i, (head, _, _) in enumerate(columns)]
        columns = [(h, min(w, needs[i]) if w >= 0 else w, a) for i, (h, w, a) in enumerate(columns)]
    names = [i for i, (_, wanted, _) in enumerate(columns) if wanted < 0]
    fixed = sum(wanted + 1 for _, wanted, _ in columns if wanted >= 0) + 4
    columns = _stretch(columns, rows, names, width - fixed)
    head: Line = [("    ", "")]
    head += [(fit(name, wanted, align) + " ", "dim") for name, wanted, align in columns]
    out = [pad(head, width)]
    keys = [row.key for row in found.rows]
    here = keys.index(highlighted) if highlighted in keys else 0
    first = max(0, min(here - (height - 2) // 2, len(keys) - (height - 1)))
    for key, cells in list(zip(keys, rows, strict=True))[first : first + max(0, height - 1)]:
        letter = found.letters[key]
        line: Line = [
            ("▌" if key == highlighted else " ", "accent"),
            ("*" if key == found.base.key else " ", "mark"),
            (letter + " ", style_of(letter)),
        ]
        for cell, (_, wanted, align) in zip(cells, columns, strict=True):
            line.append(((fit_ends(cell, wanted) if align == "<" else fit(cell, wanted, align)) + " ", ""))
        line = pad(line, width)
        out.append(over(line, "cursor") if key == highlighted else line)
    return out


def _stretch(columns: list[Column], rows: list[list[str]], names: list[int], room: int) -> list[Column]:
    needs = {i: max([len(columns[i][0]), *(len(row[i]) for row in rows)]) for i in names}
    left = room - len(names)
    out = list(columns)
    for i in reversed(names):
        given = max(1, min(needs[i], left - sum(min(needs[j], 4) for j in names if j < i)))
        left -= given
        out[i] = (columns[i][0], given, columns[i][2])
    return out


def table_cells(found: Compared, wide: bool, accuracy: str) -> tuple[list[Column], list[list[str]]]:
    """Columns and the cells of every row. A negative width is one that takes what it needs of the rest."""
    # What tells the rows apart: differing settings, and the label where they do not.
    labels = [clean(row.label) for row in found.rows]
    named = setting_columns(found, 3 if wide else 2)
    apart = bool(named) and len(set(zip(*(cells for _, cells in named), strict=True))) == len(labels)
    named = [("RUN", labels)] * (wide or not apart) + named * (wide or apart)
    columns: list[Column] = []
    for head, cells in named:
        numeric = head != "RUN" and all(cell[:1].isdigit() or cell == "-" for cell in cells)
        columns.append((head, -1, ">" if numeric else "<"))
    rows = [[cells[i] for _, cells in named] for i in range(len(found.rows))]

    def add(head: str, wanted: int, cells: Sequence[str], align: str = ">") -> None:
        columns.append((head, wanted, align))
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)

    add("SEEDS" if wide else "SEED", 6 if wide else 4, [seeds_text(row, wide=wide) for row in found.rows])
    add("LAST LOSS" if wide else "LOSS", 12 if wide else 6, [_loss(row, wide) for row in found.rows])
    cells = [_accuracy(row, accuracy, wide) for row in found.rows]
    add(f"{'LAST ' * wide}{ACCURACIES[accuracy]}", 11 if wide else 6, cells)
    if wide:
        add("BEST", 5, [percent(row.best.get(accuracy)) for row in found.rows])
    for i in shown_levels(found):
        level = found.base.levels[i]
        name = level_name(level.metric, level.level)
        unit = {"seconds": "MIN"}.get(found.unit, found.unit.removesuffix("s").upper())
        at = f"{name} AT {unit}" if wide else f"{name} AT"
        add(at, 15 if wide else 7, [_at(row.levels[i], found, wide) for row in found.rows])
        add("FASTER", 14, [_faster(row.levels[i], found) for row in found.rows], "<")
    if wide:
        first = shown_levels(found)[:1]
        for i in first:
            level = found.base.levels[i]
            cells = [_seconds(row, row.levels[i], row is found.base) for row in found.rows]
            add(f"SEC TO {level_name(level.metric, level.level)}", 12, cells)
    return columns, rows


def _loss(row: Row, wide: bool) -> str:
    last = row.last.get(LOSS)
    if last is None:
        return "-"
    mean, spread, seeds = last
    kind = row.kind if row.kind != "?" else ""
    text = loss_text(mean, kind) if wide or not 0 < mean < 1 else f"{mean:.3f}".removeprefix("0") + kind
    return f"{text} ±{_spread(spread, LOSS)}" if wide and seeds > 1 and math.isfinite(spread) else text


def _accuracy(row: Row, name: str, wide: bool) -> str:
    last = row.last.get(name)
    if last is None:
        return "-"
    mean, spread, seeds = last
    return percent(mean) + (f" ±{_spread(spread, name)}" if wide and seeds > 1 else "")


def _at(level: LevelResult, found: Compared, wide: bool) -> str:
    if level.faster[found.unit].note == "other loss":
        return "-"
    return at_text(level, found.unit, wide=wide)


def _faster(level: LevelResult, found: Compared) -> str:
    speed = level.faster[found.unit]
    seeds = len(level.reached)
    if speed.ratio is not None and not speed.bound and 1 < seeds < len(level.by_seed):
        return f"×{speed.ratio:.1f} ({seeds} seeds)"
    return str(speed)


def _seconds(row: Row, level: LevelResult, base: bool) -> str:
    note = level.faster["seconds"].note
    if level.text("seconds") == "-":
        return "-"
    if row.disturbed:
        return row.disturbed
    return note if note in (OTHER_DEVICE, UNCOMPILED) and not base else level.text("seconds").partition(" ")[0]
