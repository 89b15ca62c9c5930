"""Text in cells: what every panel of the program is made of. Pure functions, no widget.

A line is a list of (text, style name) pairs; `+` in a name combines styles. Names are those of widgets/panel.py.
Whatever comes from a file goes through `clean` before it is put into a line.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size

from lsc_engine.common.formatting import grouped

Line = list[tuple[str, str]]

# Word, glyph and ASCII twin of each state.
STATES: dict[str, tuple[str, str]] = {
    "queued": ("○", "."),
    "starting": ("◔", "~"),
    "running": ("●", ">"),
    "stopping": ("◑", "-"),
    "stopped": ("■", "="),
    "finished": ("✓", "+"),
    "failed": ("✗", "x"),
    "diverged": ("∞", "N"),
    "lost": ("?", "?"),
    "stalled": ("▲", "!"),
}

# A dot in the left and in the right column of a braille cell, from the top row to the bottom row.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))

# One cell for one cell, so that nothing moves; what is wider is written by `twin`.
_ASCII = str.maketrans(
    {
        **dict(STATES.values()),
        **dict(zip("╭╮╰╯┬┴├┤┼└┘┌┐", "+" * 13, strict=True)),
        **dict(zip("─│╌┃┊▏▎▍▌▋▊▉█░▒▓", "-|-||...=======.", strict=False)),
        **dict(zip("█▉▊▋▍▎▏░", "###=---.", strict=True)),
        **dict(zip("▁▂▃▄▅▆▇", "..--==#", strict=True)),
        **{chr(0x2800 + a + b): "'--."[(i + j) // 2] for i, a in enumerate(_DOTS[0]) for j, b in enumerate(_DOTS[1])},
        "▾": "v", "▸": ">", "×": "x", "›": ">", "·": "-", "…": "~", "→": ">", "←": "<", "↑": "^", "↓": "v", "±": "~",
        "▌": ">", "≡": "=", "°": "d", "≤": "<", "≥": ">", "−": "-", "–": "-", "√": "V", "▐": "|", "�": "?",
    }
)  # fmt: skip


def ascii_twin(text: str) -> str:
    """The text in ASCII, cell for cell; anything unknown is `?`, as often as it is wide. ± and ° are written out
    where a blank beside them gives the room."""
    text = text.replace(" ±", "+-").replace("°  ", "deg").replace("█▌", "█▍").replace("▌░", "▍░").translate(_ASCII)
    return text if text.isascii() else "".join(c if c.isascii() else "?" * cell_len(c) for c in text)


def clean(text: object) -> str:
    """One line without control characters: nothing from a file can reach the terminal as an escape sequence."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "�" for c in str(text))


def error_words(error: Exception) -> str:
    """An error in one line: of the system's the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).partition("\n")[0]


def fit(text: str, width: int, align: str = "<") -> str:
    """Exactly `width` cells; what is too long ends in `…`."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    gap = " " * (width - length)
    return gap + text if align == ">" else text + gap


def fit_ends(text: str, width: int) -> str:
    """Exactly `width` cells; of what is too long the last word stays, which tells tries of one variant apart."""
    last = text.rpartition(" ")[2]
    if cell_len(text) <= width or not 0 < cell_len(last) <= width // 2:
        return fit(text, width)
    return set_cell_size(text, width - cell_len(last) - 1) + "…" + last


def width_of(line: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def pad(line: Line, width: int) -> Line:
    """The line in exactly `width` cells, cut or filled at the end."""
    out: Line = []
    left = width
    for text, name in line:
        length = cell_len(text)
        if length > left:
            out.append((set_cell_size(text, left), name))
            return out
        out.append((text, name))
        left -= length
    if left > 0:
        out.append((" " * left, ""))
    return out


def ends(left: Line, right: Line, width: int) -> Line:
    """Left and right text of one line; the right one goes first where both do not fit."""
    gap = width - width_of(left) - width_of(right)
    if gap >= 1:
        return [*left, (" " * gap, ""), *right]
    return pad(left, width)


def over(line: Line, style: str) -> Line:
    """The line with `style` added to each piece: the highlighted row."""
    return [(text, f"{name}+{style}" if name else style) for text, name in line]


def rule(width: int, title: str = "", right: str | Line = "", style: str = "rule") -> Line:
    """`─ title ──────── right ─`; what does not fit is left out, the right text first."""
    head: Line = [("─ ", style), (title, "title"), (" ", style)] if title else []
    words: Line = [(right, "dim")] if isinstance(right, str) else right
    tail: Line = [(" ", style), *words, (" ─", style)] if width_of(words) else []
    room = width - width_of(head)
    if room < width_of(tail):
        tail = []
    fill = room - width_of(tail)
    if fill < 0:
        return pad([(fit(f"─ {title} ", width), "title")], width)
    return [*head, ("─" * fill, style), *tail]


def box(
    body: Sequence[Line],
    width: int,
    height: int,
    title: str = "",
    right: str | Line = "",
    *,
    framed: bool = True,
    style: str = "rule",
) -> list[Line]:
    """The lines inside `╭─ title ── right ─╮ … ╰──╯`, exactly width x height cells, else below a rule."""
    if not framed:
        return [rule(width, title, right, style), *(pad(line, width) for line in body)]
    if height < 2 or width < 4:
        return [pad(line, width) for line in body[:height]]
    edge, inside = ("│", style), [*body[: height - 2], *([] for _ in range(height - 2 - len(body)))]
    rows = [[edge, *pad(line, width - 2), edge] for line in inside]
    top: Line = [("╭", style), *rule(width - 2, title, right, style), ("╮", style)]
    return [top, *rows, [("╰" + "─" * (width - 2) + "╯", style)]]


def flow(lead: Line, pieces: Sequence[Line], width: int, indent: int) -> list[Line]:
    """Pieces after each other with dots between, going on in the next line where one does not fit."""
    out, line, first = [], lead, True
    for piece in pieces:
        if width_of(line) + width_of(piece) + (0 if first else 3) > width and (lead or not first):
            out.append(pad(line, width))
            line, first = [(" " * indent, "")], True
        line = [*line, *([] if first else [(" · ", "dim")]), *piece]
        first = False
    return [*out, pad(line, width)]


def labelled(rows: Iterable[tuple[str, str]], room: int, width: int, most: int | None = None) -> list[Line]:
    """Labels in `room` cells and their texts, wrapped beside them in at most `most` lines each."""
    out = list[Line]()
    for label, text in rows:
        lines = enumerate(wrap(clean(text), width - room)[:most])
        out += [[(fit(clean(label) * (not i), room), "dim"), (fit(line, width - room), "")] for i, line in lines]
    return out


_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float | None, width: int) -> str:
    """`█████▌░░░`: a share from 0 to 1 in eighths of a cell."""
    if share is None or not math.isfinite(share) or width <= 0:
        return "░" * max(0, width)
    eighths = round(min(1.0, max(0.0, share)) * 8 * width)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS[rest] if rest else "")
    return text + "░" * (width - len(text))


