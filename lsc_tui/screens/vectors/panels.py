"""What the Vectors screen draws: the table, the cosines of one system, its first vectors, n against classes."""

from __future__ import annotations

import json
import math
import subprocess
from fractions import Fraction
from functools import lru_cache

import numpy as np

from lsc_engine.charts.canvas import Mode
from lsc_engine.charts.chart import Series, View, Window, draw
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import grouped
from lsc_engine.runs.folder.process import python_command
from lsc_engine.vectors.bijection import Bijection
from lsc_engine.vectors.registry import facts, family_of, n_min
from lsc_tui.lines import Line, bar, clean, ends, fit, over, pad, point, size_text, wrap
from lsc_tui.screens.vectors.table import CROWDING, LARGEST, MANY_ANGLES, Row
from lsc_tui.widgets.chart import style_name
from lsc_tui.widgets.panel import Sheet

OTHER_N = 384
# Vectors of more numbers are not shown.
MANY_NUMBERS = 4096
# Of each number behind the name its column and, at 80 columns and in the wide layout, title and width, "" for none; the
# name and n share the first 16 cells.
COLUMNS: dict[str, tuple[tuple[str, int], tuple[str, int]]] = {
    "vectors": (("VECTORS", 11), ("VECTORS", 12)),
    "used": (("USED", 7), ("IN USE", 8)),
    "cos": (("COS", 7), ("COS", 8)),
    "crowd": (("CROWD", 7), ("CROWDING", 10)),
    "angle": (("ANGLE", 7), ("ANGLE", 8)),
    "near": (("", 0), ("NEAR IN USE", 13)),
    "sure": (("SURE", 7), ("SURE BELOW", 12)),
    "rank": (("", 0), ("RANK", 8)),
    "bytes": (("B/VEC", 7), ("BYTES/VECTOR", 13)),
    "database": (("DATABASE", 10), ("DATABASE", 10)),
}
Histogram = list[tuple[float, float]]


def whole(number: float) -> str:
    """`307 020`, `> 9.2e18` above 2^63."""
    return "> 9.2e18" if number > LARGEST else grouped(round(number))


def short(number: float, width: int) -> str:
    """`299 999`, in fewer digits where it is too wide."""
    text = whole(number)
    if len(text) <= width or number > LARGEST:
        return text if len(text) <= width else "> 9e18"
    for limit, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.{1 if number < 10 * limit else 0}f}{letter}"
    return text


def _bytes(number: float) -> str:
    """Bytes; beyond terabytes in powers of ten."""
    return size_text(number) if number < 1e15 else f"{number / 1e15:.0f} PB" if number < 1e18 else f"{number:.0e} B"


def share(value: float) -> str:
    """`97.7%`, `100%`, `<0.1%`."""
    if value >= 1:
        return f"{100 * value:.0f}%" if value < 10 else f"{value:.0e}×"
    if value >= 0.9995:
        return "99.9%"
    return f"{100 * value:.1f}%" if value >= 0.001 else "<0.1%"


def near_text(near: tuple[float, float] | None) -> str:
    """`243`, `2 to 546`, `-`."""
    parts = (whole(x) if x >= 0.95 or x == 0 else f"{x:.1f}" if x >= 0.05 else "<0.1" for x in near or ())
    return " to ".join(dict.fromkeys(parts)) or "-"


def fraction(cosine: float) -> str:
    """`+2/3`, `0`, `-1`, `+.707`."""
    near = Fraction(cosine).limit_denominator(12)
    if abs(float(near) - cosine) > 1e-9:
        return f"{'+' if cosine > 0 else '-'}{point(abs(cosine), 3)}"
    return f"{'+' if near > 0 else ''}{near}"


def crowding_text(found: tuple[float, bool] | None) -> str:
    """`47.2`, `~2.71` for an estimate, `893k`, `…` while it is not counted."""
    if found is None:
        return "…"
    value, estimated = found
    text = "-" if math.isnan(value) else short(value, 5) if value >= 1000 else f"{value:#.3g}".rstrip(".")
    return f"{'~' * estimated}{text}"


