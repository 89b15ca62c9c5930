"""What can be done to runs, for every screen that shows runs: each asks on the last line and defaults to no.

Everything goes through the run folder (requests, notes) or starts the same command that the command line starts, in its
own session, so nothing here lives in the viewer.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.common.safe_io import MAX_TOML, read_bytes
from lsc_engine.errors import LscError
from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.layout import PRESET
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read import notes
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.table import write_csv
from lsc_engine.studies import control
from lsc_engine.userpaths import home_path
from lsc_tui.data.run_view import RunView
from lsc_tui.lines import size_text
from lsc_tui.screens.base import Answers

if TYPE_CHECKING:
    from lsc_tui.modals.text import TextScreen
    from lsc_tui.screens.base import LscScreen

    _Base = LscScreen
else:
    _Base = object

_MOVING = ("starting", "running", "stopping", "stalled")
DEMO = "the demo replays recorded runs and trains nothing; lsc-tui without --demo does"
# What `resume` goes on with; of a stalled one it makes sure first that its process is gone.
_OVER = ("stopped", "failed", "diverged", "lost", "stalled")


def named(views: list[RunView]) -> str:
    """`fig9 n_min s2`, or `fig9: 6 runs`."""
    first = views[0]
    study = first.study.rpartition("/")[2]
    return f"{study} {first.label} s{first.seed}" if len(views) == 1 else f"{study}: {len(views)} runs"


def engine(*words: str) -> str:
    """Run `lsc-engine` with these words to its end; its standard output. LscError with what it said if it fails."""
    argv = python_command("-m", "lsc_engine", *words)
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise LscError(said[0] if said else f"lsc-engine {words[0]} ended with {done.returncode}")
    return done.stdout


# Key -> format of `lsc-engine export` and the word for it; the CSV is written here, it needs nothing else.
_FORMATS = {"c": ("csv", "CSV"), "p": ("parquet", "Parquet"), "s": ("svg", "SVG"), "f": ("pdf", "PDF"),
            "n": ("png", "PNG")}  # fmt: skip


def export_runs(runs: Sequence[Run], ending: str, path: Path) -> list[Path]:
    """Metrics (csv, parquet; in `path`) or curves (svg, pdf, png; a file per metric beside `path`) of runs, as
    `lsc-engine export` writes them. The files; LscError with its words where that fails."""
    if ending == "csv":
        write_csv([Run(run.path, run.id, run.root) for run in runs], path)
        return [path]
    out = path if ending == "parquet" else path.parent
    told = engine("export", *(str(run.path) for run in runs), "--to", ending, "--out", str(out), "--force", "--json")
    return [Path(name) for name in json.loads(told)["files"]]


class RunCommands(_Base):
    """Mixed into a screen; `targets` are the runs that a command acts on."""

    def targets(self) -> list[RunView]:
        """The highlighted run, or the runs of the highlighted row."""
        return []

    def no_run(self) -> str:
        """Why there is no run to act on."""
        return "no run is highlighted"

    def _reason(self, states: tuple[str, ...], words: str) -> str:
        views = self.targets()
        if not views:
            return self.no_run()
        if views[0].read_only:
            return f"{views[0].status.owner or 'another'}'s folder is read only"
        if not any(view.state in states for view in views):
            return words if len(views) > 1 else f"{views[0].state} {words}".strip()
        return ""

    def _try(self, work: Callable[[], None], words: str) -> None:
        """Do something to a run folder away from the UI thread; say how it went."""

        def job() -> None:
            try:
                work()
            except (LscError, OSError) as error:
                self.app.call_soon(self.say, str(error).splitlines()[0], "error")
                return
            self.app.call_soon(self.say, words)
            self.app.poller.rescan()

        self.run_worker(job, thread=True, group="actions", exit_on_error=False)

    # --- stop, checkpoint, resume -------------------------------------------------------------------------------

    def why_not_stop(self) -> str:
        return self._reason((*_MOVING, "queued"), "already")

    def do_stop(self) -> None:
        views = [v for v in self.targets() if v.state in (*_MOVING, "queued")]
        where = f" on {views[0].status.host}" if views[0].status.host else ""

        def stop() -> None:
            for view in views:
                requests.request(view.run.path, "stop")

        def kill() -> None:
            for view in views:
                control.kill(view.run.path)

        answers = {"y": ("stop with checkpoint", lambda: self._try(stop, f"stop asked of {named(views)}"))}
        if not self.app.demo:
            answers["k"] = ("kill now", lambda: self._try(kill, f"killed {named(views)}"))
        self.ask(f"stop {named(views)}{where}?", answers)

    def why_not_fork(self) -> str:
        """A fork lies beside its parent, so it needs the parent's folder; N needs none."""
        views = self.targets()
        if len(views) > 1:
            return "highlight one run"
        reason = self._reason(self._any_state(), "")
        return f"{reason}; N makes a new run with its settings" if reason and views and views[0].read_only else reason

    def why_not_checkpoint(self) -> str:
        return DEMO if self.app.demo else self._reason(_MOVING, "and cannot save now")

    def do_checkpoint(self) -> None:
        views = [v for v in self.targets() if v.state in _MOVING]

        def work() -> None:
            for view in views:
                requests.request(view.run.path, "checkpoint")

        self._try(work, f"checkpoint asked of {named(views)}")

    def why_not_resume(self) -> str:
        return DEMO if self.app.demo else self._reason((*_OVER, "queued"), "already")

    def do_resume(self) -> None:
        views = [v for v in self.targets() if v.state in _OVER]
        if not views:
            self._start_queued([v for v in self.targets() if v.state == "queued"])
            return

        def work() -> None:
            for view in views:
                engine("resume", view.id, "--runs-dir", str(view.run.root), "--detach", *self.app.plugin_words)

        self.ask(f"resume {named(views)}?", {"y": ("resume", lambda: self._try(work, f"resumed {named(views)}"))})

    def _start_queued(self, views: list[RunView]) -> None:
        """Start a run that waits, whatever is before it: also one whose queue has ended with its machine."""
        view = views[0]

        def work() -> None:
            engine("resume", view.id, "--runs-dir", str(view.run.root), "--detach", *self.app.plugin_words)

        words = f"start {named(views[:1])} now, out of its turn?"
        self.ask(words, {"y": ("start", lambda: self._try(work, f"started {named(views[:1])}"))})

    # --- files --------------------------------------------------------------------------------------------------

    def why_not_toml(self) -> str:
        return "" if self.targets() else self.no_run()

    why_not_export = why_not_toml

    def do_toml(self) -> None:
        view = self.targets()[0]
        self.show_file(view.run.path / PRESET, f"{view.id} · {PRESET}")

    def show_file(self, path: Path, title: str) -> None:
        """A text file over the screen."""

        def work() -> None:
            from lsc_tui.modals.text import TextScreen

            try:
                text = read_bytes(path, MAX_TOML).decode("utf-8", "replace")
            except LscError as error:
                self.app.call_soon(self.say, str(error), "error")
                return
            self.app.call_soon(self._open_text, TextScreen(title, text, prose=path.suffix == ".md"))

        self.run_worker(work, thread=True, group="actions", exit_on_error=False)

    def _open_text(self, text: TextScreen) -> None:
        if self.idle:
            self.app.push_screen(text)

    def do_export(self) -> None:
        views = self.targets()
        stem = "-".join(views[0].id.split("/")[-3 if len(views) == 1 else -2 :][: 3 if len(views) == 1 else 1])
        answers: Answers = {}
        for key, (ending, word) in _FORMATS.items():
            path = Path.cwd() / f"{stem}.{ending}"
            answers[key] = (word, partial(self._export, [view.run for view in views], ending, path))
        answers["i"] = ("screen", partial(self._write_screen, Path.cwd() / f"{stem}-screen.svg"))
        self.ask(f"write {named(views)} here as", answers)

    def _export(self, runs: Sequence[Run], ending: str, path: Path) -> None:
        self.say(f"writing {path.name} …")

        def job() -> None:
            try:
                files = export_runs(runs, ending, path)
            except (LscError, OSError) as error:
                self.app.call_soon(self.say, str(error).splitlines()[0], "error")
                return
            more = f" and {', '.join(file.name for file in files[1:])}" if len(files) > 1 else ""
            self.app.call_soon(self.say, f"wrote {home_path(files[0])}{more}")

        self.run_worker(job, thread=True, group="actions", exit_on_error=False)

    def _write_screen(self, path: Path) -> None:
        # The picture is made here and now; only the writing may take its time.
        drawn = self.app.export_screenshot(title=path.stem)

        def write() -> None:
            path.write_text(drawn, encoding="utf-8")

        self._try(write, f"wrote {home_path(path)}")

    # --- notes, tags, trash -------------------------------------------------------------------------------------

    def why_not_note(self) -> str:
        return self._reason(self._any_state(), "")

    why_not_tag = why_not_note

    def _any_state(self) -> tuple[str, ...]:
        return tuple(view.state for view in self.targets())

    def do_note(self) -> None:
        views = self.targets()

        def done(text: str) -> None:
            def work() -> None:
                for view in views:
                    notes.add_note(view.run.path, text)

            if text.strip():
                self._try(work, f"noted on {named(views)}")

        self.prompt(f"note on {named(views)}", done)

    def do_tag(self) -> None:
        views = self.targets()

        def done(text: str) -> None:
            def work() -> None:
                for view in views:
                    for tag in text.split():
                        notes.add_tag(view.run.path, tag)

            if text.strip():
                self._try(work, f"tagged {named(views)}")

        self.prompt(f"tag for {named(views)}", done)

    def why_not_delete(self) -> str:
        reason = self._reason(self._any_state(), "")
        if reason:
            return reason
        moving = [v for v in self.targets() if v.state in _MOVING and v.status.alive() is not False]
        return f"{named(moving)} is {moving[0].state}, stop it first" if moving else ""

    def do_delete(self) -> None:
        views = self.targets()
        size = sum(notes.folder_size(view.run.path) for view in views)

        def work() -> None:
            for view in views:
                root = view.run.root
                if root is not None:
                    notes.move_to_trash(root, view.id, view.run.path)
                    self.app.store.deleted.add(view.key)

        answers = {"y": ("move to .trash", lambda: self._try(work, f"{named(views)} moved to .trash"))}
        self.ask(f"delete {named(views)}, {size_text(size)}?", answers)
