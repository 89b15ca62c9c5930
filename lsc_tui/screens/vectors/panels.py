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
from lsc_tui.lines import Line, bar, clean, ends, fit, frame, over, pad, point, rule, size_text, wrap
from lsc_tui.screens.vectors.table import CROWDING, LARGEST, MANY_ANGLES, Row
from lsc_tui.widgets.chart import style_name

OTHER_N = 384
# Vectors of more numbers are not shown.
MANY_NUMBERS = 4096
# title, width and column of each number behind the name; the name and n share the first 16 cells.
NARROW = (
    ("n_min", 0, "n"),
    ("VECTORS", 11, "vectors"),
    ("USED", 7, "used"),
    ("COS", 7, "cos"),
    ("CROWD", 7, "crowd"),
    ("ANGLE", 7, "angle"),
    ("SURE", 7, "sure"),
    ("B/VEC", 7, "bytes"),
    ("DATABASE", 10, "database"),
)
WIDE = (
    ("n_min", 0, "n"),
    ("VECTORS", 12, "vectors"),
    ("IN USE", 8, "used"),
    ("COS", 8, "cos"),
    ("CROWDING", 10, "crowd"),
    ("ANGLE", 8, "angle"),
    ("NEAR IN USE", 13, "near"),
    ("SURE BELOW", 12, "sure"),
    ("RANK", 8, "rank"),
    ("BYTES/VECTOR", 13, "bytes"),
    ("DATABASE", 10, "database"),
)
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
    if near is None:
        return "-"
    low, high = (whole(x) if x >= 0.95 or x == 0 else f"{x:.1f}" if x >= 0.05 else "<0.1" for x in near)
    return low if low == high else f"{low} to {high}"


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
    room = 21 if wide else 17
    name = ("   " if wide else "  ") + "SYSTEM" + arrow * (sort == "system")
    cells = [(name, "system"), (fit(arrow * (sort == "n") + "n_min", room - len(name), ">"), "n")]
    titles = (WIDE if wide else NARROW)[1:]
    cells += [(fit(arrow * (sort == column) + title, width, ">"), column) for title, width, column in titles]
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
        "bytes": short(row.size, 8 if wide else 6) if not wide or row.size < 1e6 else _bytes(row.size),
        "database": _bytes(row.database),
    }
    room = 18 if wide else 15
    name = clean(known.name)
    n = short(known.n, max(6, room - len(name) - 1))
    mark = " ▌ " if wide and here else "▌ " if here else "   " if wide else "  "
    text = fit(name, min(len(name), room - len(n) - 1))
    line: Line = [(mark, "accent"), (text, "bold" if here else ""), (fit(n, room - len(text), ">"), "")]
    line += [(fit(cells[c], w, ">"), "") for _, w, c in (WIDE if wide else NARROW)[1:]]
    if wide:
        line += [(f"{known.decode:>14}   ", ""), (known.source, "dim")]
    if row.outside:
        line = [(text, style or "dim") for text, style in line]
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


def cosines(row: Row, width: int, height: int, framed: bool) -> list[Line]:
    """The panel of cosines: label, bar, share, classes at n and at n = 384."""
    name, inner, two = clean(row.system), width - 2 if framed else width, row.n != OTHER_N
    title = f"{name}: cosine{'s' * framed} from one class to the other{'s' if framed else ' classes'} in use"
    other_head = f"n={OTHER_N}"
    heads = f"{f'n={short(row.n, 7)}':>8}" + (f" {other_head:>8}" if two else "")
    body: list[Line] = [[("  counting …", "dim")]]
    note = ""
    if counted(row):
        here, other = histogram(row.system, row.n, row.classes), histogram(row.system, OTHER_N, row.classes)
        if isinstance(here, str):
            body = [[(fit(f"  {clean(here)}", inner - framed), "dim")]]
        else:
            body = _bars(here, other, inner - framed, height - (4 if framed else 2), two)
            note = _note(row, here, other)
    if framed:
        body = [[(fit(heads, inner - 1, ">"), "dim")], *body[: height - 3]]
        room = max(0, height - 2 - len(body))
        notes = wrap(note, inner - 2)[:room]
        body += [[] for _ in range(min(1, room - len(notes)))] + [[(f" {line}", "dim")] for line in notes]
        return frame(body, width, height, title)
    body += [[] for _ in range(height - 2 - len(body))]
    return [rule(width, title, heads.strip().replace(" n=", "   n=")), *body, [(fit(note, width), "dim")]]


