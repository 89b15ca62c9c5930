"""What Vectors shows: limits as typed, one row per system, the columns of the table, and the panels on one system.

Exact integers over the facts of lsc_engine.vectors, no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lsc_engine.charts.canvas import Mode
from lsc_engine.charts.chart import Series, View, Window, draw
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.formatting import grouped, number, parse_count
from lsc_engine.common.safe_io import csv_text
from lsc_engine.common.userpaths import user_path
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.bijection import Bijection
from lsc_engine.vectors.families.tables import Table, table_shape
from lsc_engine.vectors.registry import at_n_min, facts, family_of, is_known, listed, n_min
from lsc_tui.lines import Line, bar, clean, ends, fit, near_text, over, pad, point, share_text, short, size_text, wrap
from lsc_tui.services.actions import engine, python
from lsc_tui.widgets.chart import style_name
from lsc_tui.widgets.panel import Sheet

LARGEST = 2**63 - 1
FILE_SECONDS, COUNT_SECONDS = 120.0, 60.0
MANY_ANGLES, MANY_NUMBERS = 4096, 4096  # cosines of more directions, vectors of more numbers are not listed
OTHER_N = 384
BYTES = {"1": "fp8", "2": "bf16", "4": "fp32", "8": "fp64"}
LOSSES = ("cosine", "distance", "cosine+distance")
# The limits above the table and what may be typed there.
FIELDS = {
    "classes": "number of classes, such as 300k",
    "cosine": "largest cosine, from -1 to 1",
    "most": "largest n",
    "bytes": "bytes per number, or fp8, bf16, fp32, fp64",
    "loss": "loss: cosine, distance, cosine+distance",
}
# The scale s of the crowding, that of `lsc-engine nmin`.
SCALE = 16.0
# By name, n and number of vectors: those that another process counts are put here.
CROWDING: dict[tuple[str, int, int], tuple[float, bool]] = {}
# Name, n, classes -> falling cosines from one class to the others in use, or why there are none.
Histogram = list[tuple[float, float]]
HISTOGRAMS: dict[tuple[str, int, int], Histogram | str] = {}
CHARTED = ("A", "V21", "V22", "V33", "simplex")


@dataclass(frozen=True)
class Limits:
    """The fields above the table."""

    classes: int = 300_000
    cosine: float = 0.75
    most: int = 4096
    bytes: int = 4
    loss: str = "cosine"

    @property
    def angle(self) -> str:
        """The smallest angle that `cosine` allows, in degrees."""
        return f"{math.degrees(math.acos(self.cosine)):.1f}°"

    def shown(self, field: str) -> str:
        """A field as it is written when nobody types in it."""
        if field in ("classes", "most"):
            return grouped(getattr(self, field))
        if field == "bytes":
            return f"{self.bytes} {BYTES[str(self.bytes)]}"
        return f"{self.cosine:g}" if field == "cosine" else self.loss

    def typed(self, field: str, text: str) -> Limits:
        """These limits with one field as typed. UsageError with a sentence where it cannot be meant."""
        text = text.strip()
        shown = clean(text) or "nothing"
        if field == "classes":
            return replace(self, classes=parse_count(text))
        if field == "most":
            return replace(self, most=parse_count(text, "n"))
        if field == "cosine":
            if (value := number(text)) is None:
                raise UsageError(f"cosine: {shown} is not a number from -1 to 1")
            if not -1 <= value <= 1:
                why = "above 1, where all vectors may be equal" if value > 1 else "below -1, no cosine is"
                raise UsageError(f"cosine: {value:g} is {why}")
            return replace(self, cosine=float(value))
        if field == "bytes":
            first = text.partition(" ")[0]
            size = next((size for size, word in BYTES.items() if first in (size, word)), None)
            if size is None:
                raise UsageError(f"bytes per number: {shown} is none of {', '.join(BYTES)}")
            return replace(self, bytes=int(size))
        loss = next((loss for loss in LOSSES if text and loss.startswith(text)), None)
        if loss is None:
            raise UsageError(f"loss: {shown} is none of {', '.join(LOSSES)}")
        return replace(self, loss=loss)


@dataclass(frozen=True)
class Row:
    """One system at its smallest n for the classes; `size` and `database` are the bytes of one embedding, of all."""

    known: VectorSystem
    classes: int
    near: tuple[float, float] | None
    outside: bool
    sure: float
    size: int

    @property
    def system(self) -> str:
        return self.known.name

    key = system

    @property
    def n(self) -> int:
        return self.known.n

    @property
    def used(self) -> float:
        return self.classes / self.known.count

    @property
    def crowding(self) -> tuple[float, bool] | None:
        """The mean of exp(16 cos) over pairs of vectors, and whether it is an estimate. None while it is not counted,
        by another process, where it takes long or needs the rows. NaN where it is not known."""
        key, family = (self.system, self.n, self.known.count), family_of(self.system)
        if self.system == "planar" and self.known.count > MANY_ANGLES:
            return math.nan, False
        if key not in CROWDING:
            if family is None or family.is_table or family.slow_histogram:
                return None
            CROWDING[key] = self.known.crowding(SCALE)
        return CROWDING[key]

    @property
    def database(self) -> int:
        return self.size * self.classes


@lru_cache(maxsize=4096)
def facts_at_n_min(system: str, classes: int, cosine: float) -> VectorSystem | str:
    """A system at its smallest n for the classes and the largest cosine, or the sentence that no n holds them."""
    try:
        return at_n_min(system, classes, cosine)
    except UsageError as error:
        return str(error)


def rows_of(limits: Limits, systems: Iterable[str] | None = None) -> list[Row]:
    """One row per system that holds the classes; `outside` those beyond the largest cosine or the largest n."""
    names = listed() if systems is None else systems
    found = [facts_at_n_min(name, limits.classes, limits.cosine) for name in names]
    return [row_of(known, limits) for known in found if not isinstance(known, str)]


def row_of(known: VectorSystem, limits: Limits) -> Row:
    """The row of a system whose facts are known."""
    near = None if known.slow_neighbours else known.used_neighbours(limits.classes)
    found = HISTOGRAMS.get((known.name, known.n, limits.classes))
    if known.slow_neighbours and not known.sampled and isinstance(found, list):
        near = found[0][1], found[0][1]
    beyond = not known.max_cosine <= limits.cosine + 1e-12 or known.n > limits.most or known.count < limits.classes
    return Row(known, limits.classes, near, beyond, sure_below(known, limits.loss), limits.bytes * known.n)


def sure_below(known: VectorSystem, loss: str) -> float:
    """The loss of one image under which its label is right, for centres of length 1 and no cluster radius.

    At half the smallest angle a: 1 - cos a; exp(sin a) - 1, sin a being the least distance from there to the centre
    ((7) of arXiv:2510.04090); or their sum. NaN where the angle is not known.
    """
    half = math.radians(known.min_angle_deg) / 2
    cosine, distance = known.guaranteed_below, math.expm1(math.sin(half))
    return {"cosine": cosine, "distance": distance}.get(loss, cosine + distance)


class Column(NamedTuple):
    """Title and width at 80 columns and in the wide layout, "" for none; what rows are sorted by; and the text."""

    narrow: tuple[str, int]
    wide: tuple[str, int]
    key: Callable[[Row], Any]
    text: Callable[[Row, bool], str] = lambda row, wide: ""


def _angle(row: Row, wide: bool) -> str:
    return "-" if math.isnan(row.known.min_angle_deg) else f"{row.known.min_angle_deg:.1f}{'°' * wide}"


def _bytes(row: Row, wide: bool) -> str:
    return size_text(row.size) if wide and row.size >= 1e6 else short(row.size, 8 if wide else 6)


# Name and n share the first cells of a row.
COLUMNS: dict[str, Column] = {
    "system": Column(("SYSTEM", 0), ("SYSTEM", 0), lambda r: r.system),
    "n": Column(("n_min", 0), ("n_min", 0), lambda r: r.n),
    "vectors": Column(("VECTORS", 11), ("VECTORS", 12), lambda r: r.known.count, lambda r, _: short(r.known.count, 11)),
    "used": Column(("USED", 7), ("IN USE", 8), lambda r: r.used, lambda r, _: share_text(r.used)),
    "cos": Column(("COS", 7), ("COS", 8), lambda r: r.known.max_cosine, lambda r, _: point(r.known.max_cosine, 3)),
    "crowd": Column(
        ("CROWD", 7),
        ("CROWDING", 10),
        lambda r: (False, r.crowding[0]) if r.crowding and r.crowding[0] >= 0 else (True, 0.0),
        lambda r, _: crowding_text(r.crowding),
    ),
    "angle": Column(("ANGLE", 7), ("ANGLE", 8), lambda r: r.known.min_angle_deg, _angle),
    "near": Column(
        ("", 0),
        ("NEAR IN USE", 13),
        lambda r: (r.near is None, r.near[1] if r.near else 0.0),
        lambda r, _: near_text(r.near) if r.near or counted(r) else "…",
    ),
    "sure": Column(("SURE", 7), ("SURE BELOW", 12), lambda r: r.sure, lambda r, _: point(r.sure)),
    "rank": Column(("", 0), ("RANK", 8), lambda r: r.known.rank, lambda r, _: short(r.known.rank, 7)),
    "bytes": Column(("B/VEC", 7), ("BYTES/VECTOR", 13), lambda r: r.size, _bytes),
    "database": Column(("DATABASE", 10), ("DATABASE", 10), lambda r: r.database, lambda r, _: size_text(r.database)),
}


def ordered(rows: Sequence[Row], column: str, inverted: bool) -> list[Row]:
    """Those within the limits, then those outside, each by the column."""
    out = sorted(rows, key=lambda r: (COLUMNS[column].key(r), r.n, r.system), reverse=inverted)
    return sorted(out, key=lambda r: r.outside)


def none_within(rows: Sequence[Row], limits: Limits) -> str:
    """The sentence where no system is within the limits, "" where one is."""
    if not rows or any(not row.outside for row in rows):
        return ""
    best = min(rows, key=lambda r: (r.known.max_cosine, r.n))
    n = f" and n <= {limits.most}" if best.known.max_cosine <= limits.cosine + 1e-12 else ""
    return (
        f"No system holds {grouped(limits.classes)} classes at cosine <= {limits.cosine:g}{n}. "
        f"The closest: {best.system}, {best.known.max_cosine:.3g} at n = {best.n}"
    )


def wanted(words: str) -> tuple[str, ...]:
    """The systems of a filter: the listed ones whose name holds a word, and any other system that is named whole,
    unless its facts do not follow from its name (a plugin's, a table's)."""
    parts = words.split()
    if not parts:
        return listed()
    found = [system for system in listed() if any(part.lower() in system.lower() for part in parts)]
    for part in parts:
        family = family_of(part) if is_known(part) else None
        found += [part] if family is not None and not family.is_table else []
    return tuple(dict.fromkeys(found))


def table_csv(rows: Sequence[Row], limits: Limits) -> str:
    """The table as CSV, exact numbers."""
    head = "system n count in_use max_cosine crowding min_angle_deg near_least near_most sure_below_{} rank "
    head += "bytes_per_vector database_bytes label source within_limits"
    lines: list[list[object]] = [[*head.format(limits.loss).split()]]
    for row in rows:
        known, (low, high) = row.known, row.near or ("", "")
        cells = [row.system, row.n, known.count, f"{row.used:.6g}", f"{known.max_cosine:.9g}"]
        cells.append("" if row.crowding is None else f"{row.crowding[0]:.6g}")
        cells += [f"{known.min_angle_deg:.6g}", low, high, f"{row.sure:.6g}", known.rank, row.size, row.database]
        lines.append([*cells, known.decode, known.source, str(not row.outside).lower()])
    return csv_text(lines)


def read_file(name: str) -> VectorSystem | str:
    """What `lsc-engine vectors file:PATH` says of a file: its facts, or the sentence why not."""
    path = Path(name.removeprefix("file:"))
    try:
        path = user_path(path).absolute()
        count, n = table_shape(path)
        options = ("--n", str(n), "--scale", str(SCALE), "--json")
        found = json.loads(engine("vectors", f"file:{path}", *options, seconds=FILE_SECONDS))
        CROWDING[name, n, count] = (found["crowding"], found["crowding_sampled"])
        # Of the rounded numbers the angle is the more exact one.
        return Table(name, n, count, math.cos(math.radians(found["min_angle_deg"])))
    except (ValueError, KeyError, OSError, LscError) as error:
        return clean(error).replace(f"{path}", path.name)


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
    out: Line = [(name, "system"), (fit(arrow * (sort == "n") + "n_min", (21 if wide else 17) - len(name), ">"), "n")]
    for column, both in list(COLUMNS.items())[2:]:
        title, width = both.wide if wide else both.narrow
        out.append((fit(arrow * (sort == column) + title, width, ">"), column))
    out = [(text, "accent" if column == sort else "dim") for text, column in out]
    return [*out, ("   EXACT LABEL  PAPER", "dim")] if wide else out


def row_line(row: Row, wide: bool, here: bool, width: int) -> Line:
    """One system."""
    known, room, name = row.known, 18 if wide else 15, clean(row.system)
    n = short(known.n, max(6, room - len(name) - 1))
    text = fit(name, min(len(name), room - len(n) - 1))
    mark = f"{' ' * wide}{'▌' if here else ' '} "
    line: Line = [(mark, "accent"), (text, "bold" if here else ""), (fit(n, room - len(text), ">"), "")]
    for column in list(COLUMNS.values())[2:]:
        line.append((fit(column.text(row, wide), (column.wide if wide else column.narrow)[1], ">"), ""))
    line += [(f"{known.decode:>14}  ", ""), (known.source, "dim")] if wide else []
    line = pad(line, width - wide)
    line = [(text, style or "dim" * row.outside) for text, style in line]
    return over(pad(line, width), "cursor") if here else pad(line, width)


# Counted by another process where it takes long: thousands of fractions in this one would hold up the keys.
_COUNT = """
import json, sys
from lsc_tui.screens.vectors.systems import SCALE, facts, histogram
system, n, classes = sys.argv[1], int(sys.argv[2]), int(sys.argv[4])
known = facts(system, n, classes)
both = [histogram(system, each, classes) for each in (n, int(sys.argv[3]))]
print(json.dumps([both, known.count, known.crowding(SCALE)]))
"""


def histogram(system: str, n: int, classes: int) -> Histogram | str:
    """Cosines from one class to the others in use, falling; or why there are none."""
    key = (system, n, classes)
    if key not in HISTOGRAMS:
        try:
            known = facts(*key)
            if known.count < classes:
                HISTOGRAMS[key] = f"{system} at n = {n} has {grouped(known.count)} vectors"
            elif system == "planar" and classes > MANY_ANGLES:
                HISTOGRAMS[key] = "as many cosines as directions, evenly spread"
            else:
                HISTOGRAMS[key] = list(known.cosine_histogram(classes))
        except UsageError as error:
            HISTOGRAMS[key] = str(error)
    return HISTOGRAMS[key]


def count_elsewhere(system: str, n: int, classes: int) -> None:
    """Count the histograms at n and at 384 in another process. For a worker; a failure is a sentence in the panel."""
    words = ("-c", _COUNT, system, str(n), str(OTHER_N), str(classes))
    try:
        found, count, crowding = json.loads(python("the count", *words, seconds=COUNT_SECONDS))
        CROWDING[system, n, count] = crowding[0], crowding[1]
    except (OSError, ValueError, LscError) as error:
        found = [f"not counted: {clean(error)}"] * 2
    HISTOGRAMS[system, n, classes], HISTOGRAMS[system, OTHER_N, classes] = found


def counted(row: Row) -> bool:
    """Whether the cosines of a row can be shown without counting for long."""
    family = family_of(row.system)
    return family is None or not family.slow_histogram or (row.system, row.n, row.classes) in HISTOGRAMS


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

    def percent(number: float) -> str:
        share = number / total
        return f"{100 * share:.2f}%" if share >= 0.0001 or share == 0 else "<0.01%"

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
        numbers = f"{percent(k):>8}{few(k):>9}{beside}"
        out.append([(f" {fraction(level):>5}  ", ""), (fit(blocks, bars), "bar"), (numbers, "")])
    if len(shown) < len(levels):
        rest = sum(mine.get(level, 0.0) for level in levels[len(shown) :])
        words = f"  {len(levels) - len(shown)} more, down to {fraction(levels[-1])}: {percent(rest)}"
        out.append([(fit(words, width), "dim")])
    return out


def _note(row: Row, here: Histogram, other: Histogram | str) -> str:
    if isinstance(other, str):
        return f"n={OTHER_N}: {clean(other)}" if "vectors" in other else ""
    if row.n == OTHER_N or not here or not other or abs(other[0][0] - here[0][0]) > 1e-9:
        return ""
    if other[0][1] < here[0][1] / 2:
        return f"few near classes at n={OTHER_N}: labels can come right while the loss is still high"
    more = other[0][1] >= 2 * here[0][1]
    return f"{'more' if more else 'about as many'} near classes at n={OTHER_N}" + f" than at n={row.n}" * more


def examples(row: Row, width: int, _: int) -> Sheet:
    """The panel of the first classes' vectors (shuffled, seed 0), how a label is read, what is unused."""
    known = row.known
    rows = [("base vector", known.description)]
    for label in range(min(3, row.classes)):
        more = "     (shuffled, seed 0)" if label == 0 and known.has_entries else ""
        rows.append((f"class {label}", example(row.system, row.n, known.count, row.classes, label) + more))
    unused = known.count - row.classes
    free = (
        f"{grouped(unused)} vectors: an image there is a new class" if unused > 0 else "none: every vector has a class"
    )
    kept = f"none kept; {known.support} numbers computed per image"
    kept = f"{size_text(4 * known.n * known.count)} kept" if known.is_table else kept
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
            return f"{grouped(known.support)} numbers"
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


