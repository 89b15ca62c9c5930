"""What is known of a run by name, for filters, columns, groups and the order of the list; and the filter itself.

fig9 state:running|failed !tag:old optimizer.lr>1e-4 label:"n = 4" /fig\\d+$/ | owner:anna
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.safe_io import number_of
from lsc_engine.common.settings import flatten, lookup
from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import ACCURACY, RunView, finite, value_text
from lsc_tui.lines import clean

FIELDS: dict[str, Callable[[RunView], Any]] = {
    "state": lambda v: v.state,
    "system": lambda v: lookup(v.config, "target.system") or lookup(v.config, "target.method"),
    "study": lambda v: v.study,
    "label": lambda v: v.label,
    "seed": lambda v: v.seed,
    "owner": lambda v: v.status.owner,
    "host": lambda v: v.status.host,
    "model": lambda v: lookup(v.config, "model.name"),
    "data": lambda v: lookup(v.config, "data.dataset"),
    "kind": lambda v: v.loss_kind,
    "tag": lambda v: " ".join(v.tags),
    "note": lambda v: " ".join(v.notes),
    "loss": lambda v: finite(v.loss),
    "best": lambda v: finite(v.best_loss),
    "done": lambda v: 100 * v.done,
    "n": lambda v: lookup(v.config, "model.dim"),
    "lr": lambda v: lookup(v.config, "optimizer.lr"),
    "speed": lambda v: finite(v.speed),
    "acc": lambda v: None,  # of the metric that the list shows: see `value_of`
}
NUMBERS = ("loss", "best", "done", "n", "lr", "seed", "speed", "acc")
_COMPARE = (operator.lt, operator.gt, operator.le, operator.ge, operator.eq, operator.ne)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = dict(zip(("<", ">", "<=", ">=", "=", "!="), _COMPARE, strict=True))
_EXACT = ("state", "seed", "kind")
_TERM = re.compile(
    r"""(?P<head>(?P<no>!*)(?:(?P<key>[A-Za-z_][\w.]*)(?P<sign>:|<=|>=|!=|<|>|=))?)"""
    r"""(?P<value>"(?P<quoted>[^"]*)"|/(?P<regex>(?:\\.|[^\\/])*)/(?![^\s|])|[^\s|"]*)"""
)
Test = Callable[[RunView | Report], bool]


def value_of(view: RunView, key: str, accuracy: str = ACCURACY) -> Any:
    """What is known of a run under a name of `FIELDS` or a dotted setting; None where it has none."""
    if key == "acc":
        return None if (share := finite(view.last(accuracy))) is None else 100 * share
    return FIELDS[key](view) if key in FIELDS else lookup(view.config, key)


def settings_in(views: Iterable[RunView]) -> list[str]:
    """The dotted settings that any of the runs has."""
    configs = {id(view.config): view.config for view in views}
    return sorted({key for config in configs.values() for key in flatten(config) if not key.startswith("provenance")})


class Filter:
    """A parsed filter: words and conditions, all of which hold; ` | ` between alternatives. `fault` is a sentence
    where it cannot be meant, which names the place; nothing matches then. `accuracy` is the metric that `acc` means,
    `settings` the keys that runs have, empty while that is not known."""

    def __init__(self, text: str, accuracy: str = ACCURACY, settings: Collection[str] = ()) -> None:
        self.text, self.fault = text, ""
        self._accuracy, self._settings = accuracy, settings
        self._groups: list[list[Test]] = [[]]
        place = 0
        while not self.fault and (place := len(text) - len(text[place:].lstrip())) < len(text):
            if text[place] == "|":
                self._groups.append([])
                place += 1
            else:
                place = self._add(text, place)
        self._groups = [group for group in self._groups if group] or [[]]

    def _add(self, text: str, place: int) -> int:
        """Add the term that begins at `place`, `a|b` with its alternatives; where it ends."""
        tests: list[Test] = []
        key = sign = ""
        negated = False
        while not tests or text[place : place + 1] == "|":
            place += bool(tests)
            found = _TERM.match(text, place)
            if found is None or text[found.end() : found.end() + 1] == '"':
                self._wrong(text, place, 'a " is missing')
                break
            key, sign = (found["key"], found["sign"]) if found["key"] else (key, sign)
            negated = negated != (len(found["no"]) % 2 == 1)
            test = self._test(text, place, found, key, sign, negated) if found[0] else None
            if test is None:
                break
            tests.append(test)
            place = found.end()
        # Not one of them, where what is before the first is a "!".
        one = all if negated else any
        self._groups[-1].append(lambda item: one(test(item) for test in tests))
        return place

    def _wrong(self, text: str, place: int, words: str) -> None:
        self.fault = self.fault or f'character {place + 1}, "{clean(text[place:].split()[0])}": {words}'

    def _test(self, text: str, place: int, found: re.Match[str], key: str, sign: str, negated: bool) -> Test | None:
        pattern, value = found["regex"], (found["value"] if found["quoted"] is None else found["quoted"])
        has: Callable[[str], bool] = partial(_holds, value.lower())
        if pattern is not None:
            try:
                search = re.compile(pattern, re.IGNORECASE | re.MULTILINE).search
            except re.error as error:
                self._wrong(text, place, f"no regular expression: {error.msg} at {(error.pos or 0) + 1}")
                return None

            def has(text: str) -> bool:
                return search(text) is not None

        if not key:
            return lambda item: has(_words(item)) != negated
        full = self._full(key)
        if full not in FIELDS and self._settings and full not in self._settings:
            self._wrong(text, place, did_you_mean(key, [*FIELDS, *self._settings]) or f'no run has "{key}"')
        elif full not in FIELDS and not self._settings and "." not in key:
            self._wrong(text, place, did_you_mean(key, FIELDS))
        elif sign == ":":
            exact = full in _EXACT and pattern is None and bool(value)
            return self._on_runs(full, lambda x: _text(x).lower() == value.lower() if exact else has(_text(x)), negated)
        else:
            return self._comparison(text, place, full, sign, value, negated)
        return None

    def _comparison(self, text: str, place: int, key: str, sign: str, value: str, negated: bool) -> Test | None:
        limit: float | None = None
        try:
            limit = float(value.replace("_", ""))
        except ValueError:
            if sign not in ("=", "!=") or key in NUMBERS or not value:
                self._wrong(text, place, f"{key}{sign} needs a number")
                return None
        compare = _SIGNS[sign]

        def holds(found: Any) -> bool:
            number = number_of(found)
            if limit is not None and number is not None:
                return compare(number, limit)
            return sign in ("=", "!=") and key not in NUMBERS and compare(_text(found).lower(), value.lower())

        return self._on_runs(key, holds, negated)

    def _full(self, key: str) -> str:
        """The dotted key that its last part stands for, where only one does."""
        ends = [name for name in self._settings if name.endswith(f".{key}")] if key not in FIELDS else []
        return ends[0] if len(ends) == 1 else key

    def _on_runs(self, key: str, holds: Callable[[Any], bool], negated: bool) -> Test:
        def test(item: RunView | Report) -> bool:
            if isinstance(item, Report):  # it has a name and words, and matches no condition on runs
                return key == "study" and holds(item.study) != negated
            return holds(value_of(item, key, self._accuracy)) != negated

        return test

    def __call__(self, item: RunView | Report) -> bool:
        return not self.fault and any(all(test(item) for test in group) for group in self._groups)


def _holds(part: str, text: str) -> bool:
    return part in text.lower()


def _words(item: RunView | Report) -> str:
    return f"{item.study} {item.kind}" if isinstance(item, Report) else f"{item.id}\n{item.label}\n{item.short}"


def _text(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, bool | int) else value_text(value)


def completions(views: list[RunView], earlier: Iterable[str] = ()) -> list[str]:
    """What may be typed: earlier filters, then the conditions, with the values there are."""
    out = [*earlier, *(f"{key}{'<' if key in NUMBERS else ':'}" for key in FIELDS)]
    for key in ("state", "system", "owner", "tag", "data", "model"):
        values = {part for view in views for part in _text(FIELDS[key](view)).split()}
        out += [f"{key}:{value}" for value in sorted(values)[:50]]
    return [*out, *(f"{key}:" for key in settings_in(views))]