def _bars(here: Histogram, other: Histogram | str, width: int, height: int, two: bool) -> list[Line]:
    there = {} if isinstance(other, str) else {round(c, 9): k for c, k in other}
    mine = {round(c, 9): k for c, k in here}
    levels = sorted({*mine, *there}, reverse=True)
    total, most = max(1.0, sum(mine.values())), max([*mine.values(), 1.0])
    shown = levels if len(levels) <= height else levels[: height - 1]
    bars = max(4, width - 8 - 8 - 9 - (9 if two else 0))
    out: list[Line] = []
    for level in shown:
        k = mine.get(level, 0.0)
        blocks = bar(k / most, bars).rstrip("░") or ("▏" if k > 0 else "")
        numbers = f"{_percent(k / total):>8}{_few(k):>9}"
        line: Line = [(f" {fraction(level):>5}  ", ""), (fit(blocks, bars), "bar"), (numbers, "")]
        if two:
            line.append((f"{'-' if isinstance(other, str) else _few(there.get(level, 0.0)):>9}", ""))
        out.append(line)
    if len(shown) < len(levels):
        rest = sum(mine.get(level, 0.0) for level in levels[len(shown) :])
        words = f"  {len(levels) - len(shown)} more, down to {fraction(levels[-1])}: {_percent(rest / total)}"
        out.append([(fit(words, width), "dim")])
    return out


def _percent(value: float) -> str:
    return f"{100 * value:.2f}%" if value >= 0.0001 or value == 0 else "<0.01%"


def _few(value: float) -> str:
    """Expected classes: whole from ten on, `<0.1` where it is hardly ever one."""
    if value == 0 or value >= 9.95:
        return short(value, 8)
    return f"{value:.1f}" if value >= 0.1 else "<0.1"


def _note(row: Row, here: Histogram, other: Histogram | str) -> str:
    if isinstance(other, str):
        return f"n={OTHER_N}: {clean(other)}" if "vectors" in other else ""
    if row.n == OTHER_N or not here or not other or abs(other[0][0] - here[0][0]) > 1e-9:
        return ""
    if other[0][1] < here[0][1] / 2:
        return f"few near classes at n={OTHER_N}: labels can come right while the loss is still high"
    if other[0][1] < 2 * here[0][1]:
        return f"about as many near classes at n={OTHER_N}"
    return f"more near classes at n={OTHER_N} than at n={row.n}"


def examples(row: Row, width: int, height: int) -> list[Line]:
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
    room = max(0, width - 17)
    body: list[Line] = [[(f" {name:<13} ", "dim"), (fit(words, room), "")] if name else [] for name, words in rows]
    body.append([(fit(f" lsc-engine vectors {clean(row.system)} --n {row.n}", width - 2), "dim")])
    return frame(body, width, height, f"{clean(row.system)} at n = {short(row.n, 12)}")


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


def chart(row: Row, log: bool, mode: Mode, width: int, height: int) -> list[Line]:
    """The framed chart of the smallest n, its legend, and what it comes to at a thousand million classes. It shows the
    five families, and the highlighted one where it is another."""
    family = family_of(row.system)
    plain = family is None or family.is_table or row.system in (*CHARTED, "planar")
    return _chart(CHARTED if plain else (*CHARTED, row.system), row.classes, log, mode, width, height)


@lru_cache(maxsize=16)
def _chart(names: tuple[str, ...], classes: int, log: bool, mode: Mode, width: int, height: int) -> list[Line]:
    series = list(_curves(names))
    top = 1e5 if log else 4096.0
    view = View(
        Window(10, 1e9, 1 if log else 0, top), True, log, mode, cursor=float(min(classes, 10**9)), unit="classes"
    )
    if width < 30 or height < 8:
        return frame([], width, height)
    picture = draw(series, width - 2, height - 4, view)
    body: list[Line] = [[(run.text, style_name(run.style)) for run in line] for line in picture.rows]
    legend: Line = [(" ", "")]
    for i, name in enumerate(names):
        legend.append((f"{'abcdefgh'[i]} {clean(name)}  ", f"series-{i % 8}"))
    most = {name: _smallest(name, 10**9) for name in names if name != "simplex"}
    ends_at = "   ".join(f"{name} {'-' if math.isnan(n) else whole(n)}" for name, n in most.items())
    layer = f"CE layer at n={OTHER_N}: {_bytes(4 * OTHER_N * 10**9)} of weights"
    body += [legend, ends([(f" at 1 G: {clean(ends_at)}", "dim")], [(f"{layer} ", "dim")], width - 2)]
    title = "smallest n against number of classes · " + ("log log" if log else "log x")
    return frame(body, width, height, title, [("┃ ", "axis"), (whole(classes), "")])