def header(wide: bool, sort: str, arrow: str) -> Line:
    """Names of the columns, the one sorted by with an arrow."""
    name = ("   " if wide else "  ") + "SYSTEM" + arrow * (sort == "system")
    cells = [(name, "system"), (fit(arrow * (sort == "n") + "n_min", (21 if wide else 17) - len(name), ">"), "n")]
    for column, (title, width) in ((column, both[wide]) for column, both in COLUMNS.items()):
        cells.append((fit(arrow * (sort == column) + title, width, ">"), column))
    out: Line = [(text, "accent" if column == sort else "dim") for text, column in cells]
    return [*out, ("   EXACT LABEL   PAPER", "dim")] if wide else out


def row_line(row: Row, wide: bool, here: bool, width: int) -> Line:
    """One system."""
    known = row.known
    cells = {
        "vectors": short(known.count, 11),
        "used": share(row.used),
        "cos": point(known.max_cosine, 3),
        "crowd": crowding_text(row.crowding),
        "angle": "-" if math.isnan(known.min_angle_deg) else f"{known.min_angle_deg:.1f}" + ("°" if wide else ""),
        "near": near_text(row.near),
        "sure": point(row.sure, 4),
        "rank": short(known.rank, 7),
        "bytes": _bytes(row.size) if wide and row.size >= 1e6 else short(row.size, 8 if wide else 6),
        "database": _bytes(row.database),
    }
    room, name = 18 if wide else 15, clean(known.name)
    n = short(known.n, max(6, room - len(name) - 1))
    text = fit(name, min(len(name), room - len(n) - 1))
    mark = f"{' ' * wide}{'▌' if here else ' '} "
    line: Line = [(mark, "accent"), (text, "bold" if here else ""), (fit(n, room - len(text), ">"), "")]
    line += [(fit(cell, COLUMNS[column][wide][1], ">"), "") for column, cell in cells.items()]
    line += [(f"{known.decode:>14}   ", ""), (known.source, "dim")] if wide else []
    line = [(text, style or "dim" * row.outside) for text, style in line]
    return over(pad(line, width), "cursor") if here else pad(line, width)


# Histograms that another process counted: thousands of fractions in this one would hold up the keys.
_COUNTED: dict[tuple[str, int, int], Histogram | str] = {}
_COUNT = """
import json, sys
from lsc_tui.screens.vectors.panels import histogram
from lsc_engine.vectors.registry import facts
from lsc_tui.screens.vectors.table import SCALE
system, n, classes = sys.argv[1], int(sys.argv[2]), int(sys.argv[4])
known = facts(system, n, classes)
both = [histogram(system, each, classes) for each in (n, int(sys.argv[3]))]
print(json.dumps([both, known.count, known.crowding(SCALE)]))
"""
_COUNT_SECONDS = 60.0


def histogram(system: str, n: int, classes: int) -> Histogram | str:
    """Cosines from one class to the others in use, falling; or why there are none."""
    key = (system, n, classes)
    if key not in _COUNTED:
        try:
            known = facts(*key)
            if known.count < classes:
                _COUNTED[key] = f"{system} at n = {n} has {whole(known.count)} vectors"
            elif system == "planar" and classes > MANY_ANGLES:
                _COUNTED[key] = "as many cosines as directions, evenly spread"
            else:
                _COUNTED[key] = [(cosine, number) for cosine, number in known.cosine_histogram(classes)]
        except UsageError as error:
            _COUNTED[key] = str(error)
    return _COUNTED[key]


def count_elsewhere(system: str, n: int, classes: int) -> None:
    """Count the histograms at n and at 384 in another process. For a worker; a failure is a sentence in the panel."""
    argv = python_command("-c", _COUNT, system, str(n), str(OTHER_N), str(classes))
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_COUNT_SECONDS, stdin=subprocess.DEVNULL, check=True
        )
        both, count, crowding = json.loads(done.stdout)
        found = [h if isinstance(h, str) else [(c, k) for c, k in h] for h in both]
        CROWDING[system, n, count] = crowding[0], crowding[1]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        found = [f"not counted: {type(error).__name__}"] * 2
    _COUNTED[system, n, classes], _COUNTED[system, OTHER_N, classes] = found


def counted(row: Row) -> bool:
    """Whether the cosines of a row can be shown without counting for long."""
    family = family_of(row.system)
    return family is None or not family.slow_histogram or (row.system, row.n, row.classes) in _COUNTED


