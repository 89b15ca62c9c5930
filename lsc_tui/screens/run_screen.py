"""The commands on charts, all of which move together, and on runs, each of which asks on the last line and defaults to
no: for the screens that show them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial, partialmethod
from pathlib import Path
from typing import ClassVar

from textual.app import SuspendNotSupported

from lsc_engine.analysis.seed_curves import AXES
from lsc_engine.charts.scales import SMOOTHING
from lsc_engine.common.formatting import counted
from lsc_engine.common.safe_io import MAX_TOML, read_bytes
from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.layout import PRESET
from lsc_engine.runs.read import notes
from lsc_engine.studies import control
from lsc_tui.data.reports import PAGE
from lsc_tui.data.run_view import RunView
from lsc_tui.keymap import GROUPS
from lsc_tui.lines import clean, error_words, size_text
from lsc_tui.modals import Choice, report_lines, toml_lines
from lsc_tui.screens.base import Answers, LscScreen
from lsc_tui.services.actions import DEMO, ENDED, EXPORTS, MOVING, export_runs, move_in_queue, named, resume
from lsc_tui.widgets.chart import Chart, Look
from lsc_tui.widgets.field import LastWord
from lsc_tui.widgets.panel import Panel

# What changes nothing as long as no curve is drawn.
ON_CURVES = (
    *("cursor_left", "cursor_right", "axis", "log_x", "log_y", "smooth", "clip", "zoom_in", "zoom_out", "zoom_whole"),
    *("zoom_y_in", "zoom_y_out", "tilt_up", "tilt_down", "pan_left", "pan_right", "full"),
)
_KEPT = ("axis", "log_x", "log_y", "logit", "smoothing", "clip")


# Command -> the states of runs that it acts on, None for all.
_STATES: dict[str, tuple[str, ...] | None] = {
    "stop": (*MOVING, "queued"),
    "checkpoint": MOVING,
    "hold": ("queued",),
    "resume": (*ENDED, "queued"),
    "note": None,
    "tag": None,
}


class ChartScreen(LscScreen):
    """A screen with charts; axes and smoothing are kept in the user's view file."""

    LOOK: ClassVar[str] = "look"  # name under which they are kept

    def __init__(self) -> None:
        super().__init__()
        self.look = Look(mode=self.app.chart_mode)
        kept = self.app.ui.get(self.LOOK, {})
        for name in _KEPT:
            if type(kept.get(name)) is type(getattr(self.look, name)):
                setattr(self.look, name, kept[name])
        self.look.axis = self.look.axis if self.look.axis in AXES else "epoch"
        self.look.smoothing = self.look.smoothing if self.look.smoothing in SMOOTHING else 0.0

    def action_change(self, what: str) -> None:
        """The next x axis, scale, smoothing: kept in the user's view file."""
        words = self.look.change(what)
        self.app.ui.set(**{self.LOOK: {name: getattr(self.look, name) for name in _KEPT}})
        self.show()
        self.say(words)

    action_log_y = partialmethod(action_change, "log_y")

    @property
    def no_curve(self) -> str:
        """Why no curve is drawn; "" where one is, or where that is not known yet."""
        words = ["" if chart.has_curve else chart.empty for chart in self.walk_children(Chart) if chart.display]
        return words[0] if words and all(words) and not any(text.startswith("reading") for text in words) else ""

    def why_not(self, name: str) -> str:
        if name in ON_CURVES and (words := self.no_curve):
            return words
        if name in ("tilt_up", "tilt_down", "zoom_y_out") and self.look.magnify <= 1:
            return "the whole height is shown, > magnifies it"
        if name in ("pan_left", "pan_right", "zoom_out") and self.look.x0 is None:
            return "the whole curve is shown, + zooms in"
        if name == "zoom_whole" and not self.look.changed:
            return "the whole curve is shown"
        return super().why_not(name)

    def clicked(self, panel: Panel, x: int, y: int) -> None:
        if isinstance(panel, Chart) and panel.picture is not None and panel.series:
            column = x - panel.framed - panel.picture.left
            if 0 <= column < panel.picture.plot_width:
                self.look.cursor = panel.picture.x_at(column)
                self.show()

    def action_look(self, what: str, by: float) -> None:
        """Move the cursor, zoom, pan, or magnify the heights, in all charts."""
        look = self.look
        picture = next((c.picture for c in self.query(Chart) if c.display and c.picture is not None and c.series), None)
        if what == "whole":
            look.whole()
        elif what == "zoom_y":
            look.zoom_y(by)
        elif what == "tilt":
            look.shift = max(-look.magnify, min(look.magnify, look.shift + by / 4))
        elif picture is not None:
            getattr(look, what)(picture, by)
        self.show()

    def action_move_cursor(self, columns: int) -> None:
        self.action_look("move", columns)

    def ask_outside(self, what: str, files: dict[str, tuple[str, Path]]) -> None:
        """Show one of the files in $PAGER, or a copy of it in $EDITOR: what a run has recorded stays as it is."""
        pager = shlex.split(os.environ.get("PAGER") or "less") or ["less"]
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi") or ["vi"]

        def run(argv: list[str], path: Path, *, copied: bool) -> None:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    file = shutil.copy(path, folder) if copied else path
                    with self.app.suspend():
                        subprocess.run([*argv, str(file)], check=False)
            except (OSError, SuspendNotSupported) as error:
                self.say(error_words(error), "error")

        answers: Answers = {}
        for key, (word, path) in files.items():
            if path.is_file():
                answers[key] = (word, partial(run, pager, path, copied=False))
                answers[key.upper()] = (f"edit {word}", partial(run, editor, path, copied=True))
        self.ask(f"{what} in {Path(pager[0]).name}, or a copy in {Path(editor[0]).name}:", answers)


