"""The panels of Compare as lines (heading, readout, table, verdict, settings), and the same as files: the table as CSV
and LaTeX, the figure by a process that loads matplotlib. Pure functions of what was compared."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lsc_engine.analysis.compare import OTHER_DEVICE, UNCOMPILED, Row
from lsc_engine.analysis.levels import is_loss
from lsc_engine.analysis.seed_curves import as_series
from lsc_engine.analysis.verdict import OPEN, OVER
from lsc_engine.common import safe_io
from lsc_engine.common.formatting import counted, percent
from lsc_engine.common.settings import lookup
from lsc_engine.report.page import tabular
from lsc_engine.runs.settings import settings_of
from lsc_tui.data.run_view import ACCURACIES, LOSS, colour_of, value_text
from lsc_tui.lines import (
    Line,
    clean,
    ends,
    fit,
    fit_ends,
    flow,
    loss_text,
    millions,
    near_text,
    over,
    pad,
    width_of,
    wrap,
)
from lsc_tui.screens.compare import comparison
from lsc_tui.screens.compare.comparison import Compared, level_name, shown_levels
from lsc_tui.services.actions import python
from lsc_tui.services.verdicts import Claims
from lsc_tui.widgets.chart import UNITS, Look, is_share, scale_of
from lsc_tui.widgets.list_box import ListBox

FIGURE_SECONDS = 120
_MOODS = {"holds": "good", "fails": "error"}
Column = tuple[str, int, str]  # head, width, alignment
NO_LEVEL = "no level is set for it: m shows it, ← → and v set one"
ALONE = "mark a second run, or p here to pin this one"
_WORDED = ("target.method", "target.system", "target.order", "model.dim")


def style_of(letter: str) -> str:
    """The style name of a letter's curve."""
    return f"series-{colour_of(letter) % 8}"


def heading(found: Compared, width: int, wide: bool) -> list[Line]:
    """Study and counts; claim, source and data."""
    studies = list(dict.fromkeys(run.study for row in found.rows for run in row.runs))
    name = clean(studies[0]) if len(studies) == 1 else f"{len(studies)} studies"
    configs = [row.runs[0].config for row in found.rows]
    claims, sources = ({str(config.get(name) or "") for config in configs} for name in ("claim", "source"))
    texts = set()
    for config in configs:
        names = ("data.dataset", "data.labels", "data.classes", "data.image_size")
        dataset, labels, classes, size = (lookup(config, name) for name in names)
        count = value_text(classes) if isinstance(classes, int) else ""
        words = [dataset, count, "unique" if labels == "unique" else "classes" if count else ""]
        text = " ".join(clean(word) for word in words if word) + (f", {size} px" if isinstance(size, int) else "")
        provenance = config.get("provenance")
        whose = provenance.get("data.dataset") if isinstance(provenance, dict) else None
        ours = isinstance(whose, str) and whose.startswith("ours")
        texts.add(text + (", not the paper's" if ours else ""))
    data = texts.pop() if len(texts) == 1 else f"{len(texts)} kinds of data"
    claim, source = (clean(values.pop()) if len(values) == 1 else "" for values in (claims, sources))
    states = Counter("done" if s == "finished" else s for row in found.rows for s in row.states.values())
    parts = ", ".join(f"{states[word]} {word}" for word in sorted(states, key=lambda w: (w != "done", w)))
    quoted, counts = f'"{claim}"' if claim else "none in the preset", f"{counted(states.total(), 'run')}: {parts}"
    if wide:
        first = ends([(f" {name}", "bold"), (f"   {counts}", "")], [(f"data: {data} ", "")], width)
        return [first, [(" claim  ", "dim"), (quoted, ""), (f"   {source}", "dim")]]
    left: Line = [("claim ", "dim"), (quoted, "")]
    room = width - width_of(left) - 2
    short = data if len(data) + 6 <= room else data.partition(",")[0]
    second = ends(left, [("data: ", "dim"), (short, "")], width) if len(short) + 6 <= room else left
    return [ends([(name, "bold")], [(counts, "")], width), second]


