"""What every screen has in common: the line of tabs, the line of keys, messages, questions, and the way of a key.

A screen derives from `LscScreen`, yields its panels in `body`, redraws them in `show`, and has one method `do_<id>` for
every command it can do. It never looks at a key itself, except inside a text field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input
from textual.widgets.input import Selection

from lsc_tui.commands import Command, shown
from lsc_tui.lines import STATES, Line, clean, ends, fit, pad, width_of, wrap
from lsc_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from lsc_tui.app import LscApp

SMALLEST = (40, 12)
WIDE = (120, 36)
MESSAGE_SECONDS = 6.0
MESSAGE_LINES = 3
TABS = (
    ("runs", "Runs"),
    ("monitor", "Monitor"),
    ("compare_tab", "Compare"),
    ("new", "New run"),
    ("vectors", "Vectors"),
)

Answers = dict[str, tuple[str, Callable[[], None]]]


class Prompt(Input):
    """The line of text. Enter is taken at once: keys typed ahead of it are already on their way here, and go on to the
    screen once the line is closed."""

    async def _on_key(self, event: events.Key) -> None:
        screen = self.screen
        if isinstance(screen, LscScreen) and not screen.has_class("-prompt"):
            event.stop()
            event.prevent_default()
            screen.on_key(event)
        elif isinstance(screen, LscScreen) and event.key == "enter":
            event.stop()
            event.prevent_default()
            screen.prompted(self.value)
        else:
            await super()._on_key(event)


class LscScreen(Screen[None]):
    """Tabs above, keys below, panels between."""

    AUTO_FOCUS = ""
    TAB: ClassVar[str] = ""
    # Command ids in the footer, most important first; those that do not fit are left out. WORDS renames them here.
    FOOTER: ClassVar[tuple[str, ...]] = ()
    FOOTER_WIDE: ClassVar[tuple[str, ...]] = ()
    WORDS: ClassVar[dict[str, str]] = {}

    app: LscApp

    def __init__(self) -> None:
        super().__init__(classes="lsc")
        self.message: tuple[str, str] = ("", "")
        self._message_timer: object = None
        self._question: tuple[str, Answers] | None = None
        self._prompt_done: Callable[[str], None] | None = None
        self._prompt_changed: Callable[[str], None] | None = None

    # --- to be filled by a screen -------------------------------------------------------------------------------

    def body(self) -> ComposeResult:
        """The widgets between the two lines."""
        yield from ()

    def show(self) -> None:
        """Redraw what changed: called when the store has news and when the screen comes up."""

    # --- frame --------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Panel(self._draw_tabs, id="tabs")
        yield from self.body()
        yield Panel(self._draw_message, id="message")
        yield Panel(self._draw_foot, id="foot")
        yield Prompt(id="prompt", compact=True, select_on_focus=False)
        yield Panel(self._draw_too_small, id="too-small")

    @property
    def wide(self) -> bool:
        """Whether the wide layout is in use."""
        return self.size.width >= WIDE[0] and self.size.height >= WIDE[1]

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        self.set_class(width >= WIDE[0] and height >= WIDE[1], "-wide")
        self.set_class(width >= 140 and height >= WIDE[1], "-side")
        self.set_class(height < 20, "-short")
        self.set_class(width < SMALLEST[0] or height < SMALLEST[1], "-tiny")
        self.call_after_refresh(self.redraw_all)

    def on_screen_resume(self) -> None:
        self.redraw_all()

    def redraw_all(self) -> None:
        """Frame and body."""
        if self.is_mounted:
            for name in ("#tabs", "#message", "#foot", "#too-small"):
                self.query_one(name, Panel).redraw()
            self.show()

    def news(self) -> None:
        """The store has changed."""
        self.redraw_all()

    def _draw_too_small(self, width: int, height: int) -> list[Line]:
        size = self.size
        return [[(fit(f"lsc needs {SMALLEST[0]}×{SMALLEST[1]}, this is {size.width}×{size.height}", width), "")]]

    def _draw_tabs(self, width: int, height: int) -> list[Line]:
        left: Line = []
        for number, (tab, word) in enumerate(TABS, 1):
            left.append((f" {number} {word} ", "tab-on" if tab == self.TAB else "tab"))
            if self.wide:
                left.append((" ", ""))
        return [pad(ends(left, self._summary(), width), width)]

    def _summary(self) -> Line:
        """Host, GPUs in use, runs by state."""
        store = self.app.store
        out: Line = [(store.host, "")]
        gpus = store.hardware.gpus
        if gpus:
            busy = sum(1 for gpu in gpus if gpu.busy)
            out.append((f"  GPU {busy} of {len(gpus)} busy" if self.wide else f"  GPU {busy}/{len(gpus)}", ""))
        if self.wide:
            if store.hardware.cpu is not None:
                out.append((f"  cpu {store.hardware.cpu:.0f}%", "dim"))
            if store.hardware.disk_free is not None:
                out.append((f"  disk {store.hardware.disk_free / 1e9:.0f}G free", "dim"))
            out.append(("  ", ""))
        else:
            out.append((" ", ""))
        counts = store.counts()
        shown_states = ("running", "queued", "stalled", "diverged", "failed", "lost")
        for state in shown_states if self.wide else ("running", "stalled", "diverged", "failed"):
            if counts.get(state):
                word = f" {state}" if self.wide else ""
                out.append((f" {STATES[state][0]}{counts[state]}{word}", f"state-{state}"))
        return out

    def _draw_message(self, width: int, height: int) -> list[Line]:
        text, style = self.message
        return [[(" ", ""), (fit(text, width - 1), style)]]

    def _draw_foot(self, width: int, height: int) -> list[Line]:
        if self._question is not None:
            return [self._question_line(width)]
        if self.message[0] and not self.wide:
            return [[(fit(line, width), self.message[1])] for line in wrap(self.message[0], width)[:MESSAGE_LINES]]
        help_word: Line = [(shown(self.app.keymap.commands["help"].keys[0]), "key"), (" help", "")]
        left: Line = []
        room = width - 8
        names, words = self.footer()
        for name in names:
            command = self.app.keymap.commands[name]
            if not command.keys or not hasattr(self, f"do_{name}"):
                continue
            if command.group == "act" and name != "launch" and self.why_not(command):
                continue
            key, word = shown(command.keys[0]), words.get(name, command.word)
            needed = len(key) + len(word) + (3 if left else 1)
            if needed > room:
                break
            room -= needed
            left += [("  " if left else "", ""), (key, "key"), (f" {word}", "")]
        return [pad(ends(left, help_word, width), width)]

    def footer(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Command ids in the line of keys, most important first, and what some of them are called here."""
        return self.FOOTER_WIDE if self.wide and self.FOOTER_WIDE else self.FOOTER, self.WORDS

    def _question_line(self, width: int) -> Line:
        text, answers = self._question or ("", {})
        keys: Line = []
        for short in (False, True):
            keys = []
            for key, (word, _) in answers.items():
                keys += [(f"  {shown(key)}", "key"), (f" {word.partition(' ')[0] if short else word}", "")]
            keys += [("  Esc", "key"), (" no", "")]
            if width_of(keys) + len(text) < width:
                break
        room = max(8, width - width_of(keys))
        return pad([(fit(text, min(room, len(text) + 1)), "accent"), *keys], width)

    # --- messages and questions ---------------------------------------------------------------------------------

    def say(self, text: str, style: str = "") -> None:
        """A sentence on the message line; at 80 columns in place of the keys, for 6 s or until a key."""
        self.message = (clean(text), style)
        if self._message_timer is not None:
            self._message_timer.stop()  # type: ignore[attr-defined]
        self._message_timer = self.set_timer(MESSAGE_SECONDS, self._message_over) if text else None
        self._redraw_lines()

    def _message_over(self) -> None:
        self._message_timer = None
        if not self.wide:
            self.message = ("", "")
        self._redraw_lines()

    def _redraw_lines(self) -> None:
        if self.is_mounted:
            self.query_one("#message", Panel).redraw()
            foot = self.query_one("#foot", Panel)
            told = self.message[0] if self._question is None and not self.wide else ""
            # A sentence that names what would do is shown whole.
            height = max(1, min(MESSAGE_LINES, len(wrap(told, max(20, self.size.width)))))
            if foot.styles.height is None or foot.styles.height.value != height:
                foot.styles.height = height
            foot.redraw()

    def ask(self, question: str, answers: Answers) -> None:
        """One question on the last line: `answers` is key -> (word, what to do). Any other key means no."""
        self._question = (clean(question), answers)
        self._redraw_lines()

    def prompt(
        self,
        label: str,
        done: Callable[[str], None],
        *,
        value: str = "",
        changed: Callable[[str], None] | None = None,
        suggester: Suggester | None = None,
        replace: bool = False,
    ) -> None:
        """One line of text on the last line; Enter gives it to `done`, Esc drops it. `replace`: what is typed takes the
        place of `value`, which a key that moves keeps."""
        field = self.query_one("#prompt", Input)
        self._prompt_done, self._prompt_changed = done, changed
        field.suggester = suggester
        field.placeholder = label
        with field.prevent(Input.Changed):
            field.value = value
        field.cursor_position = len(value)
        if replace:
            field.selection = Selection(0, len(value))
        self.add_class("-prompt")
        field.focus()

    def _end_prompt(self) -> None:
        self.remove_class("-prompt")
        self._prompt_done = self._prompt_changed = None
        self.set_focus(None)

    def prompted(self, text: str) -> None:
        """The line of text was entered."""
        done = self._prompt_done
        self._end_prompt()
        if done is not None:
            done(text)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "prompt" and self._prompt_changed is not None:
            event.stop()
            self._prompt_changed(event.value)

    # --- keys ---------------------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        key = (
            event.character if event.character and event.character.isprintable() and event.key != "space" else event.key
        )
        if key == " ":
            key = "space"
        if self._question is not None:
            event.stop()
            event.prevent_default()
            self._answer(key)
            return
        field = self.focused if isinstance(self.focused, Input) else None
        if field is not None and key != "escape" and not (key[:1] == "f" and key[1:].isdigit()):
            self.key_in_field(field, key, event)
            return
        command = self.app.keymap.find(key)
        if key == "ctrl+c":
            event.stop()
            event.prevent_default()
            self.app.leave_on_second()
        elif command is not None and self.can_do(command):
            event.stop()
            event.prevent_default()
            self.perform(command)

    def key_in_field(self, field: Input, key: str, event: events.Key) -> None:
        """A key while a text field has the focus; Tab takes the completion that the field proposes."""
        if key == "tab" and field.id == "prompt":
            event.stop()
            event.prevent_default()
            field.action_cursor_right()

    def _answer(self, key: str) -> None:
        _, answers = self._question or ("", {})
        self._question = None
        self._redraw_lines()
        if key in answers:
            answers[key][1]()

    def can_do(self, command: Command) -> bool:
        """Whether this screen has the command at all."""
        return hasattr(self, f"do_{command.id}")

    def help_of(self, command: Command) -> str:
        """What a command does here, for the help page."""
        return command.help

    def why_not(self, command: Command) -> str:
        """The reason why a command cannot act now, or ""."""
        reason = getattr(self, f"why_not_{command.id}", None)
        return str(reason()) if reason is not None else ""

    def perform(self, command: Command) -> None:
        """Do a command, or say why not."""
        if self.message[0] and not self.wide and command.id != "back":
            self.say("")
        reason = self.why_not(command)
        if reason:
            key = shown(command.keys[0]) if command.keys else command.word
            self.say(f"{key}: {reason}", "warn")
            return
        getattr(self, f"do_{command.id}")()
        self._redraw_lines()

    # --- commands of every screen -------------------------------------------------------------------------------

    def do_runs(self) -> None:
        self.app.go("runs")

    def do_monitor(self) -> None:
        self.app.go("monitor")

    def do_compare_tab(self) -> None:
        self.app.go("compare_tab")

    def do_new(self) -> None:
        self.app.go("new")

    def do_vectors(self) -> None:
        self.app.go("vectors")

    def do_quit(self) -> None:
        self.app.leave()

    def do_theme(self) -> None:
        self.app.next_theme()

    def do_help(self) -> None:
        from lsc_tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))

    def do_palette(self) -> None:
        from lsc_tui.screens.palette import PaletteScreen

        self.app.push_screen(PaletteScreen(self))

    def do_back(self) -> None:
        """One layer back: an open field first, then a message that covers the keys; a screen adds its own layers."""
        if self.has_class("-prompt"):
            changed = self._prompt_changed
            self._end_prompt()
            if changed is not None:
                changed("")
        elif self.message[0] and not self.wide:
            self.say("")
        else:
            if self.message[0]:
                self.say("")
            self.leave_layer()

    def leave_layer(self) -> None:
        """What Esc does when no field or message is open."""
        if self.TAB != "runs":
            self.app.go_back()


def first_panel(widget: Widget, selector: str) -> Panel:
    """A panel of a screen by its selector."""
    return widget.query_one(selector, Panel)
