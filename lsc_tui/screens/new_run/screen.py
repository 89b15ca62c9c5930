"""New run: choose a preset, adjust it in a form made from its schema, see what follows, launch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.suggester import SuggestFromList
from textual.timer import Timer

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.formatting import counted
from lsc_engine.common.ids import name_fault, suggested_name
from lsc_engine.common.safe_io import read_preset_toml
from lsc_engine.common.userpaths import home_path, user_path
from lsc_engine.config.load import PresetInfo, list_presets, own_folder
from lsc_engine.runs.folder import slurm
from lsc_engine.studies.prepare import free_name
from lsc_engine.studies.preset_list import data_found
from lsc_tui.data.preset_form import SETTINGS, Form, drop_draft, field_text, read_drafts, save_draft
from lsc_tui.lines import Line, clean, ends, fit, pad, wrap
from lsc_tui.modals import Choice, toml_lines
from lsc_tui.screens.base import Answers, LscScreen
from lsc_tui.screens.new_run import consequences
from lsc_tui.screens.new_run.preset_list import PresetList, own_words, presets_csv
from lsc_tui.services import launch
from lsc_tui.services.actions import DEMO
from lsc_tui.services.form_check import Outcome, Sizes, examine, survives
from lsc_tui.widgets.form import AS_WRITTEN, PLACES, Row, choices, problem_words, row_lines, rows, short_name
from lsc_tui.widgets.list_box import ListBox
from lsc_tui.widgets.panel import Box, Panel, Sheet

DEBOUNCE = 0.3
_FORM_FOOTER = "open mark launch save toml filter back mark_all mark_none settings cursor_right next_pane"
_MARKS = {"P": "bold", " paper  ": "dim", "I": "bold", " inferred  ": "dim", "O": "bold", " ours  ": "dim"}
MARK_WORDS: Line = [*_MARKS.items(), ("*", "accent"), (" yours ", "dim")]


class NewScreen(LscScreen):
    """Two layers at 80 columns, side by side where there is room."""

    CSS_PATH = "screen.tcss"
    TAB = "new"
    FOOTER: ClassVar = "open filter next_pane first toml export"
    WORDS: ClassVar = {
        "open": "edit", "mark": "on/off", "save": "save as preset", "back": "presets", "mark_all": "for all variants",
        "mark_none": "as the preset", "settings": "all settings", "next_pane": "pane", "cursor_right": "variant",
        "first": "top  G end",
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.preset_list = PresetList(self.app.store, "shelf")
        self.panel = ListBox[Row](self._settings, "form")
        self.stage = "presets"
        self.form: Form | None = None
        # Every form that was opened, by what it is of: changes stay when another one is opened, and over a restart.
        self._drafts, self._own = self.app.config / "drafts", self.app.store.own_folder(self.app.folders[0])
        self.forms = {form.key: form for form in ([] if self.app.demo else read_drafts(self._drafts, self._own))}
        self.outcome: Outcome | None = None
        self.checking = self.every = False
        self._version = 0
        self.sizes = Sizes(self.app.plugin_words)
        self.pending: tuple[str, str] = ("", "")  # a system and its n, for the preset that is opened next
        self._logout = ""
        # What was typed before the list of presets had been read.
        self._early: list[Callable[[], None]] = []
        self._launch_checked = False  # whether the form is to be launched once it has been checked
        self._debounce: Timer | None = None

    def body(self) -> ComposeResult:
        yield Panel(self._draw_where, id="where")
        with Horizontal(id="panes"):
            yield self.preset_list
            yield self.panel
            with Vertical(id="side"):
                yield Box(self._follow, "follow", divided=True)
                yield Box(self._toml_begin, "toml")
        # At 80 columns: what is wrong with the highlighted row, what it is, else the first fault.
        yield Panel(lambda w, h: [[(fit(t, w), self._hint()[1])] for t in wrap(self._hint()[0], w)], id="problem")

    def on_mount(self) -> None:
        self.reload()

    def on_unmount(self) -> None:
        self.sizes.stop()

    def reload(self, chosen: str = "") -> None:
        """Read the list of presets again, with the cursor on `chosen`."""
        known = self.preset_list

        def work() -> str:
            infos, data_dir = list_presets(), self.form.data_dir if self.form is not None else ""
            found = {name: data_found(name, data_dir) for name in {info.dataset for info in infos}}
            self.app.call_soon(listed, infos, found)
            return survives()[0]

        def listed(infos: tuple[PresetInfo, ...], at_hand: dict[str, bool | None]) -> None:
            known.infos, known.at_hand = infos, at_hand
            known.fill()
            known.go(chosen)
            if known.gone is not None and not known.words:
                self.say(f"preset {clean(known.gone.key.partition(':')[2])} is no longer there", "warn")
            early, self._early = self._early, []
            for act in early:
                act()
            self.show()

        def done(survive: str) -> None:
            self._logout = survive
            self.show()

        self.in_thread(work, done, exclusive="presets")

    def on_screen_resume(self) -> None:
        """Take what another tab left: a run to copy or to fork, a system of Vectors."""
        store = self.app.store
        (kind, what), store.form = store.form, ("", "")
        if kind in ("copy", "fork") and what in store.runs:
            try:
                self._open(launch.form_of_run(store.runs[what], kind, store.own_folder(self.app.folders[0])))
            except (LscError, OSError, ValueError, KeyError) as error:
                self.call_after_refresh(self.say, f"{clean(what)}: {error}", "error")
        elif kind == "vectors":
            system, n = what.rsplit(" ", 1)
            if self.form is None or not self.form.takes_system:
                self.pending, self.stage = (system, n), "presets"
                self.call_after_refresh(self.say, f"{system} at n = {n}: Enter opens a preset with it")
            else:
                self.put_system(system, n)
        super().on_screen_resume()

    def show(self) -> None:
        store, form, on_form, known = self.app.store, self.form, self.stage == "form", self.preset_list
        known.active = not on_form
        known.changed = {form.path for form in self.forms.values() if form.touched and form.path is not None}
        self.set_class(on_form, "-form")
        if form is not None:
            self.panel.put(rows(form, self.outcome, store, every=self.every, wide=self.wide))
        # A sentence that names what would help is shown whole.
        self.set_height("#problem", max(1, min(3, len(wrap(self._hint()[0], max(20, self.size.width))))))
        self.redraw("#where", "#shelf", "#form", "#follow", "#toml", "#problem", "#foot", "#message")

    def footer(self) -> tuple[Sequence[str], dict[str, str]]:
        row, entry = self.panel.current, self.preset_list.current
        if self.stage == "form":
            words = {**self.WORDS, "filter": "field"}
            if row is not None and row.kind == "setting":
                words["mark"] = "next value"
            return _FORM_FOOTER.split(), words
        opens = "fold" if entry is not None and entry.info is None else "open form"
        return self.FOOTER.split(), {**self.WORDS, "open": opens}

    def _draw_where(self, width: int, height: int) -> list[Line]:
        known, wide, words = self.preset_list, self.wide, clean(self.preset_list.words)
        if not wide and self.stage == "form" and self.form is not None:
            return [pad(ends([(clean(self.form.heading), "bold")], MARK_WORDS, width), width)]
        left: Line = [(" / " if wide else "/ ", "dim"), (words or "no filter", "accent" if words else "dim")]
        shown = f"{known.shown} of {counted(len(known.infos), 'preset')}" if known.infos else "reading the presets …"
        here = f"{known.here} with data at hand here" if known.infos else ""
        if wide:
            return [pad(ends(left, [(f"{shown}   {here}   ", ""), *MARK_WORDS], width), width)]
        return [pad(ends([*left, (f"   {shown}", "")], [(f"{here}  ", "dim")], width), width)]

    def _settings(self, width: int, height: int) -> Sheet:
        form, wide, on_form = self.form, self.wide, self.stage == "form"
        if form is None:
            return "settings", "", [[], [(" Enter opens the highlighted preset here", "dim")]]
        title = f"settings of {form.letter(form.variant)}" if len(form.names) > 1 else "settings"
        heading = form.heading.rpartition("/")[2] if form.source == "preset" else form.heading
        lines = self.panel.body(height, lambda row, here: row_lines(row, width, wide, here and on_form))
        right = self.panel.more or "Enter edit" * (wide and on_form)
        return f"{clean(heading)} · {title}" if wide else title, right, lines

    def _follow(self, width: int, height: int) -> Sheet | None:
        if self.form is None:
            return ("what follows", "", []) if self.wide else None
        sizes = self.sizes.known(self.outcome.text) if self.outcome is not None else None
        facts = consequences.Facts(self.form, self.outcome, sizes, self.app.store, self._logout)
        info = next((info for info in self.preset_list.infos if info.path == self.form.path), None)
        facts.minutes = info.minutes if info is not None and not self.form.touched else None
        return facts.sheet(width, height, wide=self.wide)

    def _toml(self) -> tuple[str, str]:
        """Title and text: of the form, else of the highlighted preset."""
        info, form = self.preset_list.info, self.form
        if form is not None and (self.stage == "form" or self.wide):
            return "TOML as it will be saved", form.toml()
        return (f"TOML of {clean(info.stem)}", info.text or info.fault) if info is not None else ("TOML", "")

    def _toml_begin(self, width: int, height: int) -> Sheet:
        title, text = self._toml()
        return title, "r whole", [[(fit(f" {clean(line)}", width), "")] for line in text.splitlines()[:height]]

    def _hint(self) -> tuple[str, str]:
        form, row = self.form, self.panel.current
        if form is None:
            return "", ""
        problems = self.outcome.problems if self.outcome is not None else []
        mine = [p for p in problems if row is not None and p.key == row.key and p.variant in (None, form.variant)]
        if not mine and (row is None or row.kind != "setting"):
            mine = sorted(problems, key=lambda p: p.warning)
        if mine:
            words = f"{'!' if mine[0].warning else '✗'} {problem_words(form, mine[0])}"
            return words, "warn" if mine[0].warning else "error"
        if row is not None and row.kind == "setting":
            return f"{row.key}: {SETTINGS[row.key].help}{f' ({row.note})' if row.note else ''}", "dim"
        return (row.note or AS_WRITTEN, "dim") if row is not None and (row.note or row.kind == "fact") else ("", "")

    def _draw_message(self, width: int, height: int) -> list[Line]:
        if self._label or self.message[0] or self.form is None:
            return super()._draw_message(width, height)
        faults = self.outcome.faults if self.outcome is not None else []
        text, style = self._hint()
        if faults and style != "error":
            key = short_name(faults[0].key)
            text = f"✗ {counted(len(faults), 'fault')}: {key}. Enter on it goes to the field.   {text}"
        return [pad([(" ", ""), (fit(text, width - 1), style)], width)]

    @property
    def kept(self) -> Form | None:
        """The form of the highlighted preset, if the user changed it."""
        path = self.preset_list.info.path if self.preset_list.info is not None else None
        return next((form for form in self.forms.values() if form.touched and form.path == path), None)

    def _open(self, form: Form) -> None:
        before = self.forms.get(form.key)
        if before is not None and before.touched:
            other = "; the file has changed since" if before.text != form.text else ""
            words = f"{clean(form.heading)} with your changes{other}. Esc, then u drops them"
            self.call_after_refresh(self.say, words)
            form = before
        self.forms[form.key] = form
        self.form, self.outcome, self.stage = form, None, "form"
        self.panel.clear()
        system, n = self.pending
        if system and form.takes_system:
            self.pending = ("", "")
            self.put_system(system, n)
            return
        if system:
            words = f"{system} at n = {n} goes into the next preset opened: this one takes no other system"
            self.call_after_refresh(self.say, words)
        self.check()

    def open_preset(self) -> None:
        """The form of the highlighted preset, or a heading opened and closed."""
        entry = self.preset_list.current
        if not self.preset_list.infos:
            self._early.append(self.open_preset)
            return
        if entry is not None and (info := entry.info) is not None:
            own = self.app.store.own_folder(self.app.folders[0])
            try:
                self._open(Form.of(read_preset_toml(info.path)[0], info.name, info.name, own, path=info.path))
            except UsageError as error:
                self.say(str(error), "error")
        elif entry is not None:
            self.preset_list.closed ^= {entry.group}
            self.preset_list.fill()
            self.show()

    def check(self) -> None:
        """Look at the form in a worker; its sizes follow after a pause without changes."""
        if self.form is None:
            return
        self._version += 1
        version, checked = self._version, self.form.copy()
        self.checking, self._launch_checked = True, False
        if self._debounce is not None:
            self._debounce.stop()

        def done(outcome: Outcome) -> None:
            if version != self._version:
                return
            self.outcome, self.checking = outcome, False
            if self.form is not None and self.form.wanted:
                self.form.study = outcome.study
            self._debounce = self.set_timer(DEBOUNCE, partial(count, outcome))
            self.show()
            if self._launch_checked and self.idle:
                self.call_later(self.perform, "launch")
            self._launch_checked = False

        def count(outcome: Outcome) -> None:
            form = self.form
            if form is not None and outcome is self.outcome and outcome.draft and not self.sizes.known(outcome.text):
                self.in_thread(partial(self.sizes.ask, outcome, form.data_dir), lambda _: self.show())

        self.in_thread(lambda: examine(checked), done, exclusive="check")
        self.show()

    def changed(self) -> None:
        if self.form is not None:
            self.form.touched = self.form.source != "preset" or self.form.edited(self._own)
            if self.form.touched and not self.app.demo:
                save_draft(self._drafts, self.form, self._own)
            elif not self.app.demo:
                drop_draft(self._drafts, self.form)
            self.check()

    def action_move(self, rows: int) -> None:
        if self.stage == "presets" and not self.preset_list.infos:
            self._early.append(partial(self.action_move, rows))
        elif self.stage == "presets":
            self.preset_list.move(rows)
        else:
            self.panel.move(rows)
            row = self.panel.current
            if self.form is not None and row is not None and row.kind == "variant":
                self.form.highlighted = self.form.names.index(row.key.removeprefix("variant:"))
        self.show()

    def action_next_pane(self, _: int) -> None:
        self.stage = "form" if self.stage == "presets" and self.form is not None else "presets"
        self.show()

    def why_not(self, name: str) -> str:
        form, on_presets = self.form, self.stage == "presets"
        if name in ("next_pane", "previous_pane", "settings"):
            return "" if form is not None else "no form is open, Enter opens one"
        if name in ("cursor_left", "cursor_right"):
            if on_presets:
                heading = self.preset_list.current is not None and self.preset_list.current.info is None
                return "" if heading else "→ opens and ← closes a heading"
            if form is None:
                return "the form shows the variants"
            return "" if len(form.names) > 1 else "there is one variant"
        if name == "toml":
            in_form = form is not None and (self.wide or not on_presets)
            return "" if in_form or self.preset_list.info is not None else "highlight a preset"
        if name == "mark_none" and on_presets:
            return "" if self.kept is not None else "there are no changes of yours to drop"
        if name in ("mark", "mark_all", "mark_none"):
            return self._why_no_mark(name)
        if name == "launch":
            return self._why_no_launch()
        if name == "save" and (form is None or form.source == "fork"):
            return "open a preset first, Enter does" if form is None else "a fork is no preset; N on the run makes one"
        return super().why_not(name)

    def _why_no_mark(self, name: str) -> str:
        form, row, entry, key = self.form, self.panel.current, self.preset_list.current, self.setting_row
        if name == "mark" and self.stage == "presets":
            return "" if entry is not None and entry.info is None else "Enter opens the form"
        if row is None or form is None:
            return "no form is open"
        if name == "mark":
            if row.kind in ("variant", "tune"):
                return "a fork has one variant" if form.source == "fork" else ""
            return "" if key and SETTINGS[key].kind in ("choice", "flag") else "Enter edits this row"
        if key is None:
            return "highlight a setting in the form"
        if name == "mark_all":
            return "" if form.by_variant(key) else "it is the same for all variants already"
        return "" if form.changed(key) else "it is as the preset has it"

    def action_move_cursor(self, by: int) -> None:
        """← and → close and open a heading; in the form they show another variant."""
        known = self.preset_list
        if self.stage == "presets" and known.current is not None:
            group = {known.current.group}
            known.closed = known.closed - group if by > 0 else known.closed | group
            known.fill()
            self.show()
        elif self.form is not None:
            self.form.step(by)
            self.show()

    def action_settings(self) -> None:
        self.every = not self.every
        self.say("every setting that acts" if self.every else "the settings that the preset names, and the usual ones")
        self.show()

    def leave_layer(self) -> None:
        if self.stage == "form":
            self.stage = "presets"
        elif self.preset_list.words:
            self._filter("")
        else:
            super().leave_layer()
            return
        self.show()

    def action_filter(self) -> None:
        """In the form: to a field by a part of its name; else the filter of the list."""
        if self.stage == "form":
            names = [row.key for row in self.panel.rows if row.kind in ("setting", "place", "seeds", "tune")]
            hints = SuggestFromList(names, case_sensitive=False)
            self.prompt("go to a field, such as batch_size", self._go_to_field, suggester=hints)
            return
        self.stage = "presets"
        self.show()
        stems = (info.stem for info in self.preset_list.infos)
        words = SuggestFromList(
            ["data:here", "data:digits", "data:imagenet", "kind:train", *stems], case_sensitive=False
        )
        label, now = "words, data:here, data:imagenet, kind:train", self.preset_list.words
        self.prompt(label, self._filter, value=now, changed=self._filter, suggester=words, replace=True)

    def _go_to_field(self, text: str) -> None:
        words = text.strip().lower()
        keys = [key for key in SETTINGS if words in key and key in self.form.keys(True)] if words and self.form else []
        places = [row.key for row in self.panel.rows if words and words in f"{row.key} {row.name}".lower()]
        if not places and keys:
            self.every = True
            self.show()
        if not (places or keys):
            raise UsageError(f'no field here is called "{text}"')
        if self.panel.go((places or keys)[0]):
            self.show()

    def _filter(self, text: str) -> None:
        self.preset_list.words = text.strip()
        self.preset_list.fill()
        if self.preset_list.info is None:
            # To the first that matches: a heading is nothing to open.
            self.preset_list.clear()
            self.preset_list.fill()
        self.show()

    def action_export(self) -> None:
        text = presets_csv(self.preset_list)
        self.save_as("presets.csv", lambda path: path.write_text(text))

    def action_toml(self) -> None:
        title, text = self._toml()
        self.read(title, toml_lines(text))

    def action_open(self) -> None:
        form, row = self.form, self.panel.current
        if self.stage == "presets":
            self.open_preset()
        elif form is None or row is None:
            return
        elif row.kind == "problem":
            self._go_to_problem(form, row)
        elif row.kind == "variant" or (row.kind == "tune" and "tune" not in form.raw):
            self.action_mark()
        elif row.kind == "fact":
            self.say(AS_WRITTEN)
        elif found := choices(row, self.app.store, form.given("target.method", form.variant)):
            now = form.device if row.kind == "place" else field_text(row.key, form.given(row.key, form.variant))
            # The present value first: Enter keeps it.
            found.sort(key=lambda choice: choice[0] != now)
            acts = [partial(self._type, form, row) if v == "…" else partial(self._put, row, v) for v, _ in found]
            listed = [Choice("", clean(v) or "none", words, act) for (v, words), act in zip(found, acts, strict=True)]
            self.choose(f"{row.name} value", "sets it", listed, "")
        else:
            self._type(form, row)

    def _go_to_problem(self, form: Form, row: Row) -> None:
        problems, place = self.outcome.problems if self.outcome is not None else [], int(row.key.partition(":")[2])
        if place >= len(problems):
            return
        problem = problems[place]
        if problem.variant in form.names:
            form.highlighted = form.names.index(problem.variant)
        if problem.key in SETTINGS and problem.key not in form.keys(self.every):
            self.every = True
            self.show()
        self.panel.go(problem.key) or self.panel.go(f"variant:{problem.variant or form.names[0]}")
        self.show()

    def _type(self, form: Form, row: Row) -> None:
        variant, proposed, suggester = form.variant, "", None
        if row.kind == "setting":
            setting = SETTINGS[row.key]
            label, now = f"{row.key}: {setting.help}", field_text(row.key, form.given(row.key, variant))
            suggester = SuggestFromList(setting.choices, case_sensitive=False) if setting.choices else None
        elif row.kind == "tune":
            label, now = "grid, like optimizer.lr = 1e-4, 1e-3; duration = 3 epochs", form.tune_text
        elif row.kind == "seeds":
            label, now = "seeds, like 0 1 2 or 0-4", form.seeds
        elif row.kind == "place":
            label, now = PLACES[row.key][1], str(getattr(form, PLACES[row.key][2]))
            proposed = free_name(form.runs_dir, form.study) if row.key == "study" and row.fault == "✗" else ""
        else:
            return

        def done(text: str) -> None:
            if text.strip() != now:
                self._put(row, text, variant)

        self.prompt(label, done, value=proposed or now, suggester=suggester)

    def _put(self, row: Row, text: str, variant: str = "") -> None:
        form, text = self.form, text.strip()
        if form is None:
            return
        if row.kind == "seeds":
            form.set_seeds(text)
        elif row.kind == "tune":
            form.set_tune(text)
        elif row.kind == "setting":
            form.set(row.key, text, variant=variant)
        elif row.key == "study":
            form.study, form.wanted = text, ""
        elif row.key == "device":
            form.device = text or "auto"
        elif row.key == "at":
            form.at = text.replace(" ", "").replace("_", "")
        elif row.key == "runs":
            form.runs_dir = user_path(text or "runs")
        else:
            form.data_dir = str(user_path(text)) if text else ""
        self.changed()

    def put_system(self, system: str, n: str) -> None:
        """A system and its n, as chosen on Vectors."""
        form = self.form
        if form is None:
            return
        if form.given("target.method", form.variant) == "ce":
            form.set("target.method", "lsc")
        form.set("target.system", system)
        form.set("model.dim", n)
        self.stage = "form"
        who = f", variant {form.letter(form.variant)}" if form.by_variant("target.system") else ""
        self.call_after_refresh(self.say, f"{system} at n = {n} in {clean(form.heading)}{who}")
        self.changed()

    def action_go(self, tab: str) -> None:
        """Vectors shows the systems that hold the classes of the highlighted variant; Enter there brings one back."""
        out, form = self.outcome, self.form
        classes = out.variants.get(form.variant, {}).get("classes") if out is not None and form is not None else None
        if classes and self.stage == "form" and tab == "vectors":
            self.app.store.form = ("classes", str(classes))
        super().action_go(tab)

    def action_mark(self) -> None:
        form, row = self.form, self.panel.current
        if self.stage == "presets" or form is None or row is None:
            self.open_preset()
        elif row.kind in ("variant", "tune"):
            if row.kind == "tune":
                form.toggle_tune()
            else:
                form.on ^= {row.key.removeprefix("variant:")}
            self.changed()
        else:
            setting = SETTINGS[row.key]
            values = ("true", "false") if setting.kind == "flag" else setting.choices
            now = field_text(row.key, form.given(row.key, form.variant)) or row.value
            self._put(row, values[(values.index(now) + 1) % len(values)] if now in values else values[0])

    @property
    def setting_row(self) -> str | None:
        """The key of the highlighted setting."""
        row = self.panel.current
        on_setting = self.stage == "form" and row is not None and row.kind == "setting" and self.form is not None
        return row.key if row is not None and on_setting else None

    def action_mark_all(self) -> None:
        """The highlighted variant's value for all of them."""
        form, row = self.form, self.panel.current
        if form is not None and row is not None:
            form.put(row.key, form.given(row.key, form.variant), form.names)
            self.changed()
            self.say(f"{row.key}: {row.value} for all variants")

    def action_mark_none(self) -> None:
        """The highlighted setting as the preset has it; in the list, the whole preset (asks)."""
        kept = self.kept if self.stage == "presets" else None
        if kept is None:
            if self.form is not None and self.setting_row is not None:
                self.form.reset(self.setting_row)
                self.changed()
            return

        def drop() -> None:
            del self.forms[kept.key]
            drop_draft(self._drafts, kept)
            if self.form is kept:
                self.form = self.outcome = None
            self.say(f"{clean(kept.heading)} is as the preset again")
            self.show()

        self.ask(f"drop your changes to {kept.heading}?", {"y": ("drop them", drop)})

    def _why_no_launch(self) -> str:
        form, out, store = self.form, self.outcome, self.app.store
        if self.app.demo or form is None:
            return DEMO if self.app.demo else "open a preset first, Enter does"
        if out is None or self.checking:
            return ""  # L waits for the check
        if out.faults:
            more = f" (and {len(out.faults) - 1} more)" if len(out.faults) > 1 else ""
            return f"✗ {problem_words(form, out.faults[0])}{more}"
        gpus = store.hardware.gpus
        if form.kind == "train" and form.device == "auto" and gpus and all(gpu.busy for gpu in gpus):
            owners = ", ".join(f"{gpu.index} {clean(store.owner_of(gpu))}" for gpu in gpus)
            return f"no GPU is free (GPU {owners}); choose some by number in device"
        return ""

    def action_launch(self) -> None:
        form, out = self.form, self.outcome
        if form is None:
            return
        if out is None or self.checking:
            self._launch_checked = True
            self.say("checking the form before launch …")
            return
        form = form.copy()
        answers: Answers = {"y": ("launch", partial(self._launch, form, len(out.runs)))}
        if form.kind != "train":
            answers = {"y": ("make it", partial(self._make_report, form))}
        elif form.source != "fork" and slurm.installed():
            answers["y"] = ("launch on this machine", answers["y"][1])
            answers["s"] = ("Slurm", partial(self._launch, form, len(out.runs), "submit"))
        self.ask(launch.launch_words(form, out, self.app.store), answers)

    def _launch(self, form: Form, runs: int, command: str = "run") -> None:
        store, plugins = self.app.store, self.app.plugin_words
        self.say(f"starting {form.study} …")

        def work() -> None:
            argv = launch.launch_argv(form, None if form.source == "fork" else launch.keep_toml(form), command)
            if command == "submit":
                launch.start([*argv, *(["--device", "cpu"] if form.device == "cpu" else []), *plugins])
            else:
                launch.start([*argv, *launch.device_argv(form, store), *plugins, "--detach"])

        def done(_: None) -> None:
            go, where = counted(runs, "run goes", "runs go"), " in Slurm" if command == "submit" else ""
            self._show_launched(form, f"{go} on{where} when this terminal is closed")

        self.in_thread(work, done)

    def _show_launched(self, form: Form, words: str) -> None:
        self.app.store.launched = form.study
        self.app.look_at(form.runs_dir)
        if self.idle:
            self.app.go("runs")
        self.app.lsc_screen.say(f"{form.study}: {words}")

    def _make_report(self, form: Form) -> None:
        app, making = self.app, self.app.store.making
        root = next((i for i, folder in enumerate(app.folders) if folder.absolute() == form.runs_dir.absolute()), -1)
        key = f"report:{root}:{form.study}"
        self.say(f"{form.study}: its report is being made …")

        def work() -> None:
            try:
                found = launch.make_report(
                    form, app.plugin_words, lambda pid: app.call_soon(started, pid), app.poller.rescan
                )
            except (OSError, LscError) as error:
                app.call_soon(self.say, f"launch: {error}", "error")
            else:
                app.call_soon(ended, *found)

        def started(pid: int) -> None:
            making[key] = pid
            self._show_launched(form, "its report is being made; closing this terminal does not end it")

        def ended(there: bool, log: Path) -> None:
            making.pop(key, None)
            app.poller.rescan()
            if there:
                app.lsc_screen.say(f"{form.study}: its report is there, Enter on it in Runs reads it")
            else:
                app.lsc_screen.say(f"{form.study}: no report: {launch.last_words(log)}", "error")

        # Not a worker, which the program would wait for at its end.
        threading.Thread(target=work, name="report", daemon=True).start()

    def action_save(self) -> None:
        if (form := self.form) is not None:
            near = suggested_name(f"{form.heading.rpartition('/')[2]}-mine" if form.source == "preset" else form.study)
            self.prompt(f"name of the preset in {own_words()}", partial(self._save, form), value=near)

    def _save(self, form: Form, name: str) -> None:
        name = name.strip().removesuffix(".toml")
        path, fault = own_folder() / f"{name}.toml", name_fault(name)
        try:
            if fault is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("x", encoding="utf-8") as file:
                    file.write(form.running_toml())
        except FileExistsError:
            fault = f"{home_path(path)} exists and is not overwritten; give another name"
        except OSError as error:
            fault = f"{home_path(path)}: {error.strerror or error}"
        if fault is not None:
            raise UsageError(f"w: {fault}")
        off = [clean(variant) for variant in form.names if variant not in form.running]
        self.say(f"saved {home_path(path)}" + (f" without {', '.join(off)}" if off else ""))
        self.reload(f"yours:{name}")
