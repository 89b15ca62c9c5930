"""How studies stand, in a word for the list of runs and in lines for Compare, worked out by another process
(lsc_engine.report.claims) whenever a run of theirs begins or ends."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from lsc_engine.runs.folder.process import python_command
from lsc_tui.data.run_view import RunView
from lsc_tui.lines import clean

Claims = tuple[tuple[str, str], ...]  # claim and verdict
Key = tuple[int, str]  # folder and study
States = frozenset[tuple[str, str]]  # the runs of a study with their states


class VerdictService:
    """The verdicts that are known, by study; one process at a time works out those that are wanted."""

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
        """Work out those of these studies that changed, unless some are being worked out; `call_soon` does a thing in
        the thread of the screens."""
        by_folder: dict[Path | None, dict[str, Sequence[RunView]]] = {}
        for views in [] if self._busy or self._stopped else studies:
            if views and not self._fresh(views):
                by_folder.setdefault(views[0].run.root, {})[views[0].study] = views
        if by_folder:
            self._busy = True
            # No worker of the application, which would be waited for at its end.
            work = (by_folder, lambda: call_soon(changed))
            threading.Thread(target=self._work_out, args=work, name="standing", daemon=True).start()

    def _work_out(
        self, by_folder: dict[Path | None, dict[str, Sequence[RunView]]], changed: Callable[[], None]
    ) -> None:
        for folder, studies in by_folder.items():
            # Without an answer a study keeps the word that it had.
            known = {_key(views): (_states(views), self.word(views[0]), Claims()) for views in studies.values()}
            argv = python_command("-m", "lsc_engine.report.claims", str(folder), *studies)
            with (
                contextlib.suppress(OSError),
                subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    encoding="utf-8",
                    errors="replace",
                ) as process,
            ):
                self._process = process
                if self._stopped:
                    process.terminate()
                for line in process.stdout or ():
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        document = json.loads(line)
                        views = studies[document["study"]]
                        claims = tuple((clean(one["claim"]), clean(one["verdict"])) for one in document["claims"])
                        self._known[_key(views)] = known.pop(_key(views))[0], clean(document["word"]), claims
                    changed()
            self._process = None
            self._known |= known
        self._busy = False
        changed()

    def stop(self) -> None:
        """End what is being worked out; nothing is begun any more."""
        self._stopped = True
        if (process := self._process) is not None and process.poll() is None:
            process.terminate()


def _key(views: Sequence[RunView]) -> Key:
    return views[0].root, views[0].study


def _states(views: Sequence[RunView]) -> States:
    return frozenset((view.key, view.state) for view in views)
