"""Every command, once: key, twins, words, where it acts. Footer, key handling, palette and help page read this table.

A command acts on a screen that has a method `do_<id>`; a method `why_not_<id>`, where there is one, returns the reason
why it cannot act now (shown as `R: running already`), or "". Keys may be changed in `keys.toml` in the user's config
folder: a table of command id = key or list of keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lsc_engine.common.textfiles import decoded


@dataclass(frozen=True)
class Command:
    """One thing that can be done. The first key stands in the footer; the others are its twins."""

    id: str
    keys: tuple[str, ...]
    word: str
    help: str
    group: str = "look"


def _table() -> tuple[Command, ...]:
    c = Command
    return (
        c("runs", ("1",), "Runs", "the runs of all folders", "screens"),
        c("monitor", ("2",), "Monitor", "one run: curves, machine, log", "screens"),
        c("compare_tab", ("3",), "Compare", "marked runs on one chart and in one table", "screens"),
        c("new", ("4",), "New run", "choose a preset, adjust it, launch it", "screens"),
        c("vectors", ("5",), "Vectors", "systems, angles, smallest dimensions", "screens"),
        c("help", ("?", "f1"), "help", "all keys of this screen", "everywhere"),
        c("palette", (":", "ctrl+p", "f2"), "palette", "every command by name", "everywhere"),
        c("next_pane", ("tab", "f6"), "pane", "next pane or field", "everywhere"),
        c("previous_pane", ("shift+tab",), "pane", "previous pane or field", "everywhere"),
        c("back", ("escape",), "back", "one layer back", "everywhere"),
        c("quit", ("q",), "leave", "leave the viewer; runs go on", "everywhere"),
        c("theme", ("T",), "theme", "next theme: dark, light, high contrast, the terminal's colours", "everywhere"),
        c("up", ("up", "k"), "up", "row up", "move"),
        c("down", ("down", "j"), "down", "row down", "move"),
        c("page_up", ("pageup",), "page up", "a page up", "move"),
        c("page_down", ("pagedown",), "page down", "a page down", "move"),
        c("first", ("g", "home"), "top", "first row", "move"),
        c("last", ("G", "end"), "end", "last row", "move"),
        c("open", ("enter",), "open", "open what is highlighted", "move"),
        c("filter", ("/",), "filter", "filter the list or search the log; Tab completes", "move"),
        c("mark", ("space",), "mark", "mark or unmark", "rows"),
        c("mark_all", ("*",), "all", "mark all that is shown", "rows"),
        c("mark_none", ("u",), "none", "mark none", "rows"),
        c("pin", ("p",), "pin *", "pin as the baseline", "rows"),
        c("compare", ("c",), "compare", "compare the marked runs", "rows"),
        c("fold", ("b",), "seeds", "fold and unfold seeds", "rows"),
        c("settings", ("d",), "settings", "differing or all settings", "rows"),
        c("sort_left", (",",), "sort", "sort by the column to the left", "rows"),
        c("sort_right", (".",), "sort", "sort by the column to the right", "rows"),
        c("invert", ("i",), "invert", "invert the order", "rows"),
        c("toml", ("r",), "TOML", "the TOML behind this", "rows"),
        c("note", ("n",), "note", "write a note on the run", "rows"),
        c("tag", ("t",), "tag", "give or take a tag", "rows"),
        c("clipboard", ("Y",), "copy text", "put path, id, command or error on the clipboard (asks)", "rows"),
        c("export", ("e",), "export", "table and figure as files", "rows"),
        c("save", ("w",), "save", "save the view, or the preset", "rows"),
        c("cursor_left", ("left", "h"), "cursor", "chart cursor to the left", "chart"),
        c("cursor_right", ("right", "l"), "cursor", "chart cursor to the right", "chart"),
        c("metric", ("m",), "metric", "next metric or view", "chart"),
        c("axis", ("x",), "axis", "x: step, epoch, time, images", "chart"),
        c("log_x", ("X",), "log x", "logarithmic x", "chart"),
        c("log_y", ("y",), "log", "logarithmic y", "chart"),
        c("smooth", ("s",), "smooth", "smoothing off, .6, .9, .97", "chart"),
        c("clip", ("o",), "outliers", "clip outliers, on and off", "chart"),
        c("zoom_in", ("+", "="), "zoom", "zoom in at the cursor", "chart"),
        c("zoom_out", ("-",), "zoom out", "zoom out", "chart"),
        c("zoom_whole", ("0",), "whole", "the whole curve", "chart"),
        c("pan_left", ("[",), "pan", "pan left", "chart"),
        c("pan_right", ("]",), "pan", "pan right", "chart"),
        c("tilt_up", ("}",), "tilt", "embeddings: tilt the sphere, or move up", "chart"),
        c("tilt_down", ("{",), "tilt", "embeddings: tilt the sphere, or move down", "chart"),
        c("level", ("v",), "level", "a level of accuracy or loss, proposed at the cursor", "chart"),
        c("full", ("z",), "full", "this chart alone", "chart"),
        c("follow", ("f",), "follow", "follow the log, on and off", "chart"),
        c("stop", ("S",), "stop", "stop the run: with a checkpoint, or kill it (asks)", "act"),
        c("checkpoint", ("C",), "save now", "write a checkpoint now", "act"),
        c("resume", ("R",), "resume", "go on from the newest good checkpoint; start what waits (asks)", "act"),
        c("fork", ("F",), "fork", "a new run from a checkpoint with changed settings", "act"),
        c("copy", ("N",), "copy", "a new run with these settings", "act"),
        c("delete", ("D",), "delete", "move to the trash of the runs folder (asks)", "act"),
        c("launch", ("L", "f5"), "launch", "launch the runs of this form (asks)", "act"),
    )


COMMANDS: dict[str, Command] = {command.id: command for command in _table()}
GROUPS = ("screens", "everywhere", "move", "rows", "chart", "act")
# Terminal multiplexers and flow control take these before we see them.
FORBIDDEN = frozenset(f"ctrl+{letter}" for letter in "abcjqsz")

_SHOWN = {
    "enter": "Enter", "escape": "Esc", "space": "space", "tab": "Tab", "up": "↑", "down": "↓", "left": "←",
    "right": "→", "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End",
}  # fmt: skip


def shown(key: str) -> str:
    """A key as it is written for people."""
    return _SHOWN.get(key) or (key.upper() if key[:1] == "f" and key[1:].isdigit() else key)


class Keymap:
    """Commands with the user's own keys, and the way from a key to what it may mean."""

    def __init__(self, changes: dict[str, tuple[str, ...]] | None = None, *, mouse: bool = False) -> None:
        changes = changes or {}
        self.mouse = mouse  # clicks and the wheel act, beside the keys
        taken = {key for keys in changes.values() for key in keys}
        self.commands: dict[str, Command] = {}
        for command in COMMANDS.values():
            keys = changes.get(command.id) or tuple(key for key in command.keys if key not in taken)
            self.commands[command.id] = replace(command, keys=keys)
        self._by_key: dict[str, str] = {}
        for command in self.commands.values():
            for key in command.keys:
                self._by_key[key] = command.id

    def find(self, key: str) -> Command | None:
        return self.commands.get(self._by_key.get(key, ""))

    @staticmethod
    def load(path: Path) -> tuple[Keymap, str]:
        """The keymap of a file and, where lines of it cannot be used, a sentence that says which. Never raises."""
        try:
            text = decoded(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Keymap(), ""
        except OSError as error:
            return Keymap(), f"{path.name}: not read: {error}"
        except ValueError as error:
            return Keymap(), f"{path.name} {error}"
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            return Keymap(), f"{path.name}: not read: {error}"
        changes: dict[str, tuple[str, ...]] = {}
        faults = []
        given: dict[str, str] = {}
        for name, value in document.items():
            keys = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
            if name == "mouse" and isinstance(value, bool):
                continue
            if name not in COMMANDS:
                faults.append(f"{name} is no command")
            elif not keys or not all(isinstance(key, str) and 0 < len(key) < 20 for key in keys):
                faults.append(f"{name} needs a key")
            elif any(key in FORBIDDEN for key in keys):
                faults.append(f"{name}: {keys[0]} belongs to the terminal")
            elif twice := next((key for key in keys if key in given), ""):
                faults.append(f"{name}: {twice} is {given[twice]}'s already")
            else:
                changes[name] = keys
                given |= dict.fromkeys(keys, name)
        return Keymap(
            changes, mouse=document.get("mouse") is True
        ), f"{path.name}: {'; '.join(faults)}" if faults else ""


def as_toml(keymap: Keymap) -> str:
    """The keymap as a `keys.toml`, with what each command does: `lsc-tui --keys`."""
    lines = []
    for group in GROUPS:
        found = [command for command in keymap.commands.values() if command.group == group]
        lines += ["", f"# {group}"]
        for command in found:
            keys = ", ".join(f'"{key}"' for key in command.keys)
            lines.append(f"{command.id:<13} = {f'[{keys}]':<18} # {command.help}")
    return "\n".join(lines[1:])


def matching(commands: Iterable[Command], words: str) -> list[Command]:
    """Commands whose id, word, help or key hold all of the words, best first (those that begin so)."""
    parts = words.lower().split()
    found = [c for c in commands if all(p in f"{c.id} {c.word} {c.help}".lower() or p in c.keys for p in parts)]
    return sorted(
        found, key=lambda c: not (parts and (c.word.lower().startswith(parts[0]) or c.id.startswith(parts[0])))
    )