def _smallest(name: str, classes: int) -> float:
    """n_min, NaN where no n holds them."""
    try:
        return float(n_min(name, classes))
    except UsageError:
        return math.nan


@lru_cache(maxsize=8)
def _curves(names: tuple[str, ...]) -> list[Series]:
    xs = np.logspace(1, 9, 97)
    ys = [[_smallest(name, max(1, round(x))) for x in xs] for name in names]
    return [Series(xs, ys[i], "abcdefgh"[i], i, name=name) for i, name in enumerate(names)]


def chart(row: Row, log: bool, mode: Mode, width: int, height: int) -> Sheet:
    """The chart of the smallest n, its legend, and what it comes to at a thousand million classes. It shows the five
    families, and the highlighted one where it is another."""
    if width < 28 or height < 6:
        return "", "", []
    family = family_of(row.system)
    plain = family is None or family.is_table or row.system in (*CHARTED, "planar")
    curves = _curves(CHARTED if plain else (*CHARTED, row.system))
    window, cursor = Window(10, 1e9, 1 if log else 0, 1e5 if log else 4096.0), float(min(row.classes, 10**9))
    picture = draw(curves, width, height - 2, View(window, True, log, mode, cursor=cursor, unit="classes"))
    body: list[Line] = [[(run.text, style_name(run.style)) for run in line] for line in picture.rows]
    legend = [(f"{curve.letter} {clean(curve.name)}  ", f"series-{curve.colour % 8}") for curve in curves]
    most = [f"{curve.name} {grouped(float(np.asarray(curve.y)[-1]))}" for curve in curves if curve.name != "simplex"]
    layer = f"CE layer at n={OTHER_N}: {size_text(4 * OTHER_N * 10**9)} of weights"
    words = [(f" at 1 G: {clean('   '.join(most))}", "dim")]
    body += [[(" ", ""), *legend], ends(words, [(f"{layer} ", "dim")], width)]
    title = "smallest n against number of classes · " + ("log log" if log else "log x")
    return title, [("┃ ", "axis"), (grouped(row.classes), "")], body