def cosines(row: Row, width: int, height: int, framed: bool) -> Sheet:
    """The panel of cosines: label, bar, share, classes at n and at n = 384."""
    name, two = clean(row.system), row.n != OTHER_N
    title = f"{name}: cosine{'s' * framed} from one class to the other{'s' if framed else ' classes'} in use"
    other_head = f" {f'n={OTHER_N}':>8}" if two else ""
    heads = f"{f'n={short(row.n, 7)}':>8}{other_head}"
    body: list[Line] = [[("  counting …", "dim")]]
    note = ""
    if counted(row):
        here, other = histogram(row.system, row.n, row.classes), histogram(row.system, OTHER_N, row.classes)
        if isinstance(here, str):
            body = [[(fit(f"  {clean(here)}", width - framed), "dim")]]
        else:
            body = _bars(here, other, width - framed, height - (2 if framed else 1), two)
            note = _note(row, here, other)
    if framed:
        body = [[(fit(heads, width - 1, ">"), "dim")], *body[: height - 1]]
        room = max(0, height - len(body))
        notes = wrap(note, width - 2)[:room]
        return title, "", [*body, *([[]] * min(1, room - len(notes))), *([(f" {line}", "dim")] for line in notes)]
    body += [[] for _ in range(height - 1 - len(body))]
    return title, heads.strip().replace(" n=", "   n="), [*body, [(fit(note, width), "dim")]]


def _bars(here: Histogram, other: Histogram | str, width: int, height: int, two: bool) -> list[Line]:
    there = {} if isinstance(other, str) else {round(c, 9): k for c, k in other}
    mine = {round(c, 9): k for c, k in here}
    levels = sorted({*mine, *there}, reverse=True)
    total, most = max(1.0, sum(mine.values())), max([*mine.values(), 1.0])
    shown = levels if len(levels) <= height else levels[: height - 1]
    bars = max(4, width - 25 - (9 if two else 0))

    def percent(value: float) -> str:
        return f"{100 * value:.2f}%" if value >= 0.0001 or value == 0 else "<0.01%"

    def few(value: float) -> str:
        """Expected classes: whole from ten on, `<0.1` where it is hardly ever one."""
        if value == 0 or value >= 9.95:
            return short(value, 8)
        return f"{value:.1f}" if value >= 0.1 else "<0.1"

    out: list[Line] = []
    for level in shown:
        k = mine.get(level, 0.0)
        blocks = bar(k / most, bars).rstrip("░") or ("▏" if k > 0 else "")
        beside = f"{'-' if isinstance(other, str) else few(there.get(level, 0.0)):>9}" if two else ""
        numbers = f"{percent(k / total):>8}{few(k):>9}{beside}"
        out.append([(f" {fraction(level):>5}  ", ""), (fit(blocks, bars), "bar"), (numbers, "")])
    if len(shown) < len(levels):
        rest = sum(mine.get(level, 0.0) for level in levels[len(shown) :])
        words = f"  {len(levels) - len(shown)} more, down to {fraction(levels[-1])}: {percent(rest / total)}"
        out.append([(fit(words, width), "dim")])
    return out


def _note(row: Row, here: Histogram, other: Histogram | str) -> str:
    if isinstance(other, str):
        return f"n={OTHER_N}: {clean(other)}" if "vectors" in other else ""
    if row.n == OTHER_N or not here or not other or abs(other[0][0] - here[0][0]) > 1e-9:
        return ""
    if other[0][1] < here[0][1] / 2:
        return f"few near classes at n={OTHER_N}: labels can come right while the loss is still high"
    few = other[0][1] < 2 * here[0][1]
    return (
        f"about as many near classes at n={OTHER_N}" if few else f"more near classes at n={OTHER_N} than at n={row.n}"
    )


