"""How a study stands, in a word for the list of runs and in lines for Compare, worked out off the UI thread whenever
one of its runs begins or ends.

A study whose preset makes claims has their verdicts, as in its report, once its runs have ended. The word for any other
sums up analysis.verdict: the verdict that all variants share, `verdicts differ`, or `open` while nothing is decided.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from lsc_engine.common.errors import LscError
from lsc_engine.common.safe_io import MAX_TOML, decoded, read_bytes
from lsc_engine.runs.folder.layout import METRICS
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.studies import STUDIES, tries_beside
from lsc_tui.data.run_view import RunView
from lsc_tui.lines import clean

# Of a study with more bytes of metrics than this the list says nothing; Compare does.
MOST_BYTES = 32 << 20
OPEN = "verdict open"
_ENDED = ("finished", "failed", "diverged", "stopped", "lost")
Claims = tuple[tuple[str, str], ...]  # claim and verdict
Key = tuple[int, str]  # folder and study
States = frozenset[tuple[str, str]]  # the runs of a study with their states


def _large(runs: Sequence[Run]) -> bool:
    size = 0
    for run in runs:
        with contextlib.suppress(OSError):
            size += (run.path / METRICS).stat().st_size
    return size > MOST_BYTES


def standing(runs: Sequence[Run]) -> str:
    """`verdict open`, `holds`, `fails`, `verdicts differ`; "" where nothing can be compared. Never raises for what a
    folder holds: Compare says what is wrong with it."""
    if _large(runs) or len(runs) < 2:
        return ""
    from lsc_engine.analysis.compare import compare
    from lsc_engine.analysis.verdict import verdicts

    try:
        results = {verdict.result for verdict in verdicts(compare(runs, tries=tries_beside(runs))) if not verdict.note}
    except Exception:
        return ""
    if results <= {"open"}:
        return OPEN if results else ""
    return results.pop() if len(results) == 1 else "verdicts differ"


def word_of(claims: Claims) -> str:
    """The verdicts of all claims in few words: `holds`, `does not hold`, `2 of 3 claims hold`."""
    bare = [re.sub(r"^by (accuracy|loss): ", "", verdict) for _, verdict in claims]
    held = bare.count("holds")
    if all(verdict == "open" for _, verdict in claims):
        return OPEN if claims else ""
    if len(claims) == 1:
        return bare[0] if bare[0] in ("holds", "does not hold") else "holds in part"
    return f"all {held} claims hold" if held == len(claims) else f"{held} of {len(claims)} claims hold"


def makes_claims(folder: Path, study: str) -> bool:
    """Whether the preset that a study was started from makes claims of its own."""
    try:
        return bool(tomllib.loads(decoded(read_bytes(folder / STUDIES / f"{study}.toml", MAX_TOML))).get("claims"))
    except (LscError, OSError, ValueError, RecursionError):
        return False


class VerdictService:
    """The verdicts that are known, by study; one thread at a time works out those that are wanted."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[States, str, Claims]] = {}
        self._busy = self._stopped = False
        self._process: subprocess.Popen[str] | None = None

    def word(self, view: RunView) -> str:
        return self._known.get((view.root, view.study), (None, "", ()))[1]

    def _fresh(self, views: Sequence[RunView]) -> bool:
        return self._known.get(_key(views), (None,))[0] == _states(views)

    def claims(self, views: Sequence[RunView]) -> Claims:
        """The claims of a whole study with their verdicts; none while they are not known for its runs as they are."""
        return self._known[_key(views)][2] if self._fresh(views) else ()

    def whole(self, studies: Sequence[Sequence[RunView]]) -> bool:
        """Whether every one of these studies has the verdict of its runs as they are."""
        return not self._busy and all(self._fresh(views) for views in studies)

    def request(
        self,
        studies: Sequence[Sequence[RunView]],
        call_soon: Callable[[Callable[[], None]], None],
        changed: Callable[[], None],
    ) -> None:
        """Work out those of these studies that changed, in a thread, unless some are being worked out; `call_soon`
        does a thing in the thread of the screens."""
        pending = [] if self._busy else [views for views in studies if views and not self._fresh(views)]
        if pending:
            self._busy = True
            # No worker of the application, which would be waited for at its end.
            todo = (pending, lambda: call_soon(changed))
            threading.Thread(target=self.answer, args=todo, name="standing", daemon=True).start()

    def answer(self, pending: Sequence[Sequence[RunView]], changed: Callable[[], None]) -> None:
        """Work them out, calling `changed` after each; may read all metrics of the studies and start a process."""
        try:
            by_folder: dict[Path, dict[str, Sequence[RunView]]] = {}
            for views in pending:
                if self._stopped:
                    return
                study, folder = views[0].study, views[0].run.root
                if folder is None or not makes_claims(folder, study):
                    self._known[_key(views)] = (_states(views), standing([v.run.again() for v in views]), ())
                    changed()
                    continue
                # Until it is judged, and where it cannot be.
                self._known[_key(views)] = (_states(views), OPEN, ())
                if all(view.state in _ENDED for view in views) and not _large([view.run for view in views]):
                    by_folder.setdefault(folder, {})[study] = views
            for folder, asked in by_folder.items():
                if not self._stopped:
                    changed()
                    self._judge(folder, asked, changed)
        finally:
            self._busy = False
        changed()

    def _judge(self, folder: Path, studies: dict[str, Sequence[RunView]], changed: Callable[[], None]) -> None:
        argv = python_command("-m", "lsc_engine.report.claims", str(folder), *studies)
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            self._process = process
            if self._stopped:
                process.terminate()
            for line in process.stdout or ():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    document = json.loads(line)
                    views = studies[document["study"]]
                    claims = tuple((clean(one["claim"]), clean(one["verdict"])) for one in document["claims"])
                    word = word_of(claims) or standing([view.run.again() for view in views])
                    self._known[_key(views)] = (_states(views), word, claims)
                changed()
        self._process = None

    def stop(self) -> None:
        """End what is being worked out; nothing is begun any more."""
        self._stopped = True
        if (process := self._process) is not None and process.poll() is None:
            process.terminate()


def _key(views: Sequence[RunView]) -> Key:
    return views[0].root, views[0].study


def _states(views: Sequence[RunView]) -> States:
    return frozenset((view.key, view.state) for view in views)
