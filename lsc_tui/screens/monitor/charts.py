"""Which metrics share a chart on Monitor, and the titles of its charts."""

from __future__ import annotations

import re

from lsc_engine.common.formatting import grouped
from lsc_engine.common.settings import lookup
from lsc_tui.data.run_view import ACCURACY, LOSS, RunView
from lsc_tui.lines import clean
from lsc_tui.widgets.chart import Look, is_share
from lsc_tui.widgets.series import loss_word

Family = tuple[str, ...]  # metrics on one chart
GRIDS = ((2, 1), (2, 2), (3, 3), (4, 4))  # columns and rows of charts
SMALLEST_CHART = (18, 5)
LETTER_WORDS = {"t": "train", "v": "val", "o": "old", "n": "new"}
# What is drawn beside the first of them, on one chart.
_BESIDE = {LOSS: ("val/loss",), ACCURACY: ("val/accuracy", "train/accuracy_augmented")}
_FIRST = ("speed/images_per_second", "lr", "speed/data_wait")
# A metric per layer, and one of the classes known before and of the new ones, share a chart.
_ONE_OF_MANY = re.compile(r"^(.*?)[_/.-]?(\d+|old|new)$")


def families(names: tuple[str, ...], words: str = "") -> list[Family]:
    """The metrics that share a chart, loss and accuracy first, then speed and learning rate, then the others. `words`:
    only those one of whose names holds them, as a regular expression where they are one."""
    out = [(first, *(n for n in beside if n in names)) for first, beside in _BESIDE.items()]
    placed = {name for family in out for name in family}
    many: dict[str, list[str]] = {}
    for name in sorted(n for n in names if n not in placed):
        found = _ONE_OF_MANY.match(name)
        many.setdefault(found[1] if found else name, []).append(name)
    rest = [tuple(sorted(group, key=_number)) for group in many.values()]
    rest.sort(key=lambda group: (_FIRST.index(group[0]) if group[0] in _FIRST else len(_FIRST), group[0]))
    try:
        holds = re.compile(words, re.IGNORECASE)
    except re.error:
        holds = re.compile(re.escape(words), re.IGNORECASE)
    return [family for family in out + rest if any(map(holds.search, family))]


def _number(name: str) -> tuple[int, str]:
    found = re.search(r"(\d+)$", name)
    return (int(found[1]) if found else -1, name)


def letter_of(name: str, family: Family) -> str:
    """What stands at the end of a curve that shares its chart: t, v, the number of the layer, o, n."""
    if len(family) < 2 or name.endswith("augmented"):
        return ""
    found, first = _ONE_OF_MANY.match(name), _ONE_OF_MANY.match(family[0])
    if found and found[1] == (first[1] if first else ""):
        return found[2] if found[2].isdigit() else found[2][0]
    return {"train": "t", "val": "v"}.get(name.partition("/")[0], "")


def title_words(view: RunView, family: Family, look: Look, *, wide: bool) -> str:
    """The title of the chart of a family."""
    name = family[0]
    if name == LOSS:
        words = [name, loss_word(view.loss_group)]
        if look.smoothing:
            words.append(look.smoothing_words + (", raw dim" if wide else ""))
    elif name == ACCURACY:
        count = lookup(view.config, "eval.images")
        images = f", {grouped(count)} fixed images" if isinstance(count, int) else ""
        words = [f"{name} %", f"eval mode{images}"] if wide else ["accuracy %"]
    else:
        found = _ONE_OF_MANY.match(name) if len(family) > 1 else None
        ends = f" {letter_of(name, family)}…{letter_of(family[-1], family)}" if found else ""
        words = [clean(found[1] if found else name) + ends + (" %" if is_share(name) else "")]
    words += [look.y_words(name), look.axis if look.axis != "epoch" else ""]
    return " · ".join(word for word in words if word)
