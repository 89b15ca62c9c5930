"""Editing the form of New run: moving, variants on and off, lists of choices, text fields, one change at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.suggester import SuggestFromList

from lsc_engine.errors import UsageError
from lsc_engine.studies.prepare import free_name
from lsc_engine.userpaths import user_path
from lsc_tui.screens.new_run.form import SETTINGS, Form, field_text
from lsc_tui.widgets.form_rows import PLACES, TOLD, Row, choices

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen
    from lsc_tui.screens.new_run.preset_list import Shelf
    from lsc_tui.services.form_check import Outcome
    from lsc_tui.widgets.form import FormPanel

    _Base = LscScreen
else:
    _Base = object


class EditCommands(_Base):
    """Mixed into New run."""

    form: Form | None
    outcome: Outcome | None
    shelf: Shelf
    stage: str
    every: bool
    reading: bool
    toml_top: int

    @property
    def panel(self) -> FormPanel:
        """The form's rows."""
        raise NotImplementedError

    @property
    def kept(self) -> Form | None:
        """The form of the highlighted preset, if the user changed it."""
        raise NotImplementedError

    def drop(self, form: Form) -> None:
        """Forget a form."""
        raise NotImplementedError

    def check(self) -> None:
        """Look at the form again."""
        raise NotImplementedError

    def changed(self) -> None:
        """The user has changed the form."""
        if self.form is not None:
            self.form.touched = True
            self.check()

    def open_preset(self) -> None:
        """The highlighted preset's form."""
        raise NotImplementedError

    # --- moving -------------------------------------------------------------------------------------------------

    def _to(self, by: int) -> None:
        if self.reading:
            self.toml_top = max(0, self.toml_top + by)
        elif self.stage == "presets":
            self.shelf.move(by)
        else:
            self.panel.move(by)
            row = self.panel.current
            if self.form is not None and row is not None and row.kind == "variant":
                self.form.highlighted = self.form.names.index(row.key.removeprefix("variant:"))
        self.show()

    def do_up(self) -> None:
        self._to(-1)

    def do_down(self) -> None:
        self._to(1)

    def do_page_up(self) -> None:
        self._to(-10)

    def do_page_down(self) -> None:
        self._to(10)

    def do_first(self) -> None:
        self._to(-100_000)

    def do_last(self) -> None:
        self._to(100_000)

    def do_next_pane(self) -> None:
        self.stage = "form" if self.stage == "presets" and self.form is not None else "presets"
        self.show()

    def why_not_next_pane(self) -> str:
        return "" if self.form is not None else "no form is open, Enter opens one"

    def do_cursor_left(self) -> None:
        self._variant(-1)

    def do_cursor_right(self) -> None:
        self._variant(1)

    def why_not_cursor_left(self) -> str:
        return "" if self.form is not None and self.stage == "form" else "the form shows the variants"

    why_not_cursor_right = why_not_cursor_left

    def _variant(self, by: int) -> None:
        if self.form is not None:
            self.form.step(by)
            self.show()

    def why_not_settings(self) -> str:
        return "" if self.form is not None else "no form is open, Enter opens one"

    def do_settings(self) -> None:
        self.every = not self.every
        self.say("every setting that acts" if self.every else "the settings that the preset names, and the usual ones")
        self.show()

    # --- changing -----------------------------------------------------------------------------------------------

    def do_open(self) -> None:
        if self.stage == "presets":
            self.open_preset()
            return
        panel, form, row = self.panel, self.form, self.panel.current
        if form is None or row is None:
            return
        if panel.choices:
            self._choose(row, panel.choices[panel.choice][0])
        elif row.kind == "problem":
            self._go_to_problem(row)
        elif row.kind in ("variant", "tune"):
            self.do_mark()
        else:
            found = choices(form, row, self.app.store)
            if row.kind == "told":
                self.say(TOLD)
            elif found:
                panel.choices = found
                now = form.device if row.kind == "place" else field_text(row.key, form.given(row.key, form.variant))
                panel.choice = next((i for i, (value, _) in enumerate(found) if value == now), 0)
                self.show()
            else:
                self._type(row)

    def _go_to_problem(self, row: Row) -> None:
        """To the field of a fault, with its variant highlighted."""
        problems = self.outcome.problems if self.outcome is not None else []
        place = int(row.key.partition(":")[2])
        problem = problems[place] if place < len(problems) else None
        if problem is None or self.form is None:
            return
        if problem.variant in self.form.names:
            self.form.highlighted = self.form.names.index(problem.variant)
        if problem.key in SETTINGS and problem.key not in self.form.keys(self.every):
            self.every = True
            self.show()
        self.panel.go(problem.key) or self.panel.go(f"variant:{problem.variant or self.form.names[0]}")
        self.show()

    def _choose(self, row: Row, value: str) -> None:
        self.panel.choices = []
        if value == "…":
            self._type(row)
        elif row.kind == "place" and self.form is not None:
            self.form.device = value
            self.changed()
        else:
            self._put(row, value)

    def _type(self, row: Row) -> None:
        form = self.form
        if form is None:
            return
        if row.kind == "setting":
            setting = SETTINGS[row.key]
            value = field_text(row.key, form.given(row.key, form.variant))
            hint = SuggestFromList(setting.choices, case_sensitive=False) if setting.choices else None
            self._ask(f"{row.key}: {setting.help}", row, value, suggester=hint)
        elif row.kind == "seeds":
            self._ask("seeds, like 0 1 2 or 0-4", row, form.seeds)
        elif row.kind == "place":
            values = {"study": form.study, "device": form.device, "runs": str(form.runs_dir), "data": form.data_dir,
                      "at": form.at}  # fmt: skip
            free = free_name(form.runs_dir, form.study) if row.key == "study" and row.fault == "✗" else ""
            self._ask(PLACES[row.key][1], row, values[row.key], proposed=free)

    def _ask(
        self, label: str, row: Row, now: str, *, proposed: str = "", suggester: SuggestFromList | None = None
    ) -> None:  # fmt: skip
        """Let a row's value be typed, for the variant that is shown now; what is left as it is changes nothing."""
        variant = self.form.variant if self.form is not None else ""

        def done(text: str) -> None:
            if text.strip() != now:
                self._put(row, text, variant)

        self.prompt(label, done, value=proposed or now, suggester=suggester)

    def _put(self, row: Row, text: str, variant: str = "") -> None:
        """Take a change into the form and look at it again."""
        form, text = self.form, text.strip()
        if form is None:
            return
        try:
            if row.kind == "seeds":
                form.set_seeds(text)
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
        except UsageError as error:
            self.say(str(error), "error")
            return
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
        who = f" in {form.letter(form.variant)}" if form.by_variant("target.system") else ""
        self.call_after_refresh(self.say, f"{system} at n = {n}{who}")
        self.changed()

    def do_vectors(self) -> None:
        """The systems that hold the classes of the highlighted variant; Enter there comes back with one."""
        out, form = self.outcome, self.form
        classes = out.variants.get(form.variant, {}).get("classes") if out is not None and form is not None else None
        if classes and self.stage == "form":
            self.app.store.form = ("classes", str(classes))
        super().do_vectors()

    # --- on, off, for all, back ---------------------------------------------------------------------------------

    def do_mark(self) -> None:
        form, row = self.form, self.panel.current
        if self.stage == "presets" or form is None or row is None:
            self.open_preset()
            return
        if row.kind == "variant":
            form.toggle(row.key.removeprefix("variant:"))
        elif row.kind == "tune":
            form.toggle_tune()
        else:
            setting = SETTINGS[row.key]
            values = ("true", "false") if setting.kind == "flag" else setting.choices
            now = field_text(row.key, form.given(row.key, form.variant)) or row.value
            place = values.index(now) + 1 if now in values else 0
            self._put(row, values[place % len(values)])
            return
        self.changed()

    def why_not_mark(self) -> str:
        if self.stage == "presets":
            entry = self.shelf.current
            return "" if entry is not None and entry.info is None else "Enter opens the form"
        row = self.panel.current
        if row is None or self.form is None:
            return "no form is open"
        if row.kind in ("variant", "tune"):
            return "a fork has one variant" if self.form.source == "fork" else ""
        setting = SETTINGS.get(row.key)
        if setting is None or setting.kind not in ("choice", "flag"):
            return "Enter edits this row"
        return ""

    def _setting_row(self) -> str:
        row = self.panel.current
        if self.stage != "form" or self.form is None or row is None or row.kind != "setting":
            return "highlight a setting in the form"
        return ""

    def why_not_mark_all(self) -> str:
        row, form = self.panel.current, self.form
        reason = self._setting_row()
        if reason or row is None or form is None:
            return reason
        return "" if form.by_variant(row.key) else "it is the same for all variants already"

    def do_mark_all(self) -> None:
        """The highlighted variant's value for all of them."""
        form, row = self.form, self.panel.current
        if form is not None and row is not None:
            form.put(row.key, form.given(row.key, form.variant), form.names)
            self.changed()
            self.say(f"{row.key}: {row.value} for all variants")

    def why_not_mark_none(self) -> str:
        row, form = self.panel.current, self.form
        if self.stage == "presets":
            return "" if self.kept is not None else "there are no changes of yours to drop"
        reason = self._setting_row()
        if reason or row is None or form is None:
            return reason
        return "" if form.changed(row.key) else "it is as the preset has it"

    def do_mark_none(self) -> None:
        """The highlighted setting as the preset has it; in the list, the whole preset (asks)."""
        form, row = self.form, self.panel.current
        kept = self.kept if self.stage == "presets" else None
        if kept is not None:
            self.ask(f"drop your changes to {kept.heading}?", {"y": ("drop them", lambda: self.drop(kept))})
            return
        if form is not None and row is not None:
            form.reset(row.key)
            self.changed()