class RunScreen(ChartScreen):
    """`targets` are the runs that a command acts on."""

    def targets(self) -> list[RunView]:
        """The highlighted run, or the runs of the highlighted row."""
        return []

    def no_run(self) -> str:
        """Why there is no run to act on."""
        return "no run is highlighted"

    def _in_state(self, *states: str) -> list[RunView]:
        return [view for view in self.targets() if view.state in states]

    def _reason(self, states: Sequence[str] | None = None) -> str:
        """Why nothing can be done to the runs: there is none, they are another's, none is in one of the states."""
        views = self.targets()
        if not views:
            return self.no_run()
        if views[0].run.origin != "lsc":
            return f"a {views[0].run.origin} log of another tool is only read"
        if views[0].read_only:
            return f"{views[0].status.owner or 'another'}'s folder is read only"
        if states is not None and not any(view.state in states for view in views):
            found = " or ".join(dict.fromkeys(view.state for view in views))
            return f"all are {found}" if len(views) > 1 else f"it is {found}"
        return ""

    def _act(self, views: Sequence[RunView], act: Callable[[RunView], object], words: str) -> None:
        """Do something to the folders of runs off the UI thread, say how it went, and look at them."""

        def done(_: object) -> None:
            self.say(words.replace("{}", named(views)) if "{}" in words else f"{words} {named(views)}")
            self.app.poller.rescan()

        self.in_thread(lambda: [act(view) for view in views], done)

    def why_not(self, name: str) -> str:
        if name not in (*GROUPS["rows"], *GROUPS["act"]):  # others also act before there is a list
            return super().why_not(name)
        views = self.targets()
        if self.app.demo and name in ("stop", "checkpoint", "resume"):
            return DEMO
        if name == "resume" and len(views) > 1 and self._in_state("queued") and not self._in_state(*ENDED):
            return self._reason() or "highlight the run to start out of its turn"
        if name in _STATES:
            return self._reason(_STATES[name])
        if name in ("earlier", "later"):
            reason = self._reason(("queued",)) or self._why_no_copy()
            return reason or ("" if len(self._queue()) > 1 else "no other run waits in its queue")
        if name in ("toml", "export", "clipboard", "external"):
            return "" if views else self.no_run()
        if name == "copy":
            return self._why_no_copy()
        if name == "fork":
            # A fork lies beside its parent, so it needs the parent's folder; N needs none.
            several = "highlight one run" if len(views) > 1 else ""
            reason, curves = several or self._reason(), self.app.store.curves.get(views[0].key) if views else None
            if not reason and (views[0].state == "queued" or (curves is not None and not curves.checkpoints)):
                reason = "it has no checkpoint to fork from"
            more = "" if several or self._why_no_copy() else "; N makes a new run with its settings"
            return f"{reason}{more}" if reason else ""
        if name == "delete":
            moving = [v for v in self._in_state(*MOVING) if v.status.alive() is not False]
            return self._reason() or (f"stop first what is {moving[0].state}: {named(moving)}" if moving else "")
        return super().why_not(name)

    def _why_no_copy(self) -> str:
        views = self.targets()
        if views and views[0].run.origin != "lsc":
            return self._reason()
        return "highlight one run" if len(views) > 1 else "" if views else self.no_run()

    def footer(self) -> tuple[Sequence[str], dict[str, str]]:
        names, words = super().footer()
        waits = self._in_state("queued") and not self._in_state(*ENDED)
        return names, {**words, "resume": "start"} if waits else words

    def action_stop(self) -> None:
        # Those that wait first: the end of a run would let the next one begin.
        views = [*(waiting := self._in_state("queued")), *(moving := self._in_state(*MOVING))]
        where = f" on {moving[0].status.host}" if moving and moving[0].status.host else ""

        def stop(view: RunView) -> None:
            control.stop(view.run.path, view.status)

        def kill(view: RunView) -> None:
            if view in waiting:
                stop(view)
            else:
                control.kill(view.run.path)

        word, past = ("stop with checkpoint", "stop requested:") if moving else ("take it out of the queue", "stopped:")
        answers: Answers = {"y": (word, partial(self._act, views, stop, past))}
        if moving:
            # A process trains the runs of its queue one after another.
            owners = {view.queue for view in moving if view.status.identity is not None}
            waiting = [v for v in self.app.store.runs.values() if v.state == "queued" and v not in views]
            left = [v for v in waiting if v.queue in owners]
            more = f", leaving {counted(len(left), 'queued run')} waiting" if left else ""
            answers["k"] = (f"kill now{more}", partial(self._act, views, kill, "killed"))
        self.ask(f"stop {named(views)}{where}?", answers)

    def action_checkpoint(self) -> None:
        views = self._in_state(*MOVING)
        self._act(views, lambda view: requests.request(view.run.path, "checkpoint"), "checkpoint requested:")

    def _queue(self) -> list[RunView]:
        """The runs that wait for the process that the highlighted one waits for."""
        queue = self.targets()[0].queue
        return [v for v in self.app.store.runs.values() if v.state == "queued" and v.queue == queue]

    def action_move_turn(self, by: int) -> None:
        """Start a run that waits before or after its neighbour; its place stands in the column `where`, by which the
        list can be sorted."""
        view, queue = self.targets()[0], self._queue()

        def done(words: str) -> None:
            self.say(words)
            self.app.poller.rescan()

        self.in_thread(partial(move_in_queue, queue, view, by), done)

    def action_hold(self) -> None:
        views = self._in_state("queued")
        if all("hold" in requests.pending(view.run.path) for view in views):
            self._act(views, lambda view: requests.withdraw(view.run.path, "hold"), "let go:")
        else:
            self._act(views, lambda view: requests.request(view.run.path, "hold"), "held, Q lets it go:")

    def action_resume(self) -> None:
        """Go on with what has ended; else start one that waits, whatever is before it: also one whose queue has ended
        with its machine."""
        views, question, word, past = self._in_state(*ENDED), "resume {}?", "resume", "resumed"
        if not views:
            views, word, past = self._in_state("queued"), "start", "started"
            question = "start {} now, out of its turn?"
        if len(views) > 1:
            question = "resume {}, each in a process of its own, all at once?"

        def start() -> None:
            self.say(f"{word.removesuffix('e')}ing {named(views)} …")
            self._act(views, lambda view: resume(view, self.app.plugin_words), past)

        self.ask(question.format(named(views)), {"y": (word, start)})

    def action_compare(self) -> None:
        self.app.store.compared = list(self.app.store.marked) or [view.key for view in self.targets()]
        self.app.go("compare_tab")

    def _open_form(self, kind: str) -> None:
        self.app.store.form = (kind, self.targets()[0].key)
        self.app.go("new")

    action_copy = partialmethod(_open_form, "copy")
    action_fork = partialmethod(_open_form, "fork")

    def action_external(self) -> None:
        view = self.targets()[0]
        report = (view.run.root or Path(".")) / view.study / "report" / PAGE
        files = {"l": ("log", view.run.log_path), "t": ("TOML", view.run.path / PRESET), "r": ("report", report)}
        self.ask_outside(named([view]), files)

    def action_clipboard(self) -> None:
        """Through the terminal (OSC 52), so also from another host and from inside tmux."""
        view = self.targets()[0]
        log = f"lsc-engine log {view.short} --follow"
        texts = {"p": ("path", str(view.run.path.absolute())), "i": ("id", view.id), "c": ("command", log)}
        if view.status.message:
            texts["e"] = ("error" if view.state == "failed" else "message", view.status.message)

        def copy(word: str, text: str) -> None:
            self.app.copy_to_clipboard(clean(text))
            self.say(f"{word} copied: {text}")

        self.ask(f"copy of {named([view])}:", {key: (text[0], partial(copy, *text)) for key, text in texts.items()})

    def action_toml(self) -> None:
        view = self.targets()[0]
        self.show_file(view.run.path / PRESET, f"{view.id} · {PRESET}")

    def show_file(self, path: Path, title: str) -> None:
        def done(text: str) -> None:
            if self.idle:
                self.read(title, partial(report_lines, text) if path.suffix == ".md" else toml_lines(text))

        self.in_thread(lambda: read_bytes(path, MAX_TOML).decode("utf-8", "replace"), done)

    def action_export(self) -> None:
        views = self.targets()
        parts = views[0].id.split("/")
        stem = "-".join(parts[-3:] if len(views) == 1 else parts[-2:-1])

        def export(ending: str) -> None:
            # Figures are a file per metric, all in one folder.
            name = f"{stem}.{ending}" if ending in ("csv", "parquet") else f"{stem}-figures"
            self.save_as(name, partial(export_runs, [view.run for view in views], ending))

        def write_screen() -> None:
            # The picture is drawn here and now; only the writing may take its time.
            drawn = self.app.export_screenshot(title=f"{stem}-screen")
            self.save_as(f"{stem}-screen.svg", lambda path: path.write_text(drawn, encoding="utf-8"))

        answers: Answers = {key: (word, partial(export, ending)) for key, (ending, word) in EXPORTS.items()}
        self.ask(f"write {named(views)} as", answers | {"i": ("screen", write_screen)})

    def action_note(self) -> None:
        """A new note; PgUp brings the earlier ones back, newest first, to be changed or, emptied, taken away."""
        views = self.targets()
        earlier = views[0].notes[::-1] if len(views) == 1 else ()

        def done(text: str) -> None:
            notes.check_note(text)
            if self.recalled:
                old = earlier[self.recalled - 1]
                self._act(views, lambda view: notes.change_note(view.run.path, old, text), "note changed on")
            elif text.strip():
                self._act(views, lambda view: notes.add_note(view.run.path, text), "noted on")

        hint = f", PgUp changes one of {len(earlier)}" if len(earlier) > 1 else ", PgUp changes the last one"
        self.prompt(f"note on {named(views)}{hint if earlier else ''}", done, earlier=earlier)

    def action_tag(self) -> None:
        """Give tags, or take away those that all the runs have."""
        views = self.targets()
        common = set.intersection(*(set(view.tags) for view in views))

        def change(view: RunView, text: str) -> None:
            for tag in text.split():
                (notes.remove_tag if tag in common else notes.add_tag)(view.run.path, tag)

        def done(text: str) -> None:
            for tag in set(text.split()) - common:
                notes.check_tag(tag)
            if tags := text.split():
                words = "tags changed on" if common & {*tags} else "tagged"
                words = f"{' '.join(tags)} taken away from" if common.issuperset(tags) else words
                self._act(views, lambda view: change(view, text), words)

        hint = f"; takes away {' '.join(sorted(common))}" if common else ""
        self.prompt(f"tag for {named(views)}{hint}", done, suggester=LastWord(sorted(common)))

    def action_delete(self) -> None:
        views = self.targets()
        size = sum(notes.folder_size(view.run.path) for view in views)

        def trash(view: RunView) -> None:
            if view.run.root is not None:
                notes.move_to_trash(view.run.root, view.id, view.run.path)
                self.app.store.deleted.add(view.key)

        answers: Answers = {"y": ("move to .trash", partial(self._act, views, trash, "moved to .trash:"))}
        self.ask(f"delete {named(views)}, {size_text(size)}? U brings it back", answers)

    def action_restore(self) -> None:
        """Choose from what lies in the trash of the runs folders, last deleted first: one run, or the runs of a study
        that were deleted together."""
        store = self.app.store
        roots = [(i, f.path) for i, f in enumerate(store.folders) if not f.read_only and not f.problem]

        def bring_back(what: str, runs: Sequence[tuple[int, Path, str, Path]]) -> None:
            def work() -> None:
                for root, folder, name, place in runs:
                    notes.restore(folder, name, place)
                    store.deleted.discard(f"{root}:{name}")

            def done(_: None) -> None:
                self.app.poller.rescan()
                self.say(f"back from the trash: {what}")

            self.in_thread(work, done)

        def read() -> list[Choice]:
            groups: dict[tuple[str, int, str], list[tuple[int, Path, str, Path]]] = {}
            for root, folder in roots:
                for name, place in notes.trashed(folder):
                    stamp = place.relative_to(folder).parts[1]
                    when = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:11]}:{stamp[11:13]}"
                    study = name.rpartition("/")[0].rpartition("/")[0]
                    groups.setdefault((when, root, study), []).append((root, folder, name, place))
            found: list[Choice] = []
            for (when, _, study), runs in sorted(groups.items(), key=lambda group: group[0][0], reverse=True):
                whole = [(f"{study}, {len(runs)} runs", runs, 0)] if len(runs) > 1 else []
                for what, chosen, things in [*whole, *((run[2], [run], 1) for run in runs)]:
                    act = partial(bring_back, what, chosen)
                    found.append(Choice("", clean(what), f"deleted {when}", act, things=things))
            return found

        none = "nothing lies in the trash of the runs folders"
        self.in_thread(read, lambda found: self.choose("deleted run", "brings it back", found, none))
