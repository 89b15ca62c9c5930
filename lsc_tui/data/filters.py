"""What is known of a run by name, for filters, columns, groups and the order of the list; and the filter itself.

fig9 state:running|failed !tag:old optimizer.lr>1e-4 label:"n = 4" /fig\\d+$/ | owner:anna
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import number
from lsc_engine.common.safe_io import number_of
from lsc_engine.common.settings import flatten, lookup
from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import ACCURACY, LOSS, SPEED, RunView, finite, value_text
from lsc_tui.lines import STATES, clean

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
    "loss": lambda v: finite(v.last(LOSS)),
    "best": lambda v: finite(v.best(LOSS)),
    "done": lambda v: 100 * v.done,
    "n": lambda v: lookup(v.config, "model.dim"),
    "lr": lambda v: lookup(v.config, "optimizer.lr"),
    "speed": lambda v: finite(v.last(SPEED)),
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
        self.text, self.fault, self._place = text, "", 0
        self._accuracy, self._settings = accuracy, settings
        groups: list[list[Test]] = [[]]
        try:
            while (place := len(text) - len(text[self._place :].lstrip())) < len(text):
                self._place = place
                if text[place] == "|":
                    groups.append([])
                    self._place += 1
                else:
                    groups[-1].append(self._term())
            if len(groups) > 1 and not any(groups):
                self._place = text.index("|")
                raise UsageError("| stands between words or conditions, and there are none")
        except UsageError as error:
            self.fault = f'character {self._place + 1}, "{clean(text[self._place :].split()[0])}": {error}'
        self._groups = [group for group in groups if group] or [[]]

    def _term(self) -> Test:
        """The term that begins at `_place`, `a|b` with its alternatives; the place is moved to its end."""
        tests: list[Test] = []
        key = sign = ""
        negated = False
        while not tests or self.text[self._place : self._place + 1] == "|":
            found = _TERM.match(self.text, self._place + bool(tests))
            if found is None or self.text[found.end() : found.end() + 1] == '"':
                self._place += bool(tests)
                raise UsageError('a " is missing')
            if not found[0]:
                break
            self._place = found.start()
            key, sign = (found["key"], found["sign"]) if found["key"] else (key, sign)
            negated = negated != (len(found["no"]) % 2 == 1)
            tests.append(self._test(found, key, sign, negated))
            self._place = found.end()
        # Not one of them, where what is before the first is a "!".
        one = all if negated else any
        return lambda item: one(test(item) for test in tests)

    def _test(self, found: re.Match[str], key: str, sign: str, negated: bool) -> Test:
        pattern, value = found["regex"], (found["value"] if found["quoted"] is None else found["quoted"])
        try:
            compiled = re.compile(re.escape(value) if pattern is None else pattern, re.IGNORECASE | re.MULTILINE)
        except re.error as error:
            raise UsageError(f"not a regular expression: {error.msg} at {(error.pos or 0) + 1}") from None
        if not key and found[0].strip("!") == "":
            raise UsageError("the word or condition that ! is to leave out is missing")
        if not key:
            return lambda item: (compiled.search(_words(item)) is not None) != negated
        # The dotted key that its last part stands for, where only one does.
        ends = [name for name in self._settings if name.endswith(f".{key}")] if key not in FIELDS else []
        full = ends[0] if len(ends) == 1 else key
        if full not in FIELDS and self._settings and full not in self._settings:
            raise UsageError(did_you_mean(key, [*FIELDS, *self._settings]))
        if full not in FIELDS and not self._settings and "." not in key:
            raise UsageError(did_you_mean(key, FIELDS))
        states = [*STATES, "unreadable"]
        if full == "state" and pattern is None and value and value.lower() not in states:
            raise UsageError(did_you_mean(value, states))
        if sign == ":":
            match = compiled.fullmatch if full in _EXACT and pattern is None and value else compiled.search
            return self._on_runs(full, lambda known: match(_text(known)) is not None, negated)
        limit = number(value)
        if limit is None and (sign not in ("=", "!=") or full in NUMBERS or not value):
            raise UsageError(f"{full}{sign} needs a number")

        def holds(known: Any) -> bool:
            if limit is not None and (other := number_of(known)) is not None:
                return _SIGNS[sign](other, limit)
            return sign in ("=", "!=") and full not in NUMBERS and _SIGNS[sign](_text(known).lower(), value.lower())

        return self._on_runs(full, holds, negated)

    def _on_runs(self, key: str, holds: Callable[[Any], bool], negated: bool) -> Test:
        def test(item: RunView | Report) -> bool:
            if isinstance(item, Report):  # it has a name and words, and matches no condition on runs
                return key == "study" and holds(item.study) != negated
            return holds(value_of(item, key, self._accuracy)) != negated

        return test

    def __call__(self, item: RunView | Report) -> bool:
        return not self.fault and any(all(test(item) for test in group) for group in self._groups)


def _words(item: RunView | Report) -> str:
    return f"{item.study} {item.kind}" if isinstance(item, Report) else f"{item.id}\n{item.label}\n{item.short}"


def _text(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, bool | int) else value_text(value)


def completions(views: list[RunView]) -> list[str]:
    """What may be typed: the conditions, with the values there are."""
    out = [f"{key}{'<' if key in NUMBERS else ':'}" for key in FIELDS]
    for key in ("state", "system", "owner", "tag", "data", "model"):
        values = {part for view in views for part in _text(FIELDS[key](view)).split()}
        out += [f"{key}:{value}" for value in sorted(values)[:50]]
    return [*out, *(f"{key}:" for key in settings_in(views))]