def readout(found: Compared, metric: str, keys: Sequence[str], cursor: float | None, wide: bool) -> Line:
    """Every row's mean at the cursor (else at the end) with its standard deviation over seeds."""
    curves = found.curves.get(metric, {})
    end = max((float(curves[key].x[-1]) for key in keys if key in curves and curves[key].x.size), default=math.nan)
    if not math.isfinite(end):
        return [(f"{no_curve(found, metric, keys)}  ", "dim")]
    x = end if cursor is None else cursor
    axis = {"time": "min"}.get(found.request.axis, found.request.axis)
    out: Line = [(" " if wide else "", ""), (f"{axis} {x:.4g} ", ""), ("┃ ", "cursor")]
    for key in keys:
        mean, spread, count = curves[key].at(x) if key in curves else (math.nan, 0.0, 0)
        if count:
            text = comparison.number_text(mean, metric) + (f" ±{_spread(spread, metric)}" if count > 1 else "")
            out += [(found.letters[key], style_of(found.letters[key])), (f" {text}  ", "")]
    return out


def no_curve(found: Compared, metric: str, keys: Sequence[str]) -> str:
    """Why none of these rows has a curve of a metric."""
    logged = any(metric in row.last for row in found.rows if row.key in keys)
    return f"no finite value of {metric}" if logged else "nothing logged yet"


def _spread(value: float, metric: str) -> str:
    text = f"{value:.3f}" if is_loss(metric) else comparison.number_text(value, metric)
    return text.replace("0.", ".", 1) if text.startswith("0.") else text


def telling(found: Compared) -> dict[str, list[Any]]:
    """The settings that differ, without those that cross-entropy merely has not."""
    differing = found.comparison.differing
    if "target.method" not in differing:
        return dict(differing)
    kinds = {key: {str(value) for value in values if value is not None} for key, values in differing.items()}
    return {key: values for key, values in differing.items() if None not in values or len(kinds[key]) > 1}


def setting_columns(found: Compared, most: int) -> list[tuple[str, list[str]]]:
    """Head and cells of the settings in which the rows differ: system, n, then others, at most `most`."""
    rows, differing = [row.settings for row in found.rows], telling(found)
    out: list[tuple[str, list[str]]] = []
    if any(key in differing for key in _WORDED[:3]):
        systems = ["CE" if r.get("target.method") == "ce" else value_text(r.get("target.system")) for r in rows]
        out.append(("SYSTEM", [clean(name) for name in systems]))
    if "model.dim" in differing:
        out.append(("n", [value_text(row.get("model.dim")) for row in rows]))
    ranked = sorted((key for key in differing if key not in _WORDED), key=lambda key: not key.startswith("optimizer"))
    for key in ranked:
        cells = [clean(value_text(value)) for value in differing[key]]
        out.append((key.rpartition(".")[2].upper()[:10], cells))
    return out[:most]


def table(found: Compared, width: int, wide: bool, box: ListBox[Row], height: int, accuracy: str) -> list[Line]:
    """Head and rows; where they do not all fit, those around the highlighted one. `accuracy`: the metric shown."""
    columns, rows = table_cells(found, wide, accuracy)
    needs = [max([len(head), *(len(row[i]) for row in rows)]) for i, (head, _, _) in enumerate(columns)]
    if not wide:
        # Each number column as wide as what stands in it: the names get the rest.
        columns = [(h, min(w, needs[i]) if w >= 0 else w, a) for i, (h, w, a) in enumerate(columns)]
    names = [i for i, (_, wanted, _) in enumerate(columns) if wanted < 0]
    left = width - 4 - sum(wanted + 1 for _, wanted, _ in columns if wanted >= 0) - len(names)
    for i in reversed(names):
        size = max(1, min(needs[i], left - sum(min(needs[j], 4) for j in names if j < i)))
        left -= size
        columns[i] = (columns[i][0], size, columns[i][2])
    head: Line = [("    ", "")]
    head += [(fit(name, wanted, align) + " ", "dim") for name, wanted, align in columns]
    cells = dict(zip((row.key for row in found.rows), rows, strict=True))

    def lines(row: Row, here: bool) -> list[Line]:
        letter = found.letters[row.key]
        line: Line = [("▌" if here else " ", "accent"), ("*" if row is found.base else " ", "mark")]
        line.append((f"{letter} ", style_of(letter)))
        for cell, (_, wanted, align) in zip(cells[row.key], columns, strict=True):
            line.append(((fit_ends(cell, wanted) if align == "<" else fit(cell, wanted, align)) + " ", ""))
        return [over(pad(line, width), "cursor") if here else line]

    body, hidden = box.body(height - 1, lines), len(rows) - (height - 1)
    more: Line = [(f"{hidden} more {'↑' * (box.top > 0)}{'↓' * bool(box.more)}", "dim")]
    fitting = [*head[:-1], (head[-1][0].rstrip(), "dim")]
    return [ends(fitting, more, width) if hidden > 0 and not wide else head, *body]


