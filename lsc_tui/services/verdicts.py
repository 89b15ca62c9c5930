"""How a study stands, in a word for the list of runs and in lines for Compare, worked out off the UI thread whenever
one of its runs begins or ends.

The verdict of a study whose preset makes claims is theirs, as in its report (lsc_engine.report.claims, in a process of
its own), once its runs have ended. The word for any other sums up analysis.verdict: `holds`, `fails` or another verdict
where all variants have it by accuracy and by loss, `verdicts differ` where they do not, `open` while nothing is
decided. What is not compared (another loss, other data) does not count.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
_HOLDS = re.compile(r"(by (accuracy|loss): )?holds")
_FAILS = re.compile(r"(by (accuracy|loss): )?does not hold")
Claims = tuple[tuple[str, str], ...]  # claim and verdict


@dataclass(frozen=True)
class VerdictRequest:
    """A study whose verdict is wanted: its runs as they are known."""

    views: tuple[RunView, ...]

    @property
    def key(self) -> tuple[int, str]:
        return self.views[0].root, self.views[0].study

    @property
    def signature(self) -> frozenset[tuple[str, str]]:
        return frozenset((view.key, view.state) for view in self.views)


@dataclass(frozen=True)
class VerdictResult:
    """The verdict of a study, for its runs as they were."""

    signature: frozenset[tuple[str, str]] = frozenset()
    word: str = ""
    claims: Claims = ()


def standing(runs: Sequence[Run]) -> str:
    """`verdict open`, `holds`, `fails`, `verdicts differ`; "" where nothing can be compared."""
    if _large(runs) or len(runs) < 2:
        return ""
    from lsc_engine.analysis.compare import compare
    from lsc_engine.analysis.verdict import verdicts

    try:
        found = verdicts(compare(runs, tries=tries_beside(runs)))
    except (LscError, ValueError, ArithmeticError):
        return ""
    results = {verdict.result for verdict in found if not verdict.note}
    if results <= {"open"}:
        return OPEN if results else ""
    return results.pop() if len(results) == 1 else "verdicts differ"


def _large(runs: Sequence[Run]) -> bool:
    size = 0
    for run in runs:
        with contextlib.suppress(OSError):
            size += (run.path / METRICS).stat().st_size
    return size > MOST_BYTES


def word_of(claims: Claims) -> str:
    """The verdicts of all claims in few words: `holds`, `does not hold`, `2 of 3 claims hold`."""
    held = sum(1 for _, verdict in claims if _HOLDS.fullmatch(verdict))
    if not claims or all(verdict == "open" for _, verdict in claims):
        return OPEN if claims else ""
    if held == len(claims):
        return "holds" if held == 1 else f"all {held} claims hold"
    if len(claims) == 1:
        return "does not hold" if _FAILS.fullmatch(claims[0][1]) else "holds in part"
    return f"{held} of {len(claims)} claims hold"


def makes_claims(folder: Path, study: str) -> bool:
    """Whether the preset that a study was started from makes claims of its own."""
    try:
        return bool(tomllib.loads(decoded(read_bytes(folder / STUDIES / f"{study}.toml", MAX_TOML))).get("claims"))
    except (LscError, OSError, ValueError, RecursionError):
        return False


class VerdictService:
    """The verdicts that are known, by study; one thread at a time works out those that are wanted."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], VerdictResult] = {}
        self._busy = self._stopped = False
        self._process: subprocess.Popen[str] | None = None

    def word(self, view: RunView) -> str:
        """The word for the study of a run, as last worked out."""
        return self._known.get((view.root, view.study), VerdictResult()).word

    def claims(self, views: Sequence[RunView]) -> Claims:
        """The claims of a whole study with their verdicts; none while they are not known for its runs as they are."""
        request = VerdictRequest(tuple(views))
        return self._known[request.key].claims if self._fresh(request) else ()

    def _fresh(self, request: VerdictRequest) -> bool:
        return self._known.get(request.key, VerdictResult()).signature == request.signature

    def whole(self, studies: Sequence[Sequence[RunView]]) -> bool:
        """Whether every one of these studies has the verdict of its runs as they are."""
        return not self._busy and all(self._fresh(VerdictRequest(tuple(views))) for views in studies)

    def pending(self, studies: Sequence[Sequence[RunView]]) -> list[VerdictRequest]:
        """Those of these studies that are to be worked out; none while some are."""
        if self._busy:
            return []
        requests = (VerdictRequest(tuple(views)) for views in studies if views)
        found = [request for request in requests if not self._fresh(request)]
        self._busy = bool(found)
        return found

    def request(
        self,
        studies: Sequence[Sequence[RunView]],
        call_soon: Callable[[Callable[[], None]], None],
        changed: Callable[[], None],
    ) -> None:
        """Work out those that are pending, in a thread; `call_soon` does a thing in the thread of the screens."""
        pending = self.pending(studies)
        if not pending:
            return

        def work() -> None:
            self.answer(pending, lambda: call_soon(changed))
            call_soon(changed)

        # No worker of the application, which would be waited for at its end.
        threading.Thread(target=work, name="standing", daemon=True).start()

    def answer(self, pending: Sequence[VerdictRequest], changed: Callable[[], None]) -> None:
        """Work them out, calling `changed` after each; may read all metrics of the studies and start a process."""
        try:
            by_folder: dict[Path, dict[str, VerdictRequest]] = {}
            for request in pending:
                if self._stopped:
                    return
                view, folder = request.views[0], request.views[0].run.root
                if folder is None or not makes_claims(folder, view.study):
                    self._known[request.key] = VerdictResult(request.signature, _word(request))
                    changed()
                    continue
                # Until it is judged, and where it cannot be.
                self._known[request.key] = VerdictResult(request.signature, OPEN)
                ended = all(view.state in _ENDED for view in request.views)
                if ended and not _large([view.run for view in request.views]):
                    by_folder.setdefault(folder, {})[view.study] = request
            for folder, studies in by_folder.items():
                if not self._stopped:
                    changed()
                    self._judge(folder, studies, changed)
            changed()
        finally:
            self._busy = False

    def _judge(self, folder: Path, studies: dict[str, VerdictRequest], changed: Callable[[], None]) -> None:
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
                    request = studies[document["study"]]
                    claims = tuple((clean(one["claim"]), clean(one["verdict"])) for one in document["claims"])
                    word = word_of(claims) or _word(request)
                    self._known[request.key] = VerdictResult(request.signature, word, claims)
                changed()
        self._process = None

    def stop(self) -> None:
        """End what is being worked out; nothing is begun any more."""
        self._stopped = True
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()


def _word(request: VerdictRequest) -> str:
    try:
        return standing([view.run.again() for view in request.views])
    except Exception:  # a damaged folder must not end the list; Compare says what is wrong
        return ""
