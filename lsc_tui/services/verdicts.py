"""How a study stands, in a word for the list of runs and in lines for Compare, worked out off the UI thread whenever
one of its runs begins or ends.

A study whose preset makes claims is told by them, as its report tells it (lsc_engine.report.claims, in a process of its
own), once its runs have ended. The word for any other sums up analysis.verdict: `holds`, `fails` or another verdict
where all variants have it by accuracy and by loss, `differs` where they do not, `open` while nothing is decided. What
is not compared (another loss, other data) does not count.
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

from lsc_engine.common.safe_io import MAX_TOML, read_bytes
from lsc_engine.errors import LscError
from lsc_engine.runs.folder.layout import METRICS
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.studies import STUDIES
from lsc_engine.textfiles import decoded
from lsc_tui.data.run_view import RunView
from lsc_tui.lines import clean

# Of a study with more bytes of metrics than this the list says nothing; Compare does.
MOST_BYTES = 32 << 20
OPEN = "verdict open"
_ENDED = ("finished", "failed", "diverged", "stopped", "lost")
_HOLDS = re.compile(r"(by (accuracy|loss): )?holds")
_FAILS = re.compile(r"(by (accuracy|loss): )?does not hold")
Key = tuple[int, str]
Signature = tuple[tuple[str, str], ...]
Claims = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class VerdictRequest:
    """A study whose word is to be told: its runs as they are known."""

    views: tuple[RunView, ...]

    @property
    def key(self) -> Key:
        return self.views[0].root, self.views[0].study

    @property
    def signature(self) -> Signature:
        return tuple((view.key, view.state) for view in self.views)

    @property
    def folder(self) -> Path | None:
        """Its runs folder."""
        return self.views[0].run.root


@dataclass(frozen=True)
class VerdictResult:
    """What is known of a study, for its runs as they were."""

    signature: Signature
    word: str = ""
    claims: Claims = ()


def standing(runs: Sequence[Run]) -> str:
    """`verdict open`, `holds`, `fails`, `differs`; "" where nothing can be compared."""
    if _large(runs) or len(runs) < 2:
        return ""
    from lsc_engine.analysis.compare import compare
    from lsc_engine.analysis.verdict import verdicts
    from lsc_engine.runs.read.studies import tries_beside

    try:
        told = verdicts(compare(runs, tries=tries_beside(runs)))
    except (LscError, ValueError, ArithmeticError):
        return ""
    results = {verdict.result for verdict in told if not verdict.note}
    if not results:
        return ""
    if results <= {"open"}:
        return OPEN
    return results.pop() if len(results) == 1 else "differs"


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


def makes_claims(folder: Path | None, study: str) -> bool:
    """Whether the preset that a study was started from makes claims of its own."""
    if folder is None:
        return False
    try:
        text = decoded(read_bytes(folder / STUDIES / f"{study}.toml", MAX_TOML))
        return "claims" in text and bool(tomllib.loads(text).get("claims"))
    except (LscError, OSError, ValueError, RecursionError):
        return False


class VerdictService:
    """The words that are known, by study."""

    def __init__(self) -> None:
        self._known: dict[Key, VerdictResult] = {}
        self._busy = self._stopped = False
        self._process: subprocess.Popen[str] | None = None

    def word(self, view: RunView) -> str:
        """The word of the study of a run, as last told."""
        return self._told((view.root, view.study)).word

    def claims(self, views: Sequence[RunView]) -> Claims:
        """The claims of a whole study with their verdicts; none while they are not told for its runs as they are."""
        asked = VerdictRequest(tuple(views))
        told = self._told(asked.key)
        return told.claims if set(told.signature) == set(asked.signature) else ()

    def _told(self, key: Key) -> VerdictResult:
        return self._known.get(key, VerdictResult(()))

    def _fresh(self, asked: VerdictRequest) -> bool:
        return set(self._told(asked.key).signature) == set(asked.signature)

    def whole(self, studies: Sequence[Sequence[RunView]]) -> bool:
        """Whether every one of these studies has the word of its runs as they are."""
        return not self._busy and all(self._fresh(VerdictRequest(tuple(views))) for views in studies)

    def pending(self, studies: Sequence[Sequence[RunView]]) -> list[VerdictRequest]:
        """Those of these studies that are to be told; none while some are being told."""
        if self._busy:
            return []
        found = [
            asked for asked in (VerdictRequest(tuple(views)) for views in studies if views) if not self._fresh(asked)
        ]
        self._busy = bool(found)
        return found

    def tell(
        self, studies: Sequence[Sequence[RunView]], call: Callable[[Callable[[], None]], None],
        told: Callable[[], None],
    ) -> None:  # fmt: skip
        """Tell those that are to be told, in a thread; `call` does a thing in the thread of the screens."""
        pending = self.pending(studies)
        if not pending:
            return

        def work() -> None:
            self.answer(pending, lambda: call(told))
            call(told)

        # No worker of the application, which would be waited for at its end.
        threading.Thread(target=work, name="standing", daemon=True).start()

    def answer(self, pending: Sequence[VerdictRequest], told: Callable[[], None]) -> None:
        """Tell them, calling `told` after each; may read all metrics of the studies and start a process."""
        try:
            claiming: list[VerdictRequest] = []
            for asked in pending:
                if self._stopped:
                    return
                if makes_claims(asked.folder, asked.views[0].study):
                    claiming.append(asked)
                else:
                    self._known[asked.key] = VerdictResult(asked.signature, _word(asked))
                    told()
            self._judge(claiming, told)
        finally:
            self._busy = False

    def _judge(self, claiming: Sequence[VerdictRequest], told: Callable[[], None]) -> None:
        by_folder: dict[Path, dict[str, VerdictRequest]] = {}
        for asked in claiming:
            # Until it is judged, and where it cannot be.
            self._known[asked.key] = VerdictResult(asked.signature, OPEN)
            ended = all(view.state in _ENDED for view in asked.views)
            if ended and asked.folder is not None and not _large([view.run for view in asked.views]):
                by_folder.setdefault(asked.folder, {})[asked.views[0].study] = asked
        told()
        for folder, studies in by_folder.items():
            if self._stopped:
                return
            argv = python_command("-m", "lsc_engine.report.claims", str(folder), *studies)
            with subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as process:  # fmt: skip
                self._process = process
                if self._stopped:
                    process.terminate()
                for line in process.stdout or ():
                    self._take(line, studies)
                    told()
            self._process = None

    def _take(self, line: str, studies: dict[str, VerdictRequest]) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            document = json.loads(line)
            asked = studies[document["study"]]
            claims = tuple((clean(one["claim"]), clean(one["verdict"])) for one in document["claims"])
            self._known[asked.key] = VerdictResult(asked.signature, word_of(claims) or _word(asked), claims)

    def stop(self) -> None:
        """End what is being asked; nothing is begun any more."""
        self._stopped = True
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()


def _word(asked: VerdictRequest) -> str:
    try:
        return standing([Run(view.run.path, view.id, view.run.root) for view in asked.views])
    except Exception:  # a damaged folder must not end the list; Compare says what is wrong
        return ""