def examples(row: Row, width: int, _: int) -> Sheet:
    """The panel of the first classes' vectors (shuffled, seed 0), how a label is read, what is unused."""
    known = row.known
    rows = [("base vector", known.description)]
    for label in range(min(3, row.classes)):
        more = "     (shuffled, seed 0)" if label == 0 and known.has_entries else ""
        rows.append((f"class {label}", example(row.system, row.n, known.count, row.classes, label) + more))
    unused = known.count - row.classes
    free = f"{whole(unused)} vectors: an image there is a new class" if unused > 0 else "none: every vector has a class"
    kept = f"none kept; {known.support} numbers computed per image"
    kept = f"{_bytes(4 * known.n * known.count)} kept" if known.is_table else kept
    rows += [("", ""), ("label", known.decoding), ("unused", free), ("table", kept), ("", "")]
    room = max(0, width - 15)
    body: list[Line] = [[(f" {name:<13} ", "dim"), (fit(words, room), "")] if name else [] for name, words in rows]
    body.append([(fit(f" lsc-engine vectors {clean(row.system)} --n {row.n}", width), "dim")])
    return f"{clean(row.system)} at n = {short(row.n, 12)}", "", body


@lru_cache(maxsize=512)
def example(system: str, n: int, number: int, classes: int, label: int) -> str:
    """The vector of a class as signed columns: `+ 41  + 70  - 12`, weights above 1 as `-2·12`."""
    if number > LARGEST:
        return f"above {LARGEST:.1e} vectors none is computed"
    try:
        known = facts(system, n, classes)
        if known.support > MANY_NUMBERS:
            return f"{whole(known.support)} numbers"
        found = known.entries(Bijection(number, 0, "order")(label))
    except UsageError:
        return "a direction in the plane" if system == "planar" else known.description
    parts = []
    for sign in (1, -1):
        for column, weight in found:
            if weight * sign > 0:
                text = f"{abs(weight)}·{column}" if abs(weight) != 1 else f"{column:>3}"
                parts.append(f"{'+' if sign > 0 else '-'}{text if '·' in text else ' ' + text.strip().rjust(2)}")
    return "  ".join(parts[:6]) + (" …" if len(parts) > 6 else "")


CHARTED = ("A", "V21", "V22", "V33", "simplex")


@lru_cache(maxsize=8)
def _curves(names: tuple[str, ...]) -> tuple[Series, ...]:
    xs = np.logspace(1, 9, 97)
    return tuple(
        Series(xs, [_smallest(name, max(1, round(x))) for x in xs], "abcdefgh"[i], i, name=name)
        for i, name in enumerate(names)
    )


def _smallest(name: str, classes: int) -> float:
    """n_min, NaN where no n holds them."""
    try:
        return float(n_min(name, classes))
    except UsageError:
        return math.nan


def chart(row: Row, log: bool, mode: Mode, width: int, height: int) -> Sheet:
    """The chart of the smallest n, its legend, and what it comes to at a thousand million classes. It shows the five
    families, and the highlighted one where it is another."""
    family = family_of(row.system)
    plain = family is None or family.is_table or row.system in (*CHARTED, "planar")
    return _chart(CHARTED if plain else (*CHARTED, row.system), row.classes, log, mode, width, height)


@lru_cache(maxsize=16)
def _chart(names: tuple[str, ...], classes: int, log: bool, mode: Mode, width: int, height: int) -> Sheet:
    window, cursor = Window(10, 1e9, 1 if log else 0, 1e5 if log else 4096.0), float(min(classes, 10**9))
    view = View(window, True, log, mode, cursor=cursor, unit="classes")
    if width < 28 or height < 6:
        return "", "", []
    picture = draw(list(_curves(names)), width, height - 2, view)
    body: list[Line] = [[(run.text, style_name(run.style)) for run in line] for line in picture.rows]
    legend = [(f"{'abcdefgh'[i]} {clean(name)}  ", f"series-{i % 8}") for i, name in enumerate(names)]
    most = {name: _smallest(name, 10**9) for name in names if name != "simplex"}
    ends_at = "   ".join(f"{name} {'-' if math.isnan(n) else whole(n)}" for name, n in most.items())
    layer = f"CE layer at n={OTHER_N}: {_bytes(4 * OTHER_N * 10**9)} of weights"
    body += [[(" ", ""), *legend], ends([(f" at 1 G: {clean(ends_at)}", "dim")], [(f"{layer} ", "dim")], width)]
    title = "smallest n against number of classes · " + ("log log" if log else "log x")
    return title, [("┃ ", "axis"), (whole(classes), "")], body
