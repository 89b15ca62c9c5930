"""How a study stands, in a word for the list of runs. Told off the UI thread, again when a run of it begins or ends.

The word sums up runs.verdict: `holds` or `fails` where all variants agree by accuracy and by loss, `differs` where they
do not, `open` while nothing is decided. What is not compared (another loss, other data) does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lsc_engine.errors import LscError
from lsc_engine.runs.layout import METRICS
from lsc_engine.runs.run import Run
from lsc_tui.model import RunView
from lsc_tui.widgets.runs_table import Row

# Of a study with more bytes of metrics than this the list says nothing; Compare does.
MOST_BYTES = 32 << 20
Key = tuple[int, str]
Signature = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Asked:
    """A study whose word is to be told: its runs as they are known."""

    key: Key
    signature: Signature
    views: tuple[RunView, ...]


def standing(runs: Sequence[Run]) -> str:
    """`verdict open`, `holds`, `fails`, `differs`; "" where nothing can be compared."""
    size = 0
    for run in runs:
        try:
            size += (run.path / METRICS).stat().st_size
        except OSError:
            continue
    if size > MOST_BYTES or len(runs) < 2:
        return ""
    from lsc_engine.runs.compare import compare
    from lsc_engine.runs.verdict import verdicts

    try:
        told = verdicts(compare(runs))
    except (LscError, ValueError, ArithmeticError):
        return ""
    results = {verdict.result for verdict in told if not verdict.note}
    if not results:
        return ""
    if results <= {"open"}:
        return "verdict open"
    return results.pop() if len(results) == 1 and results <= {"holds", "fails"} else "differs"


def _studies(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.kind == "study"]


def _key(row: Row) -> Key:
    return row.views[0].root, row.views[0].study


def _signature(row: Row) -> Signature:
    return tuple((view.key, view.state) for view in row.views)


class Standings:
    """The words that are known, by study."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[Signature, str]] = {}
        self._busy = False

    def word(self, view: RunView) -> str:
        """The word of the study of a run, as last told."""
        return self._known.get((view.root, view.study), ((), ""))[1]

    def whole(self, rows: Sequence[Row]) -> bool:
        """Whether every study of these rows has the word of its runs as they are."""
        return not self._busy and all(
            self._known.get(_key(row), ((), ""))[0] == _signature(row) for row in _studies(rows)
        )

    def next_of(self, rows: Sequence[Row]) -> Asked | None:
        """The next study among these rows that is to be told; None while one is being told."""
        if self._busy:
            return None
        for row in _studies(rows):
            if self._known.get(_key(row), ((), ""))[0] != _signature(row):
                self._busy = True
                return Asked(_key(row), _signature(row), tuple(row.views))
        return None

    def answer(self, asked: Asked) -> None:
        """Tell it; may read all metrics of the study."""
        try:
            word = standing([Run(view.run.path, view.id, view.run.root) for view in asked.views])
        except Exception:  # a damaged folder must not end the list; Compare says what is wrong
            word = ""
        self._known[asked.key] = (asked.signature, word)
        self._busy = False