def table_cells(found: Compared, wide: bool, accuracy: str) -> tuple[list[Column], list[list[str]]]:
    """Columns and the cells of every row. A negative width is one that takes what it needs of the rest."""
    # What tells the rows apart: differing settings, and the label where they do not.
    labels = [clean(row.label) for row in found.rows]
    named = setting_columns(found, 3 if wide else 2)
    apart = bool(named) and len(set(zip(*(cells for _, cells in named), strict=True))) == len(labels)
    named = [("RUN", labels)] * (wide or not apart) + named * (wide or apart)
    columns: list[Column] = []
    rows: list[list[str]] = [[] for _ in found.rows]

    def add(head: str, wanted: int, cells: Sequence[str], align: str = ">") -> None:
        columns.append((head, wanted, align))
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)

    def last(row: Row, metric: str) -> str:
        if (known := row.last.get(metric)) is None:
            return "-"
        mean, spread, seeds = known
        text = percent(mean)
        if metric == LOSS:
            kind = row.kind if row.kind != "?" else ""
            short = f"{mean:.3f}".removeprefix("0") + kind
            text = loss_text(mean, kind) if wide or not 1e-3 <= mean < 1 else short
        return f"{text} ±{_spread(spread, metric)}" if wide and seeds > 1 and math.isfinite(spread) else text

    for head, cells in named:
        numeric = head != "RUN" and all(cell[:1].isdigit() or cell == "-" for cell in cells)
        add(head, -1, cells, ">" if numeric else "<")
    counts = [(sum(s == "finished" for s in row.states.values()), len(row.states)) for row in found.rows]
    short = [str(every) if done == every else f"{done}/{every}" for done, every in counts]
    seeds_of = [f"{d} of {e}" for d, e in counts] if wide else short
    add("SEEDS" if wide else "SEED", max(4, *map(len, seeds_of)), seeds_of)
    add("LAST LOSS" if wide else "LOSS", 12 if wide else 6, [last(row, LOSS) for row in found.rows])
    add(f"{'LAST ' * wide}{ACCURACIES[accuracy]}", 11 if wide else 6, [last(row, accuracy) for row in found.rows])
    if wide:
        add("BEST", 5, [percent(row.best.get(accuracy)) for row in found.rows])
    for i in shown_levels(found):
        name = level_name(found.base.levels[i].metric, found.base.levels[i].level)
        unit = {"seconds": "MIN"}.get(found.unit, found.unit.removesuffix("s").upper())
        reached, faster = [], []
        for level in (row.levels[i] for row in found.rows):
            speed, seeds = level.faster[found.unit], len(level.reached)
            reached.append("-" if speed.note == "other loss" else comparison.at_text(level, found.unit, wide=wide))
            part = speed.ratio is not None and not speed.bound and 1 < seeds < len(level.by_seed)
            faster.append(f"×{speed.ratio:.1f} ({seeds} seeds)" if part else str(speed))
        add(f"{name} AT {unit}" if wide else f"{name} AT", 15 if wide else 7, reached)
        add("FASTER", max(14, *map(len, faster)) if wide else 14, faster, "<")
    for i in shown_levels(found)[:1] if wide else ():
        name, cells = level_name(found.base.levels[i].metric, found.base.levels[i].level), []
        for row in found.rows:
            text, note = row.levels[i].text("seconds"), row.levels[i].faster["seconds"].note
            other = note if note in (OTHER_DEVICE, UNCOMPILED) and row is not found.base else ""
            cells.append(text if text == "-" else row.disturbed or other or text.partition(" ")[0])
        add(f"SEC TO {name}", 12, cells)
    return columns, rows


