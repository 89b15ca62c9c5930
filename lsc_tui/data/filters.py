"""The filter of the list: words and conditions, `fig9 state:running system:V21 loss<0.3 seed:0 owner:anna tag:keep`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.safe_io import number_of
from lsc_engine.common.settings import lookup
from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import ACCURACY, RunView, finite
from lsc_tui.lines import clean

TEXTS: dict[str, Callable[[RunView], str]] = {
    "state": lambda v: v.state,
    "system": lambda v: str(lookup(v.config, "target.system") or lookup(v.config, "target.method") or ""),
    "study": lambda v: v.study,
    "seed": lambda v: str(v.seed),
    "owner": lambda v: v.status.owner,
    "host": lambda v: v.status.host,
    "model": lambda v: str(lookup(v.config, "model.name") or ""),
    "data": lambda v: str(lookup(v.config, "data.dataset") or ""),
    "kind": lambda v: v.loss_kind,
    "tag": lambda v: " ".join(v.tags),
    "note": lambda v: v.note,
}
NUMBERS: dict[str, Callable[[RunView], float | None]] = {
    "loss": lambda v: finite(v.loss),
    "best": lambda v: finite(v.best_loss),
    "done": lambda v: 100 * v.done,
    "n": lambda v: number_of(lookup(v.config, "model.dim")),
    "lr": lambda v: number_of(lookup(v.config, "optimizer.lr")),
    "seed": lambda v: float(v.seed),
}
_CONDITION = re.compile(r"(!?)([a-z_]+)(:|<=|>=|<|>|=)(.*)")
_SIGNS = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "=": operator.eq}
_EXACT = ("state", "seed", "kind")


class Filter:
    """A parsed filter; `fault` is a sentence where it cannot be meant. `accuracy` is the metric that `acc` means."""

    def __init__(self, text: str, accuracy: str = ACCURACY) -> None:
        self.text = text
        self._numbers = {**NUMBERS, "acc": lambda v: None if (x := finite(v.last(accuracy))) is None else 100 * x}
        self.fault = ""
        self._tests: list[Callable[[RunView], bool]] = []
        # What a study without runs can answer: words, and its own name; it matches no condition on runs.
        self._words: list[tuple[bool, str]] = []
        self._of_runs = False
        for word in text.split():
            self._add(word)

    def _add(self, word: str) -> None:
        found = _CONDITION.fullmatch(word)
        if found is None:
            negated, part = word.startswith("!"), word.lstrip("!").lower()
            self._words.append((negated, part))
            self._tests.append(lambda v: (part in f"{v.id} {v.label} {v.short}".lower()) != negated)
            return
        negated, key, sign, value = bool(found[1]), found[2], found[3], found[4]
        if key == "study":
            self._words.append((negated, value.lower()))
        else:
            self._of_runs = True
        if sign == ":" and key in TEXTS:
            read, wanted = TEXTS[key], value.lower()
            if key in _EXACT and wanted:
                self._tests.append(lambda v: (read(v).lower() == wanted) != negated)
            else:
                self._tests.append(lambda v: (wanted in read(v).lower()) != negated)
            return
        if sign != ":" and key in self._numbers:
            try:
                limit = float(value)
            except ValueError:
                self.fault = f'"{clean(word)}": {key}{sign} needs a number'
                return
            number, compare = self._numbers[key], _SIGNS[sign]
            self._tests.append(lambda v: ((x := number(v)) is not None and bool(compare(x, limit))) != negated)
            return
        near = did_you_mean(key, sorted({*TEXTS, *self._numbers}))
        self.fault = f'"{clean(word)}": {near}'

    def __call__(self, view: RunView) -> bool:
        return all(test(view) for test in self._tests)

    def report(self, report: Report) -> bool:
        """Whether a study that has a report and no runs is shown."""
        text = f"{report.study} {report.kind}".lower()
        return not self._of_runs and all((part in text) != negated for negated, part in self._words)


def completions(views: list[RunView]) -> list[str]:
    """What may be typed: the conditions, with the values there are."""
    out = [f"{key}:" for key in TEXTS] + [f"{key}<" for key in (*NUMBERS, "acc")]
    for key in ("state", "system", "owner", "tag", "data", "model"):
        values = {part for view in views for part in TEXTS[key](view).split()}
        out += [f"{key}:{value}" for value in sorted(values)[:50]]
    return out
