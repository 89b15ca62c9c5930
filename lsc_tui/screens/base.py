"""What every screen has in common: the line of tabs, the footer, messages, questions, prompts, and the way of a key.

A screen derives from `LscScreen`, yields its panels in `body`, redraws them in `show`, and has a method `action_NAME`
for every command of keymap.py that acts on it; `why_not` returns why a command cannot act now.

The application takes keys one after the other, each to its end (`take_key`): an open question gets it, else the open
field, else the bindings. What has the focus plays no part: Textual moves it later, and what is typed in a burst would
reach the list behind the field.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rich.cells import cell_len
from textual import events
from textual.actions import parse
from textual.app import ComposeResult
from textual.binding import BindingsMap
from textual.screen import Screen
from textual.suggester import Suggester
from textual.timer import Timer
from textual.widgets.input import Selection

from lsc_engine.analysis.saved_views import SavedView, list_views
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.formatting import counted
from lsc_engine.common.userpaths import home_path, user_path
from lsc_tui.keymap import COMMANDS, GROUPS, NAMES, is_function_key, shown
from lsc_tui.lines import STATES, Line, clean, ends, error_words, fit, pad, width_of, wrap
from lsc_tui.modals import Choice, ChoiceScreen, Reader, WrappedReader, help_lines, palette
from lsc_tui.theme import THEMES
from lsc_tui.widgets.field import Field, key_name
from lsc_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from lsc_tui.app import LscApp

T = TypeVar("T")
SMALLEST = (40, 12)
WIDE = (120, 36)
MESSAGE_SECONDS = 6.0
MESSAGE_LINES = 3
# Nobody answers a question sooner: such a key was typed before, and a busy machine read it late.
READING_SECONDS = 0.2
# Commands that leave an open field as it is; every other one closes it first.
_KEEPS_FIELD = ("help", "palette", "next_pane", "previous_pane")

# Key -> (word, what it does).
Answers = dict[str, tuple[str, Callable[[], object]]]


class LscScreen(Screen[None], inherit_bindings=False):
    """Tabs above, keys below, panels between."""

    AUTO_FOCUS = ""
    TAB: ClassVar[str] = ""
    TAB_KEY: ClassVar[str] = ""
    TAB_WORD: ClassVar[str] = ""
    # Command ids in the footer, most important first: as many as fit of those that act now. WORDS renames them here.
    FOOTER: ClassVar[str] = ""
    WORDS: ClassVar[dict[str, str]] = {}

    app: LscApp

    def __init__(self) -> None:
        super().__init__(classes="lsc")
        self._bindings = BindingsMap(COMMANDS.values())
        self.message: tuple[str, str] = ("", "")  # text and style
        self._message_timer: Timer | None = None
        self._question: tuple[str, Answers] | None = None
        self._question_seen = math.inf  # from when on keys may answer it, on the clock of time.monotonic
        self.field: Field | None = None  # the open field, which gets all keys
        self._prompt_done: Callable[[str], object] | None = None
        self._prompt_changed: Callable[[str], object] | None = None
        self._prompt_keys: Mapping[str, Callable[[], object]] = {}
        self._earlier: list[str] = [""]
        self._label = ""  # of the open prompt, where its field does not show it
        self.recalled = 0  # which of the earlier texts was brought back into the prompt, from 1; 0 for none

    def body(self) -> ComposeResult:
        """The widgets between the two lines."""
        yield from ()

    def show(self) -> None:
        """Redraw what changed: called when the store has news and when the screen comes up."""

    def action_move(self, rows: int) -> None:
        """Move the highlight, or scroll, by rows."""

    @property
    def page(self) -> int:
        """Rows that PgUp and PgDn move by."""
        return 10

    def clicked(self, panel: Panel, x: int, y: int) -> None:
        """A click in a panel of the body, in cells from its corner."""

    def compose(self) -> ComposeResult:
        yield Panel(self._draw_tabs, id="tabs")
        yield from self.body()
        yield Panel(self._draw_message, id="message")
        yield Panel(self._draw_foot, id="foot")
        yield Field(id="prompt", compact=True, select_on_focus=False)
        needs = f"lsc needs {SMALLEST[0]}×{SMALLEST[1]}, this is "
        yield Panel(lambda w, _: [[(fit(f"{needs}{self.size.width}×{self.size.height}", w), "")]], id="too-small")

    @property
    def wide(self) -> bool:
        return self.size.width >= WIDE[0] and self.size.height >= WIDE[1]

    def on_resize(self, event: events.Resize) -> None:
        # Textual's breakpoints look at one of the two alone.
        width, height = event.size
        wide = width >= WIDE[0] and height >= WIDE[1]
        self.set_class(wide, "-wide")
        self.set_class(wide and width >= 140, "-side")
        self.set_class(height < 20, "-short")
        self.set_class(width < SMALLEST[0] or height < SMALLEST[1], "-tiny")
        self.call_after_refresh(self.redraw_all)

    def on_screen_resume(self) -> None:
        self.redraw_all()

    def redraw_all(self) -> None:
        if self.is_mounted:
            # A field that was hidden, in a window too small for it, has lost the focus and with it its cursor.
            self.set_focus(self.field)
            self.show()
            # Last: which keys act depends on what is shown.
            self.redraw("#tabs", "#message", "#foot", "#too-small")

    def redraw(self, *panels: str) -> None:
        for name in panels:
            panel = self.query_one(name, Panel)
            if panel.display:
                panel.redraw()

    def toggle(self, *classes: str) -> None:
        """Turn classes on or off, which lay the screen out anew."""
        self.toggle_class(*classes)
        self.call_after_refresh(self.redraw_all)

    def set_height(self, name: str, height: int | None) -> None:
        """The height of a part in lines; None leaves it to the style sheet."""
        styles = self.query_one(name).styles.inline
        if (styles.height.value if styles.height is not None else None) != height:
            styles.height = height

    def _draw_tabs(self, width: int, height: int) -> list[Line]:
        store, wide = self.app.store, self.wide
        left: Line = []
        for number, tab in enumerate(GROUPS["screens"], 1):
            style = "tab-on" if tab == self.TAB else "tab"
            left += [(f" {number} {COMMANDS[tab].description} ", style), (" " * wide, "")]
        machine, counts = store.hardware, store.counts()
        right: Line = [(store.host, "")]
        if machine.gpus:
            busy, count = sum(gpu.busy for gpu in machine.gpus), len(machine.gpus)
            right.append((f"  GPU {busy} of {count} busy" if wide else f"  GPU {busy}/{count}", ""))
        if wide and machine.cpu is not None:
            right.append((f"  cpu {machine.cpu:.0f}%", "dim"))
        if wide and machine.disk_free is not None:
            right.append((f"  disk {machine.disk_free / 1e9:.0f}G free", "dim"))
        right.append(("  " if wide else " ", ""))
        states = "running queued stalled diverged failed lost" if wide else "running stalled diverged failed lost"
        for state in filter(counts.get, states.split()):
            right.append((f" {STATES[state][0]}{counts[state]}{f' {state}' * wide}", f"state-{state}"))
        if width_of(left) + width_of(right) >= width:
            right = right[1:]  # rather without the name of the host than without what goes on there
        return [ends(left, right, width)]

    def _draw_message(self, width: int, height: int) -> list[Line]:
        text, style = self._above()
        return [[(" ", ""), (fit(line, width - 1), style)] for line in wrap(text, width - 1)[:MESSAGE_LINES]]

    def _above(self) -> tuple[str, str]:
        """What the message line shows: an error also above an open field, else the label of that, else the message."""
        return (self._label, "dim") if self._label and self.message[1] != "error" else self.message

    def _draw_foot(self, width: int, height: int) -> list[Line]:
        """The question with its answers, else (narrow) the message, else the keys that act now."""
        if self._question is not None:
            return self._question_lines(width)
        if self.message[0] and not self.wide:
            return [[(fit(line, width), self.message[1])] for line in wrap(self.message[0], width)[:MESSAGE_LINES]]
        left: Line = []
        names, words = self.footer()
        for name in names:
            keys = self.app.keys[name]
            if not keys or not self.acts(name):
                continue
            word = words.get(name, COMMANDS[name].description)
            entry: Line = [("  " if left else "", ""), (shown(keys[0]), "key"), (f" {word}", "")]
            if width_of(left) + width_of(entry) > width - 8:
                break
            left += entry
        return [pad(ends(left, [(shown(self.app.keys["help"][0]), "key"), (" help", "")], width), width)]

    def _question_lines(self, width: int) -> list[Line]:
        """The question and its answers: on one line, else the answers below."""
        if self._question is None:
            return []
        text, answers = self._question
        rows: list[Line] = []
        for short in (False, True):
            keys: Line = []
            for key, (word, _) in answers.items():
                keys += [(f"  {shown(key)}", "key"), (f" {word.partition(' ')[0] if short else word}", "")]
            rows.append([*keys, ("  Esc", "key"), (" no", "")])
        for keys in rows:
            if cell_len(text) + 1 + width_of(keys) <= width:
                return [pad([(f"{text} ", "accent"), *keys], width)]
        keys = next((keys for keys in rows if width_of(keys) <= width), rows[-1])
        return [*([(line, "accent")] for line in wrap(text, width)[:MESSAGE_LINES]), pad(keys, width)]

    def footer(self) -> tuple[Sequence[str], dict[str, str]]:
        """Command ids in the line of keys, most important first, and what some of them are called here."""
        return self.FOOTER.split(), self.WORDS

    def say(self, text: str, style: str = "") -> None:
        """A sentence on the message line, until a key; at 80 columns in place of the keys, and for 6 s."""

        def over() -> None:
            self.message = self.message if self.wide else ("", "")
            self._redraw_lines()

        self.message = (clean(text), style)
        if self._message_timer is not None:
            self._message_timer.stop()
        # "…" announces work that is still going on: it stays until its end is reported.
        passing = bool(text) and not text.endswith("…")
        self._message_timer = self.set_timer(MESSAGE_SECONDS, over) if passing else None
        self._redraw_lines()

    def _redraw_lines(self) -> None:
        if self.is_mounted:
            width = max(20, self.size.width)
            lines = min(MESSAGE_LINES, len(wrap(self._above()[0], self.size.width - 1)))
            refused = self.field is not None and self.message[1] == "error"
            self.set_class(bool(self._label) or refused, "-labelled")
            self.set_height("#foot", len(self._question_lines(width)) or max(1, 0 if self.wide else lines))
            self.set_height("#message", max(1, lines))
            self.redraw("#message", "#foot")

    def in_thread(self, work: Callable[[], T], done: Callable[[T], object] | str, *, exclusive: str = "") -> None:
        """Run `work` off the UI thread, then `done` with its result on it (a string is the message then). An error of
        the engine or of a file becomes the message. `exclusive`: the group in which a newer one ends the older."""

        def job() -> None:
            try:
                result = work()
            except (LscError, OSError) as error:
                self.app.call_soon(self.say, error_words(error), "error")
            else:
                self.app.call_soon(*((self.say, done) if isinstance(done, str) else (done, result)))

        self.run_worker(job, thread=True, exclusive=bool(exclusive), group=exclusive or "work", exit_on_error=False)

    def ask(self, question: str, answers: Answers) -> None:
        """One question on the last line: any key that is no answer means no. Keys that were typed before the question
        stood there are no answer to it."""
        shown = self._question = (clean(question), answers)
        self._question_seen = math.inf

        def drawn() -> None:
            if self._question is shown:
                self._question_seen = time.monotonic() + (0 if self.app.is_headless else READING_SECONDS)

        self._redraw_lines()
        self.query_one("#foot").call_after_refresh(drawn)

    def prompt(
        self,
        label: str,
        done: Callable[[str], object],
        *,
        value: str = "",
        changed: Callable[[str], object] | None = None,
        suggester: Suggester | None = None,
        replace: bool = False,
        earlier: Sequence[str] = (),
        keys: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        """One line of text on the last line; Enter gives it to `done`, Esc drops it. A text for which `done` or
        `changed` raises UsageError stays in the open field, below that sentence. `replace`: what is typed takes the
        place of `value`, which a key that moves keeps. `earlier`: what PgUp brings back, newest first. `keys`: what
        others do meanwhile."""
        field = self.field = self.query_one("#prompt", Field)
        self._prompt_done, self._prompt_changed, self._prompt_keys = done, changed, keys or {}
        self._earlier, self.recalled = [value, *earlier], 0
        field.suggester, field.placeholder, field.value = suggester, label, value
        self.add_class("-prompt")
        # A text in the field hides what it is of, which then stands above.
        self._label = label if value else ""
        self._redraw_lines()
        field.cursor_position = len(value)
        if replace:
            field.selection = Selection(0, len(value))
        self.set_focus(field)

    def save_as(self, name: str, write: Callable[[Path], object], more: str = "") -> None:
        """Ask where a file, or folder, of this name goes, and write it off the UI thread; `more` follows its path in
        the words. What is there is replaced only after a question."""

        def begin(path: Path) -> None:
            self.say(f"writing {path.name} …")
            self.in_thread(lambda: write(path), f"wrote {home_path(path)}{more}")

        def chosen(text: str) -> None:
            path = user_path(text.strip() or name).absolute()
            path = path / name if path.is_dir() and path.name != name else path
            path = path if path.suffix == Path(name).suffix else path.with_name(path.name + Path(name).suffix)
            if not path.parent.is_dir():
                raise UsageError(f"{home_path(path.parent)} is not there; nothing was written")
            if os.path.lexists(path):
                self.ask(f"{home_path(path)} is there already.", {"y": ("replace it", partial(begin, path))})
            else:
                begin(path)

        self.prompt("write to", chosen, value=home_path(Path.cwd() / name))

    def close_field(self) -> None:
        self.field = self._prompt_done = self._prompt_changed = None
        self.remove_class("-prompt")
        self._label = ""
        self._redraw_lines()
        self.set_focus(None)

    def submit(self) -> bool:
        """Hand the text of the open field to what it was opened for, and close it unless the text is refused."""
        accepted = self._hand(self._prompt_done)
        if accepted:
            self.close_field()
        return accepted

    def _hand(self, act: Callable[[str], object] | None) -> bool:
        """Hand the text of the open field to `act`; False with a sentence where that refuses it."""
        if self.message[1] == "error":
            self.say("")
        try:
            if act is not None and self.field is not None:
                act(self.field.value)
        except UsageError as error:
            self.say(str(error), "error")
            return False
        return True

    async def take_key(self, event: events.Key) -> None:
        """A key for this screen: for its question, its open field, or its bindings."""
        key, tiny = key_name(event), self.has_class("-tiny")
        name = next((name for name, keys in self.app.keys.items() if key in keys), "")
        if self._question is not None:
            answers = self._question[1]
            if key == "escape" or (event.time >= self._question_seen and not tiny):
                self._question = None
                self._redraw_lines()
                if key in answers:
                    answers[key][1]()
        elif self.field is not None and not is_function_key(key):
            await self._key_in_field(self.field, key, event)
        elif not tiny or name == "quit" or self.field is not None:
            if self.field is not None and name and name not in _KEEPS_FIELD and self.acts(name):
                self.close_field()
            covered = bool(self.message[0]) and not self.wide
            # Also beside the keys it is about what was done before; "…" stays until the work is done.
            if self.message[0] and (covered or not self.message[0].endswith("…")):
                self.say("")
            # Enter that was typed before the viewer had the terminal: the terminal made a line feed of it.
            early = event.key == "ctrl+j"
            if not covered or name != "back":
                await self.perform("open" if early else name, "enter" if early else event.key)

    async def _key_in_field(self, field: Field, key: str, event: events.Key) -> None:
        changed, before = self._prompt_changed, field.value
        if key == "enter":
            self.submit()
            return
        if key == "escape":
            if self.message[1] == "error":
                self.say("")
            self.close_field()
            if changed is not None:
                changed("")
            return
        if key in self._prompt_keys:
            self._prompt_keys[key]()
            return
        if key in ("pageup", "pagedown"):
            self.recalled = max(0, min(len(self._earlier) - 1, self.recalled + (1 if key == "pageup" else -1)))
            field.value = self._earlier[self.recalled]
            field.cursor_position = len(field.value)
        else:
            await field.take(event)
        if field.value != before:
            self._hand(changed)

    def take_paste(self, text: str) -> None:
        """Pasted text: for the open field, else for nothing."""
        if self.field is not None and self._question is None:
            self.field.paste(text)
            self._hand(self._prompt_changed)

    async def perform(self, name: str, key: str = "") -> None:
        """Do a command, by the bindings of its key where it comes from one, or say why not."""
        action = COMMANDS[name].action if name else ""
        done = await (self.app._check_bindings(key) if key else self.run_action(action))
        if not done and name and self.acts(name) is None:
            keys = self.app.keys[name]
            self.say(f"{shown(keys[0]) if keys else COMMANDS[name].description}: {self.why_not(name)}", "warn")
        if self.is_current:
            self._redraw_lines()

    def acts(self, name: str) -> bool | None:
        """What `check_action` returns for a command."""
        return self.check_action(*parse(COMMANDS[name].action)[1:])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """False: no command of this screen. None: it cannot act now, for the reason that `why_not` returns."""
        name = NAMES.get((action, parameters))
        if name is None or not hasattr(self, f"action_{action}"):
            return name is None
        return None if self.why_not(name) else True

    def help_of(self, name: str) -> str:
        """What a command does here, for the help page."""
        return COMMANDS[name].tooltip

    def why_not(self, name: str) -> str:
        """The reason why a command cannot act now, or ""."""
        return ""

    @property
    def idle(self) -> bool:
        """Whether this screen is on top and has neither question nor field open: only then may anything but a key put
        another screen in its place."""
        return self.app.screen is self and self.field is None and self._question is None

    def on_click(self, event: events.Click) -> None:
        """A tab, a row, a place in a chart: only while no question and no field is open."""
        widget = event.widget
        if not self.idle or self.has_class("-tiny") or not isinstance(widget, Panel):
            return
        start = 0
        for tab in GROUPS["screens"] if widget.id == "tabs" else ():
            start += len(COMMANDS[tab].description) + 4 + self.wide
            if event.x < start:
                self.action_go(tab)
                return
        self.clicked(widget, event.x, event.y)

    def on_mouse_scroll_down(self) -> None:
        if self.idle:
            self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        if self.idle:
            self.action_move(-3)

    def action_go(self, tab: str) -> None:
        self.app.go(tab)

    def action_move_pages(self, pages: int) -> None:
        self.action_move(pages * self.page)

    def action_quit(self) -> None:
        self.app.leave()

    def action_theme(self) -> None:
        """Dark, light, high contrast, the terminal's own colours."""
        app, names = self.app, list(THEMES)
        app.theme = names[(names.index(app.theme) + 1) % len(names)]
        app.ui.set(theme=app.theme)
        for panel in self.query(Panel):
            panel.refresh()
        self.say(f"theme {app.theme}")

    def action_help(self) -> None:
        self.read(f"keys of {self.TAB.removesuffix('_tab')}", partial(help_lines, self))

    def read(self, title: str, lines: Sequence[Line] | Callable[[int], Sequence[Line]]) -> None:
        """Lines to be read, over the whole screen; they may be made for its width."""
        made = WrappedReader(title, lines, self.size.width) if callable(lines) else Reader(title, lines)
        self.app.push_screen(made)

    def action_palette(self) -> None:
        self.app.push_screen(palette(self))

    def action_views(self) -> None:
        """The saved views of all runs folders; Enter opens one in Compare."""
        folders = [f.path for f in self.app.store.folders if not f.problem]

        def open_view(root: Path, view: SavedView) -> None:
            self.app.store.view = (root, view)
            self.app.go("compare_tab")

        def listed(found: list[tuple[Path, SavedView]]) -> None:
            choices = []
            for root, view in found:
                words = f"{counted(len(view.runs), 'run')}, {clean(view.metric)}"
                choices.append(Choice("", clean(view.name), words, partial(open_view, root, view)))
            self.choose("saved view", "opens it in Compare", choices, "no view is saved yet; w in Compare saves one")

        self.in_thread(lambda: [(path, view) for path in folders for view in list_views(path)], listed)

    def choose(self, what: str, does: str, choices: Sequence[Choice], none: str) -> None:
        """Let the user choose, unless something else has been opened since; a sentence where there is nothing."""
        if not choices:
            self.say(none)
        elif self.idle:
            self.app.push_screen(ChoiceScreen(what, does, choices))

    def action_back(self) -> None:
        """One layer back: the message, and with it a layer of the screen."""
        if self.message[0]:
            self.say("")
        self.leave_layer()

    def leave_layer(self) -> None:
        """What Esc does when no field or message is open."""
        if self.TAB != "runs":
            self.app.go_back()