def verdict_title(found: Compared) -> tuple[str, str]:
    """`verdict so far`, and where the levels come from."""
    by_whom: dict[str, list[str]] = {}
    for level in (found.base.levels[i] for i in shown_levels(found)):
        whose = "set here" if level.metric in found.set_here else "fixed in the preset"
        by_whom.setdefault(whose, []).append(level_name(level.metric, level.level))
    parts = [f"{' and '.join(names)} {whose}" for whose, names in by_whom.items()]
    words = f"level{'s' * (len(shown_levels(found)) > 1)} {', '.join(parts)}"
    over = all(state in OVER for row in found.rows for state in row.states.values())
    return "verdict" if over else "verdict so far", words if parts else "no level: v sets one at the cursor"


def _claim_lines(claims: Claims, width: int) -> list[Line]:
    """The preset's claims with the verdicts of its report, a line or more each."""
    out: list[Line] = []
    for text, result in claims:
        words = wrap(text, max(20, width - len(result) - 5)) or [""]
        good = result.endswith("holds") and "," not in result
        mood = "good" if good else "error" if "does not hold" in result else ""
        lines: list[Line] = [[("▸ " if i == 0 else "  ", "dim"), (line, "")] for i, line in enumerate(words)]
        out += [*lines[:-1], ends(lines[-1], [(result, mood)], width)]
    return out


def verdict_lines(found: Compared, width: int, claims: Claims = ()) -> list[Line]:
    """The claims, one line by accuracy, one by loss, then what has to be added."""
    out, base, name = _claim_lines(claims, width), found.letters[found.base.key], clean(found.base.label)
    letters = {row.label: found.letters[row.key] for row in found.rows}
    for kind in ("accuracy", "loss"):
        alike: dict[tuple[str, str], Line] = {}
        for verdict in (v for v in found.verdicts if v.kind == kind):
            count = verdict.count.lstrip(",").removesuffix(" seeds").removesuffix(" seed")
            words = f"open, so far: {verdict.so_far}{count}" if verdict.open else f"{verdict.so_far}{count}"
            if verdict.note or (verdict.open and verdict.so_far == OPEN):
                words = verdict.result
            piece = alike.setdefault((words, _MOODS.get(verdict.result, "")), [])
            piece += [(" " if piece else "", ""), (letters[verdict.row], style_of(letters[verdict.row]))]
        lead: Line = [(f"{kind:<9} ", "dim")]
        if alike:
            lead += [("faster than ", ""), (base, style_of(base)), (f" {name}: " if len(name) <= 24 else ": ", "")]
            out += flow(lead, [[*piece, (f" {words}", mood)] for (words, mood), piece in alike.items()], width, 10)
        elif kind in comparison.kinds_without_level(found) and len(found.rows) > 1:
            out.append([*lead, (NO_LEVEL, "dim")])
    if len(found.rows) < 2:
        out.append([(ALONE, "dim")])
    stuck = f"{base} is {why}: no speed-up against it" if (why := found.base.at_trivial_loss) is not None else ""
    sentences = [s for s in (stuck, comparison.disagreement(found), *comparison.unequal(found)) if s]
    return out + [[(line, "dim")] for sentence in sentences for line in wrap(sentence, width)]


