"""Every command, once, as a binding of Textual: footer, keys, palette and help page are made from this table.

A command acts on a screen that has the method of its action, `action_<name>`; `why_not` there returns the reason why it
cannot act now. Keys may be changed in `keys.toml` in the user's config folder: command id = key or list of keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from textual.actions import parse
from textual.binding import Binding

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.safe_io import decoded

END = 1_000_000  # rows: as far as a list goes
# Group -> id, keys (the first stands in the footer), word, help; the action, where it has another name than the id.
_TABLE: dict[str, list[tuple[str, ...]]] = {
    "screens": [
        ("runs", "1", "Runs", "the runs of all folders", "go('runs')"),
        ("monitor", "2", "Monitor", "one run: curves, machine, log", "go('monitor')"),
        ("compare_tab", "3", "Compare", "marked runs on a chart and in a table", "go('compare_tab')"),
        ("new", "4", "New run", "choose a preset, adjust it, launch it", "go('new')"),
        ("vectors", "5", "Vectors", "systems, angles, smallest dimensions", "go('vectors')"),
    ],
    "everywhere": [
        ("help", "? f1", "help", "all keys of this screen"),
        ("palette", ": ctrl+p f2", "palette", "every command by name"),
        ("next_pane", "tab f6", "pane", "next pane or field", "next_pane(1)"),
        ("previous_pane", "shift+tab", "pane", "previous pane or field", "next_pane(-1)"),
        ("back", "escape", "back", "one layer back"),
        ("quit", "q", "leave", "leave the viewer; runs go on"),
        ("theme", "T", "theme", "next theme: dark, light, high contrast, the terminal's colours"),
        ("views", "W", "views", "saved views: open one in Compare"),
    ],
    "move": [
        ("up", "up k", "up", "row up", "move(-1)"),
        ("down", "down j", "down", "row down", "move(1)"),
        ("page_up", "pageup", "page up", "a page up", "move_pages(-1)"),
        ("page_down", "pagedown", "page down", "a page down", "move_pages(1)"),
        ("first", "g home", "top", "first row", f"move({-END})"),
        ("last", "G end", "end", "last row", f"move({END})"),
        ("open", "enter", "open", "open what is highlighted"),
        ("filter", "/", "filter", "filter the list or search the log; Tab completes"),
    ],
    "rows": [
        ("mark", "space", "mark", "mark or unmark"),
        ("mark_all", "*", "all", "mark all that is shown"),
        ("mark_none", "u", "none", "mark none"),
        ("pin", "p", "pin *", "pin as the baseline"),
        ("compare", "c", "compare", "compare the marked runs"),
        ("fold", "b", "seeds", "fold and unfold seeds"),
        ("settings", "d", "settings", "differing or all settings"),
        ("sort_left", ",", "sort", "sort by the column to the left", "sort(-1)"),
        ("sort_right", ".", "sort", "sort by the column to the right", "sort(1)"),
        ("invert", "i", "invert", "invert the order"),
        ("flat", "a", "flat", "one list over all studies, or a list by study"),
        ("group", "B", "group", "group the runs by a setting instead of by study"),
        ("columns", "O", "columns", "choose and order the columns; any setting may be one"),
        ("columns_left", "(", "columns", "chosen columns: those to the left", "shift_columns(-1)"),
        ("columns_right", ")", "columns", "chosen columns: those to the right", "shift_columns(1)"),
        ("hide", "H", "hide", "hide from the list, without deleting; or show again"),
        ("hidden", "A", "hidden", "list what is hidden too, or not"),
        ("toml", "r", "TOML", "the TOML behind this"),
        ("note", "n", "note", "write a note on the run"),
        ("tag", "t", "tag", "give or take a tag"),
        ("clipboard", "Y", "copy text", "put path, id, command or error on the clipboard (asks)"),
        ("export", "e", "export", "table and figure as files (asks where)"),
        ("external", "E", "outside", "log, TOML or report in $PAGER, or in $EDITOR as a copy (asks)"),
        ("save", "w", "save", "save the view, or the preset"),
    ],
    "chart": [
        ("cursor_left", "left h", "cursor", "chart cursor to the left", "move_cursor(-1)"),
        ("cursor_right", "right l", "cursor", "chart cursor to the right", "move_cursor(1)"),
        ("metric", "m", "metric", "next metric or view", "next_metric(1)"),
        ("metric_back", "M", "metric", "the metric or view before", "next_metric(-1)"),
        ("grid", "#", "grid", "charts in a grid: 2×2, 3×3, 4×4, two; / filters their names"),
        ("axis", "x", "axis", "x: step, epoch, time, images", "change('axis')"),
        ("log_x", "X", "log x", "logarithmic x", "change('log_x')"),
        ("log_y", "y", "log", "y: loss logarithmic, accuracy logit too, both linear"),
        ("smooth", "s", "smooth", "smoothing off, .6, .9, .97", "change('smooth')"),
        ("clip", "o", "outliers", "clip outliers, on and off", "change('clip')"),
        ("zoom_in", "+ =", "zoom", "zoom in at the cursor", "look('zoom', 0.5)"),
        ("zoom_out", "-", "zoom out", "zoom out", "look('zoom', 2.0)"),
        ("zoom_y_in", ">", "zoom y", "magnify y around the curve at the cursor", "look('zoom_y', 2.0)"),
        ("zoom_y_out", "<", "zoom y", "magnify y less", "look('zoom_y', 0.5)"),
        ("zoom_whole", "0", "whole", "the whole curve", "look('whole', 0)"),
        ("pan_left", "[", "pan", "pan left", "look('pan', -0.25)"),
        ("pan_right", "]", "pan", "pan right", "look('pan', 0.25)"),
        ("tilt_up", "}", "up", "magnified y: up; embeddings: tilt the sphere, or move up", "look('tilt', 1)"),
        ("tilt_down", "{", "down", "magnified y: down; embeddings: tilt or move down", "look('tilt', -1)"),
        ("level", "v", "level", "a level of accuracy or loss, proposed at the cursor"),
        ("full", "z", "full", "charts alone, on the whole screen"),
        ("follow", "f", "follow", "follow the log, on and off"),
    ],
    "act": [
        ("stop", "S", "stop", "stop the run: with a checkpoint, or kill it (asks)"),
        ("checkpoint", "C", "save now", "write a checkpoint now"),
        ("resume", "R", "resume", "go on from the newest good checkpoint; start what waits (asks)"),
        ("fork", "F", "fork", "a new run from a checkpoint with changed settings"),
        ("copy", "N", "copy", "a new run with these settings"),
        ("delete", "D", "delete", "move to the trash of the runs folder (asks)"),
        ("earlier", "K", "earlier", "queue: start this run before the one above it", "move_turn(-1)"),
        ("later", "J", "later", "queue: start this run after the one below it", "move_turn(1)"),
        ("hold", "Q", "hold", "queue: keep a waiting run from starting, or let it go"),
        ("restore", "U", "undo D", "bring a run back from the trash"),
        ("launch", "L f5", "launch", "launch the runs of this form (asks)"),
    ],
}
COMMANDS: dict[str, Binding] = {}
NAMES: dict[tuple[object, ...], str] = {}  # action and its arguments -> id
GROUPS: dict[str, list[str]] = {group: [] for group in _TABLE}


def add_command(group: str, name: str, keys: str, word: str, help: str, action: str = "") -> None:
    """A command; `keys` are separated by blanks."""
    key = _for_textual(keys.split())
    COMMANDS[name] = Binding(key, action or name, word, tooltip=help, id=name)
    NAMES[parse(action or name)[1:]] = name
    GROUPS[group].append(name)


def _for_textual(keys: Iterable[str]) -> str:
    return ",".join("comma" if key == "," else key for key in keys)


for _group, _rows in _TABLE.items():
    for _row in _rows:
        add_command(_group, *_row)

# Terminal multiplexers and flow control take these first.
FORBIDDEN = frozenset(f"ctrl+{letter}" for letter in "abcjqsz")
_SHOWN = {"escape": "Esc", "up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "PgUp", "pagedown": "PgDn"}


def is_function_key(key: str) -> bool:
    """Whether a key is F1, F2, …"""
    return key[:1] == "f" and key[1:].isdigit()


def shown(key: str) -> str:
    """A key as it is written for people."""
    return _SHOWN.get(key) or (key.title() if key in ("enter", "tab", "home", "end") or is_function_key(key) else key)


@dataclass(frozen=True)
class Keymap:
    """The user's own keys by command. `mouse`: clicks and the wheel act, beside the keys."""

    changes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mouse: bool = False

    @property
    def keys(self) -> dict[str, list[str]]:
        """All commands with their keys: one that another command got is no longer its own."""
        taken = {key for keys in self.changes.values() for key in keys}
        own = {name: [{"comma": ","}.get(key, key) for key in one.key.split(",")] for name, one in COMMANDS.items()}
        return {name: list(self.changes.get(name) or [k for k in own[name] if k not in taken]) for name in COMMANDS}

    @property
    def for_textual(self) -> dict[str, str]:
        return {name: _for_textual(keys) for name, keys in self.changes.items() if keys}

    @staticmethod
    def load(path: Path) -> tuple[Keymap, str]:
        """The keymap of a file, and a sentence on the lines of it that cannot be used. Never raises."""
        try:
            document = tomllib.loads(decoded(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return Keymap(), ""
        except (OSError, tomllib.TOMLDecodeError, RecursionError) as error:
            return Keymap(), f"{path.name}: not read: {error}"
        except ValueError as error:
            return Keymap(), f"{path.name} {error}"
        changes: dict[str, tuple[str, ...]] = {}
        faults = []
        owner: dict[str, str] = {}
        for name, value in document.items():
            keys = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
            if name == "mouse" and isinstance(value, bool):
                continue
            if name not in COMMANDS:
                faults.append(f"{name} is no command, {did_you_mean(name, COMMANDS)}".rstrip("?"))
            elif (not keys and value != []) or not all(isinstance(key, str) and 0 < len(key) < 20 for key in keys):
                faults.append(f"{name} needs a key")
            elif any(key in FORBIDDEN for key in keys):
                faults.append(f"{name}: {keys[0]} belongs to the terminal")
            elif twice := next((key for key in keys if key in owner), ""):
                faults.append(f"{name}: {twice} is {owner[twice]}'s already")
            else:
                changes[name] = keys
                owner |= dict.fromkeys(keys, name)
        fault = f"{path.name}: {'; '.join(faults)}" if faults else ""
        return Keymap(changes, document.get("mouse") is True), fault

    def as_toml(self) -> str:
        """A `keys.toml`, with what each command does: `lsc-tui --keys`."""
        lines, keys = list[str](), self.keys
        for group, names in GROUPS.items():
            lines += ["", f"# {group}"]
            for name in names:
                own = ", ".join(f'"{key}"' for key in keys[name])
                lines.append(f"{name:<13} = {f'[{own}]':<18} # {COMMANDS[name].tooltip}")
        return "\n".join(lines[1:])
