"""New run: choose a preset, adjust it in a form made from its schema, see what follows, launch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.suggester import SuggestFromList
from textual.timer import Timer

from lsc_engine.common.toml import read_toml
from lsc_engine.config.load import PresetInfo, list_presets
from lsc_engine.errors import LscError, UsageError
from lsc_tui.lines import Line, clean, ends, fit, frame, pad, rule, wrap
from lsc_tui.screens.base import LscScreen
from lsc_tui.screens.new_run import consequences as new_follow
from lsc_tui.screens.new_run import preset_list as new_shelf
from lsc_tui.screens.new_run.edit import EditCommands
from lsc_tui.screens.new_run.form import SETTINGS, Form
from lsc_tui.screens.new_run.presets import find_data, shelf_csv
from lsc_tui.services.form_check import Outcome, Sizes, examine, survives
from lsc_tui.services.launch import LaunchCommands, form_of_run
from lsc_tui.widgets.form import FormPanel
from lsc_tui.widgets.form_rows import SHORT, TOLD, problem_words, rows
from lsc_tui.widgets.panel import Panel

DEBOUNCE = 0.3
MARK_WORDS: Line = [("P", "bold"), (" paper  ", "dim"), ("I", "bold"), (" inferred  ", "dim"), ("O", "bold"),
                    (" ours  ", "dim"), ("*", "accent"), (" yours", "dim")]  # fmt: skip
_SHELF = ("open", "filter", "first", "toml", "export")
_FORM = ("open", "mark", "launch", "save", "toml", "back")


class NewScreen(EditCommands, LaunchCommands, LscScreen):
    """Two layers at 80 columns, side by side where there is room."""

    CSS_PATH = "screen.tcss"
    TAB = "new"
    WORDS: ClassVar = {
        "open": "edit", "mark": "on/off", "save": "save as preset", "back": "presets", "mark_all": "for all variants",
        "mark_none": "as the preset", "settings": "all settings", "next_pane": "pane", "cursor_right": "variant",
        "first": "top  G end",
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.shelf = new_shelf.Shelf(host=self.app.store.host)
        self.stage = "presets"
        self.form: Form | None = None
        # Every form that was opened, by what it is of: changes stay when another one is opened.
        self.forms: dict[tuple[str, str, Path | None], Form] = {}
        self.outcome: Outcome | None = None
        self.checking = False
        self.every = False
        self.reading = False
        self.toml_top = 0
        self.sizes = Sizes(self.app.plugin_words)
        self.pending: tuple[str, str] = ("", "")
        self._logout = ""
        self._version = 0
        self._preview: tuple[object, list[str]] = (None, [])
        self._debounce: Timer | None = None

    def body(self) -> ComposeResult:
        yield Panel(self._draw_where, id="where")
        with Horizontal(id="panes"):
            yield Panel(self._draw_shelf, id="shelf")
            yield FormPanel(id="form")
            with Vertical(id="side"):
                yield Panel(self._draw_follow, id="follow")
                yield Panel(self._draw_toml, id="toml")
        yield Panel(self._draw_problem, id="problem")

    @property
    def panel(self) -> FormPanel:
        """The form's rows."""
        return self.query_one("#form", FormPanel)

    def on_mount(self) -> None:
        self.reload()

    def on_unmount(self) -> None:
        self.sizes.stop()

    # --- reading presets ----------------------------------------------------------------------------------------

    def reload(self, chosen: str = "") -> None:
        def work() -> None:
            infos = list_presets()
            at_hand = find_data(infos, self.form.data_dir if self.form is not None else "")
            self.app.call_soon(done, infos, at_hand)
            logout = survives()[0]
            self.app.call_soon(self._told_logout, logout)

        def done(infos: tuple[PresetInfo, ...], at_hand: dict[str, bool | None]) -> None:
            self.shelf.infos, self.shelf.at_hand = infos, at_hand
            self.shelf.chosen = chosen or self.shelf.chosen
            if self.shelf.current is None and not self.shelf.words:
                self.say(f"preset {clean(self.shelf.chosen.partition(':')[2])} is no longer there", "warn")
            self.show()

        self.run_worker(work, thread=True, exclusive=True, group="shelf", exit_on_error=False)

    def _told_logout(self, survive: str) -> None:
        self._logout = survive
        self.show()

    def on_screen_resume(self) -> None:
        self._take_form()
        super().on_screen_resume()

    def _take_form(self) -> None:
        """What another tab left: a run to copy or fork, or a system from Vectors."""
        kind, what = self.app.store.form
        self.app.store.form = ("", "")
        if kind in ("copy", "fork") and what in self.app.store.runs:
            try:
                own = self.app.store.own_folder(self.app.folders[0])
                self._open(form_of_run(self.app.store.runs[what], kind, own))
            except (LscError, OSError, ValueError, KeyError) as error:
                self.call_after_refresh(self.say, f"{clean(what)}: {error}", "error")
        elif kind == "vectors":
            system, n = what.rsplit(" ", 1)
            if self.form is None:
                self.pending = (system, n)
                self.call_after_refresh(self.say, f"{system} at n = {n}: Enter opens a preset with it")
            else:
                self.put_system(system, n)

    # --- what is shown ------------------------------------------------------------------------------------------

    def show(self) -> None:
        store = self.app.store
        self.shelf.views, self.shelf.reports = [*store.runs.values()], store.reports
        self.shelf.host = store.host
        self.shelf.changed = {form.path for form in self.forms.values() if form.touched and form.path is not None}
        self.set_class(self.stage == "form", "-form")
        self.set_class(self.reading, "-toml")
        self.FOOTER = _FORM if self.stage == "form" else _SHELF  # type: ignore[misc]
        wide = (*_FORM[:2], "mark_all", "mark_none", "settings", "cursor_right", "next_pane", *_FORM[2:])
        self.FOOTER_WIDE = wide if self.stage == "form" else (*_SHELF[:2], "next_pane", *_SHELF[2:])  # type: ignore[misc]
        self.WORDS = {**type(self).WORDS, "open": "edit" if self.stage == "form" else "open form"}  # type: ignore[misc]
        panel = self.panel
        panel.framed, panel.active = self.wide, self.stage == "form"
        panel.empty = ["", "Enter opens the highlighted preset here"]
        if self.form is not None:
            of = f"settings of {self.form.letter(self.form.variant)}" if len(self.form.names) > 1 else "settings"
            panel.title = f"{clean(self.form.heading.rpartition('/')[2])} · {of}" if self.wide else of
            panel.right = "Enter edit" if panel.active else ""
            panel.put(rows(self.form, self.outcome, store, every=self.every, wide=self.wide, place=self.app.place))
        else:
            panel.title = "settings"
            panel.redraw()
        # A sentence that names what would do is shown whole.
        self.set_height("#problem", max(1, min(3, len(wrap(self._hint()[0], max(20, self.size.width))))))
        for name in ("where", "shelf", "follow", "toml", "problem", "foot", "message"):
            self.query_one(f"#{name}", Panel).redraw()

    def _draw_where(self, width: int, height: int) -> list[Line]:
        shelf = self.shelf
        words = clean(shelf.words)
        if not self.wide and self.stage == "form" and self.form is not None:
            return [pad(ends([(clean(self.form.heading), "bold")], [*MARK_WORDS, (" ", "")], width), width)]
        left: Line = [(" / " if self.wide else "/ ", "dim"), (words or "no filter", "accent" if words else "dim")]
        total = len(shelf.infos)
        if self.wide:
            counts = f"{shelf.shown} of {total} presets   {shelf.here} with data at hand here   "
            return [pad(ends(left, [(counts, ""), *MARK_WORDS, (" ", "")], width), width)]
        left.append((f"   {shelf.shown} of {total} presets", ""))
        return [pad(ends(left, [(f"data at hand for {shelf.here}  ", "dim")], width), width)]

    def _draw_shelf(self, width: int, height: int) -> list[Line]:
        if self.wide:
            return new_shelf.shelf_panel(self.shelf, width, height, active=self.stage == "presets")
        return new_shelf.shelf_narrow(self.shelf, width, height)

    def _draw_follow(self, width: int, height: int) -> list[Line]:
        if self.form is None:
            return frame([], width, height, "what follows") if self.wide else []
        sizes = self.sizes.known(self.outcome.text) if self.outcome is not None else None
        facts = new_follow.Facts(self.form, self.outcome, sizes, self.app.store, self._logout)
        return new_follow.wide(facts, width, height) if self.wide else new_follow.narrow(facts, width, height)

    def _draw_toml(self, width: int, height: int) -> list[Line]:
        lines = self._toml_lines()
        framed = self.wide
        room = height - 2 if framed else height - 1
        self.toml_top = max(0, min(self.toml_top, len(lines) - room))
        body: list[Line] = [
            [(fit(f" {clean(line)}", width), "")] for line in lines[self.toml_top : self.toml_top + room]
        ]
        entry = self.shelf.current
        stem = f" of {clean(entry.info.stem)}" if entry is not None and entry.info is not None else ""
        title = "TOML as it will be saved" if self.form is not None else f"TOML{stem}"
        if framed:
            return frame(body, width, height, title, "r back" if self.reading else "r whole")
        return [rule(width, title, f"{len(lines)} lines"), *body]

    def _toml_lines(self) -> list[str]:
        if self.form is not None and (self.stage == "form" or self.wide):
            return self.form.toml().splitlines()
        entry = self.shelf.current
        if entry is None or entry.info is None or not (self.reading or self.wide):
            return []
        path = entry.info.path
        try:
            key = (path, path.stat().st_mtime_ns)
            if self._preview[0] != key:
                self._preview = (key, read_toml(path)[0].splitlines())
        except (UsageError, OSError) as error:
            return [str(error)]
        return self._preview[1]

    def _draw_problem(self, width: int, height: int) -> list[Line]:
        """At 80 columns: what is wrong with the highlighted row, what it is, else the first fault."""
        text, style = self._hint()
        return [[(fit(line, width), style)] for line in wrap(text, width)]

    def _hint(self) -> tuple[str, str]:
        form, out, row = self.form, self.outcome, self.panel.current
        if form is None:
            return "", ""
        problems = out.problems if out is not None else []
        mine = [p for p in problems if row is not None and p.key == row.key and p.variant in (None, form.variant)]
        first = next((p for p in problems if not p.warning), next(iter(problems), None))
        if mine or (first is not None and (row is None or row.kind != "setting")):
            shown = mine[0] if mine else first
            assert shown is not None
            return f"{'!' if shown.warning else '✗'} {problem_words(form, shown)}", "warn" if shown.warning else "error"
        if row is not None and row.kind == "setting":
            note = f" ({row.note})" if row.note else ""
            return f"{row.key}: {SETTINGS[row.key].help}{note}", "dim"
        if row is not None and (row.note or row.kind == "told"):
            return row.note or TOLD, "dim"
        return "", ""

    def _draw_message(self, width: int, height: int) -> list[Line]:
        if self.message[0] or self.form is None:
            return super()._draw_message(width, height)
        faults = self.outcome.faults if self.outcome is not None else []
        text, style = self._hint()
        if faults and style != "error":
            word = "fault" if len(faults) == 1 else "faults"
            key = faults[0].key
            text = f"✗ {len(faults)} {word}: {SHORT.get(key, key)}. Enter on it goes to the field.   {text}"
        return [pad([(" ", ""), (fit(text, width - 1), style)], width)]

    # --- the form -----------------------------------------------------------------------------------------------

    @property
    def kept(self) -> Form | None:
        entry = self.shelf.current
        path = entry.info.path if entry is not None and entry.info is not None else None
        return next((form for form in self.forms.values() if form.touched and form.path == path), None)

    def drop(self, form: Form) -> None:
        self.forms = {key: kept for key, kept in self.forms.items() if kept is not form}
        if self.form is form:
            self.form = self.outcome = None
        self.say(f"{clean(form.heading)} is as the preset again")
        self.show()

    def _open(self, form: Form) -> None:
        """Show a form and check it; one that the user changed before comes back with the changes."""
        key = (form.source, form.heading, form.path)
        before = self.forms.get(key)
        if before is not None and before.touched:
            other = "; the file has changed since" if before.text != form.text else ""
            words = f"{clean(form.heading)} with your changes{other}. Esc, then u drops them"
            self.call_after_refresh(self.say, words)
            form = before
        self.forms[key] = form
        self.form, self.outcome, self.stage, self.reading = form, None, "form", False
        panel = self.panel if self.is_mounted else None
        if panel is not None:
            panel.choices, panel.cursor, panel.rows = [], 0, []
        if self.pending[0]:
            self.put_system(*self.pending)
            self.pending = ("", "")
        else:
            self.check()

    def open_preset(self) -> None:
        """The form of the highlighted preset, or a heading opened and closed."""
        entry = self.shelf.current
        if entry is None:
            return
        if entry.info is None:
            self.shelf.closed ^= {entry.group}
            self.shelf.chosen = entry.key
            self.show()
            return
        info = entry.info
        try:
            text, _ = read_toml(info.path)
            form = Form.of(text, info.name, info.name, self.app.store.own_folder(self.app.folders[0]), path=info.path)
        except UsageError as error:
            self.say(str(error), "error")
            return
        self._open(form)

    def check(self) -> None:
        """Look at the form in a worker; its sizes follow after a pause without changes."""
        if self.form is None:
            return
        self._version += 1
        version, form = self._version, self.form.copy()
        self.checking = True
        if self._debounce is not None:
            self._debounce.stop()

        def work() -> None:
            self.app.call_soon(self._checked, version, examine(form))

        self.run_worker(work, thread=True, exclusive=True, group="check", exit_on_error=False)
        self.show()

    def _checked(self, version: int, outcome: Outcome) -> None:
        if version != self._version:
            return
        self.outcome, self.checking = outcome, False
        if self.form is not None and self.form.wanted:
            self.form.study = outcome.study
        self._debounce = self.set_timer(DEBOUNCE, self._ask_sizes)
        self.show()

    def _ask_sizes(self) -> None:
        outcome, form = self.outcome, self.form
        if outcome is None or form is None or outcome.draft is None or self.sizes.known(outcome.text) is not None:
            return
        data_dir = form.data_dir

        def work() -> None:
            self.sizes.ask(outcome, data_dir)
            self.app.call_soon(self.show)

        self.run_worker(work, thread=True, group="sizes", exit_on_error=False)

    # --- commands of the list -----------------------------------------------------------------------------------

    def do_filter(self) -> None:
        self.stage = "presets"
        self.reading = False
        self.show()
        words = ["data:here", "data:digits", "data:imagenet", "kind:train", *(i.stem for i in self.shelf.infos)]
        self.prompt(
            "words, data:here, data:imagenet, kind:train", self._filter, value=self.shelf.words, changed=self._filter,
            suggester=SuggestFromList(words, case_sensitive=False), replace=True,
        )  # fmt: skip

    def _filter(self, text: str) -> None:
        self.shelf.words = text.strip()
        current = self.shelf.current
        if current is None or current.info is None:
            # To the first that matches: a heading is nothing to open.
            self.shelf.chosen = ""
        self.show()

    def do_export(self) -> None:
        path = Path("presets.csv").absolute()
        try:
            path.write_text(shelf_csv(self.shelf.entries, self.shelf.at_hand, self.shelf.views, self.shelf.host))
        except OSError as error:
            self.say(f"{path}: not written: {error.strerror or error}", "error")
            return
        self.say(f"wrote {path}")

    def why_not_toml(self) -> str:
        entry = self.shelf.current
        if self.form is None and (entry is None or entry.info is None):
            return "highlight a preset"
        return ""

    def do_toml(self) -> None:
        self.reading = not self.reading
        self.toml_top = 0
        self.show()

    def leave_layer(self) -> None:
        if self.panel.choices:
            self.panel.choices = []
            self.show()
        elif self.reading:
            self.do_toml()
        elif self.stage == "form":
            self.stage = "presets"
            self.show()
        elif self.shelf.words:
            self._filter("")
        else:
            super().leave_layer()