def settings_table(found: Compared, width: int) -> list[Line]:
    """The settings that differ: keys down, rows across."""
    values = telling(found)
    tries = [[one.values for one in found.comparison.tries.get(row.key, ())] for row in found.rows]
    tried = {key: [_tried(own, key) for own in tries] for key in dict.fromkeys(k for t in tries for v in t for k in v)}
    # A setting that was tried is shown with what was taken, though all took the same.
    for key in tried:
        values.setdefault(key, [row.settings.get(key) for row in found.rows])
    names = [*values, *(f"{key.rpartition('.')[2]} tried" for key in tried), "near in use"]
    room = min(24, max(map(len, names)) + 2) + 1
    cell = max(6, min(14, (width - room) // max(1, len(found.rows))))
    letters = [found.letters[row.key] for row in found.rows]
    out: list[Line] = [[(" " * room, ""), *((fit(letter, cell), style_of(letter)) for letter in letters)]]
    for key, cells in values.items():
        words = [fit(clean(value_text(value)), cell - 1) + " " for value in cells]
        out.append([(text, "") for text in (fit(f" {clean(key)}", room - 1) + " ", *words)])
    if not values:
        out.append([(" the rows differ in no setting", "dim")])
    known = [found.details[row.key] for row in found.rows]
    below = {f"{key.rpartition('.')[2]} tried": [str(len(v) or "-") for v in own] for key, own in tried.items()}
    below["parameters"] = [millions(one.parameters) for one in known]
    below["near in use"] = [near_text(one.near) for one in known]
    below["sure below"] = [loss_text(one.sure_below) for one in known]
    for name, texts in below.items():
        if set(texts) != {"-"}:
            out.append([(fit(f" {name}", room - 1) + " ", "dim"), *((fit(text, cell - 1) + " ", "") for text in texts)])
    best = []
    for key, own in tried.items():
        ((most, count),) = Counter(filter(None, own)).most_common(1)
        who = "each" if count == len(own) else f"{sum(map(bool, own))} of {len(own)}"
        best.append(f"{key.rpartition('.')[2]}: best of {' '.join(map(value_text, most))}, tried for {who}")
    return [*out, *([[]] * bool(best)), *([(f" {text}", "dim")] for text in wrap(clean("; ".join(best)), width - 2))]


def other_settings(found: Compared) -> list[Line]:
    """The settings that `settings_table` leaves out, each with its value, or values."""
    tables, shown = [settings_of(row.runs[0].config) for row in found.rows], telling(found)
    names = [name for name in dict.fromkeys(name for table in tables for name in table) if name not in shown]
    room, out = max(map(len, names), default=0), list[Line]()
    for name in names:
        values = dict.fromkeys(value_text(table.get(name)) for table in tables)
        out.append([(f" {clean(name):<{room}}  ", "dim"), (clean(", ".join(values)), "")])
    return out


def _tried(tries: Sequence[Mapping[str, Any]], key: str) -> tuple[Any, ...]:
    """The values of a setting that the tries of a variant have, in order."""
    values = {one[key] for one in tries if key in one}
    return tuple(sorted(values) if all(type(v) in (int, float) for v in values) else sorted(map(str, values)))


def csv_text(found: Compared) -> str:
    """One line per row: settings that differ, seeds, last and best values, and every level with its speed-up."""
    keys = list(found.comparison.differing)
    names = [m for m in found.metrics if any(m in row.last for row in found.rows)]
    head = ["run", "label", "baseline", *keys, "seeds", "finished", "loss_kind", "device"]
    for name in names:
        head += [f"{name} mean", f"{name} std", f"{name} best"]
    unit = found.unit
    for level in found.base.levels:
        at = f"{level.metric} {level.level:g}"
        head += [f"{at} {word}" for word in (unit, "lowest", "highest", "reached", "faster", "from", "to", "note")]
    lines: list[list[object]] = [[*head]]
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
        lines.append(cells)
    return safe_io.csv_text(lines)


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
    document: dict[str, Any] = {
        "x_label": {"time": "training time (min)"}.get(found.request.axis, UNITS[found.request.axis]),
        "y_label": f"{metric} (%)" if is_share(metric) else metric,
        "width": width,
        "x_range": [look.x0, look.x1],
        "log_x": look.log_x,
        "log_y": look.log_y and is_loss(metric),
        "levels": [{"y": y * scale, "label": level_name(metric, y)} for y in comparison.drawn_levels(found, metric)],
        "series": [],
    }
    for row in (row for row in found.rows if row.key in keys):
        mean = found.curves[metric][row.key]
        label = clean(row.label) + (f" ({len(mean.seeds)} seeds)" if len(mean.seeds) > 1 else "")
        colour = colour_of(found.letters[row.key])
        document["series"] += as_series(mean, label=label, colour=colour, scale=scale, band=band)
    words = ("-m", "lsc_engine.report.figures", str(path))
    python("the program that draws", *words, text=json.dumps(document), seconds=FIGURE_SECONDS)