def trend(values: Iterable[float], width: int) -> str:
    """A line of braille dots, two a cell, between the lowest and the highest value; `×` where not finite."""
    points = list(values)
    good = [v for v in points if math.isfinite(v)]
    if not points or not good:
        return "×" if points else "-"
    log = math.log if min(good) > 0 else float
    lo, hi = log(min(good)), log(max(good))
    out = ""
    for cell in range(width):
        pair = [points[round((2 * cell + i) * (len(points) - 1) / max(1, 2 * width - 1))] for i in (0, 1)]
        if not all(map(math.isfinite, pair)):
            out += "×"
            continue
        rows = [round(3 * (hi - log(v)) / (hi - lo)) if 0 < hi - lo < math.inf else 3 for v in pair]
        out += chr(0x2800 + _DOTS[0][rows[0]] + _DOTS[1][rows[1]])
    return out


def progress(share: float) -> str:
    """One cell that fills from the bottom: `▁` at the start, `█` once all is done."""
    return "▁▂▃▄▅▆▇█"[int(7 * min(share, 1.0))] if share > 0 else " "


def loss_text(value: float | None, kind: str = "") -> str:
    """`.2414c`, `2.114e`, `3.2e-5c`, `NaN`: four or so digits and the letter of the kind of loss."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf"
    size = abs(value)
    if 0 < size < 1e-3:
        text = f"{value:.1e}".replace("e-0", "e-")
    elif size < 1:
        text = f"{value:.4f}".replace("0.", ".", 1)
    elif size < 1e5:
        text = f"{value:.{max(0, 3 - int(math.log10(size)))}f}"
    else:
        text = f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    return text + kind


def time_of_day(when: float) -> str:
    """Unix seconds as `04:31:02` of the local day; blanks where a file says what no clock can show."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(when))
    except (OverflowError, OSError, ValueError):
        return " " * 8


def size_text(count: float | None) -> str:
    """Bytes as `107 MB`, `0.9 GB`."""
    if count is None:
        return "n/a"
    for limit, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.{0 if count >= 10 * limit else 1}f} {unit}"
    return f"{count:.0f} B"


def point(value: float, places: int = 4) -> str:
    """`.750`, `-.500`, `1.000`, `-` where it is not known."""
    if math.isnan(value):
        return "-"
    text = f"{value:.{places}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def millions(count: float | None) -> str:
    """`8.93 M`, `360 k`, `-`."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count is not None and count >= limit:
            return f"{count / limit:.3g} {letter}"
    return "-" if count is None else f"{count:.0f}"


def short(number: float, width: int) -> str:
    """`299 999`, where that is too wide `300k`; beyond 2^63 `> 9e18`."""
    text = "> 9e18" if number >= 2**63 else grouped(round(number))
    for limit, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if len(text) > width and limit <= number < 2**63:
            return f"{number / limit:.{1 if number < 10 * limit else 0}f}{letter}"
    return text


def share_text(value: float) -> str:
    """`97.7%`, `100%`, `<0.1%`."""
    if value >= 1:
        return f"{100 * value:.0f}%" if value < 10 else f"{value:.0e}×"
    if value >= 0.9995:
        return "99.9%"
    return f"{100 * value:.1f}%" if value >= 0.001 else "<0.1%"


def near_text(near: Sequence[float] | None) -> str:
    """How many classes lie near, fewest and most: `56`, `0.0-4.7`, `-`."""
    if near is None:
        return "-"
    low, high = (grouped(round(x)) if x >= 10 else f"{x:.1f}" for x in near)
    return low if low == high else f"{low}-{high}"


def day_text(when: float) -> str:
    """`21 Nov 10:11`, of another year `21 Nov 2024`."""
    then = time.localtime(when)
    return time.strftime("%d %b %H:%M" if then.tm_year == time.localtime().tm_year else "%d %b %Y", then).lstrip("0")


# Where a line may be broken: not within `1 000` or `n = 128`.
_BREAK = re.compile(r"(?<!=)\s+(?!=\s)(?!(?<=\d\s)\d{3}\b)")


def wrap(text: str, width: int) -> list[str]:
    """Words in lines of at most `width` cells; a longer word, such as a path, goes on in the next line."""
    out: list[str] = []
    for word in _BREAK.split(text.strip()) if text.strip() else ():
        if out and cell_len(out[-1]) + 1 + cell_len(word) <= width:
            out[-1] += f" {word}"
        else:
            out += chop_cells(word, width)
    return out
