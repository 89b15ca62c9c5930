"""Every command, once: key, twins, words, where it acts. Footer, key handling, palette and help page read this table.

A command acts on a screen that has a method `do_<id>`, or the method that the command's `call` names; a method
`why_not` returns the reason why it cannot act now (shown as `R: running already`), or "". Keys may be changed in
`keys.toml` in the user's config folder: a table of command id = key or list of keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lsc_engine.common.safe_io import decoded

END = 1_000_000  # rows: as far as a list goes


@dataclass(frozen=True)
class Command:
    """One thing that can be done. The first key stands in the footer; the others are its twins. `call`: a method of
    the screen and its argument, where there is no `do_<id>`."""

    id: str
    keys: tuple[str, ...]
    word: str
    help: str
    group: str
    call: tuple[str, str | float] | None = None


def _table() -> tuple[Command, ...]:
    c = Command
    return (
        c("runs", ("1",), "Runs", "the runs of all folders", "screens", ("go", "runs")),
        c("monitor", ("2",), "Monitor", "one run: curves, machine, log", "screens", ("go", "monitor")),
        c("compare_tab", ("3",), "Compare", "marked runs on a chart and in a table", "screens", ("go", "compare_tab")),
        c("new", ("4",), "New run", "choose a preset, adjust it, launch it", "screens", ("go", "new")),
        c("vectors", ("5",), "Vectors", "systems, angles, smallest dimensions", "screens", ("go", "vectors")),
        c("help", ("?", "f1"), "help", "all keys of this screen", "everywhere"),
        c("palette", (":", "ctrl+p", "f2"), "palette", "every command by name", "everywhere"),
        c("next_pane", ("tab", "f6"), "pane", "next pane or field", "everywhere"),
        c("previous_pane", ("shift+tab",), "pane", "previous pane or field", "everywhere"),
        c("back", ("escape",), "back", "one layer back", "everywhere"),
        c("quit", ("q",), "leave", "leave the viewer; runs go on", "everywhere"),
        c("theme", ("T",), "theme", "next theme: dark, light, high contrast, the terminal's colours", "everywhere"),
        c("up", ("up", "k"), "up", "row up", "move", ("move", -1)),
        c("down", ("down", "j"), "down", "row down", "move", ("move", 1)),
        c("page_up", ("pageup",), "page up", "a page up", "move", ("move_pages", -1)),
        c("page_down", ("pagedown",), "page down", "a page down", "move", ("move_pages", 1)),
        c("first", ("g", "home"), "top", "first row", "move", ("move", -END)),
        c("last", ("G", "end"), "end", "last row", "move", ("move", END)),
        c("open", ("enter",), "open", "open what is highlighted", "move"),
        c("filter", ("/",), "filter", "filter the list or search the log; Tab completes", "move"),
        c("mark", ("space",), "mark", "mark or unmark", "rows"),
        c("mark_all", ("*",), "all", "mark all that is shown", "rows"),
        c("mark_none", ("u",), "none", "mark none", "rows"),
        c("pin", ("p",), "pin *", "pin as the baseline", "rows"),
        c("compare", ("c",), "compare", "compare the marked runs", "rows"),
        c("fold", ("b",), "seeds", "fold and unfold seeds", "rows", ("switch", "folded")),
        c("settings", ("d",), "settings", "differing or all settings", "rows"),
        c("sort_left", (",",), "sort", "sort by the column to the left", "rows", ("sort", -1)),
        c("sort_right", (".",), "sort", "sort by the column to the right", "rows", ("sort", 1)),
        c("invert", ("i",), "invert", "invert the order", "rows", ("switch", "inverted")),
        c("flat", ("a",), "flat", "one list over all studies, or a list by study", "rows", ("switch", "flat")),
        c("group", ("B",), "group", "group the runs by a setting instead of by study", "rows"),
        c("columns", ("O",), "columns", "choose and order the columns; any setting may be one", "rows"),
        c("columns_left", ("(",), "columns", "chosen columns: those to the left", "rows", ("shift_columns", -1)),
        c("columns_right", (")",), "columns", "chosen columns: those to the right", "rows", ("shift_columns", 1)),
        c("hide", ("H",), "hide", "hide from the list, without deleting; or show again", "rows"),
        c("hidden", ("A",), "hidden", "list what is hidden too, or not", "rows"),
        c("toml", ("r",), "TOML", "the TOML behind this", "rows"),
        c("note", ("n",), "note", "write a note on the run", "rows"),
        c("tag", ("t",), "tag", "give or take a tag", "rows"),
        c("clipboard", ("Y",), "copy text", "put path, id, command or error on the clipboard (asks)", "rows"),
        c("export", ("e",), "export", "table and figure as files (asks where)", "rows"),
        c("views", ("W",), "views", "saved views: open one in Compare", "everywhere"),
        c("external", ("E",), "outside", "log, TOML or report in $PAGER, or in $EDITOR as a copy (asks)", "rows"),
        c("save", ("w",), "save", "save the view, or the preset", "rows"),
        c("cursor_left", ("left", "h"), "cursor", "chart cursor to the left", "chart", ("move_cursor", -1)),
        c("cursor_right", ("right", "l"), "cursor", "chart cursor to the right", "chart", ("move_cursor", 1)),
        c("metric", ("m",), "metric", "next metric or view", "chart", ("next_metric", 1)),
        c("metric_back", ("M",), "metric", "the metric or view before", "chart", ("next_metric", -1)),
        c("grid", ("#",), "grid", "charts in a grid: 2×2, 3×3, 4×4, two; / filters their names", "chart"),
        c("axis", ("x",), "axis", "x: step, epoch, time, images", "chart", ("change", "axis")),
        c("log_x", ("X",), "log x", "logarithmic x", "chart", ("change", "log_x")),
        c(
            "log_y",
            ("y",),
            "log",
            "y: loss logarithmic, accuracy logit too, both linear",
            "chart",
            ("change", "log_y"),
        ),
        c("smooth", ("s",), "smooth", "smoothing off, .6, .9, .97", "chart", ("change", "smooth")),
        c("clip", ("o",), "outliers", "clip outliers, on and off", "chart", ("change", "clip")),
        c("zoom_in", ("+", "="), "zoom", "zoom in at the cursor", "chart", ("zoom", 0.5)),
        c("zoom_out", ("-",), "zoom out", "zoom out", "chart", ("zoom", 2.0)),
        c("zoom_y_in", (">",), "zoom y", "magnify y around the curve at the cursor", "chart", ("zoom_y", 2.0)),
        c("zoom_y_out", ("<",), "zoom y", "magnify y less", "chart", ("zoom_y", 0.5)),
        c("zoom_whole", ("0",), "whole", "the whole curve", "chart"),
        c("pan_left", ("[",), "pan", "pan left", "chart", ("pan", -0.25)),
        c("pan_right", ("]",), "pan", "pan right", "chart", ("pan", 0.25)),
        c("tilt_up", ("}",), "up", "magnified y: up; embeddings: tilt the sphere, or move up", "chart", ("tilt", 1)),
        c("tilt_down", ("{",), "down", "magnified y: down; embeddings: tilt or move down", "chart", ("tilt", -1)),
        c("level", ("v",), "level", "a level of accuracy or loss, proposed at the cursor", "chart"),
        c("full", ("z",), "full", "this chart alone", "chart"),
        c("follow", ("f",), "follow", "follow the log, on and off", "chart"),
        c("stop", ("S",), "stop", "stop the run: with a checkpoint, or kill it (asks)", "act"),
        c("checkpoint", ("C",), "save now", "write a checkpoint now", "act"),
        c("resume", ("R",), "resume", "go on from the newest good checkpoint; start what waits (asks)", "act"),
        c("fork", ("F",), "fork", "a new run from a checkpoint with changed settings", "act"),
        c("copy", ("N",), "copy", "a new run with these settings", "act"),
        c("delete", ("D",), "delete", "move to the trash of the runs folder (asks)", "act"),
        c("earlier", ("K",), "earlier", "queue: start this run before the one above it", "act", ("move_turn", -1)),
        c("later", ("J",), "later", "queue: start this run after the one below it", "act", ("move_turn", 1)),
        c("hold", ("Q",), "hold", "queue: keep a waiting run from starting, or let it go", "act"),
        c("restore", ("U",), "undo D", "bring a run back from the trash", "act"),
        c("launch", ("L", "f5"), "launch", "launch the runs of this form (asks)", "act"),
    )


COMMANDS: dict[str, Command] = {command.id: command for command in _table()}
GROUPS = ("screens", "everywhere", "move", "rows", "chart", "act")
# Terminal multiplexers and flow control take these first.
FORBIDDEN = frozenset(f"ctrl+{letter}" for letter in "abcjqsz")
_SHOWN = {"escape": "Esc", "up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "PgUp", "pagedown": "PgDn"}


def tabs() -> dict[str, str]:
    """Command id -> word of every tab, in the order of the line of tabs."""
    return {command.id: command.word for command in COMMANDS.values() if command.group == "screens"}


def is_function_key(key: str) -> bool:
    """Whether a key is F1, F2, …"""
    return key[:1] == "f" and key[1:].isdigit()


def shown(key: str) -> str:
    """A key as it is written for people."""
    return _SHOWN.get(key) or (key.title() if key in ("enter", "tab", "home", "end") or is_function_key(key) else key)


class Keymap:
    """Commands with the user's own keys. `mouse`: clicks and the wheel act, beside the keys."""

    def __init__(self, changes: dict[str, tuple[str, ...]] | None = None, *, mouse: bool = False) -> None:
        changes = changes or {}
        self.mouse = mouse
        taken = {key for keys in changes.values() for key in keys}
        self.commands = {
            name: replace(command, keys=changes.get(name) or tuple(key for key in command.keys if key not in taken))
            for name, command in COMMANDS.items()
        }
        self._by_key = {key: command for command in self.commands.values() for key in command.keys}

    def find(self, key: str) -> Command | None:
        return self._by_key.get(key)

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
                faults.append(f"{name} is no command")
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
        return Keymap(changes, mouse=document.get("mouse") is True), fault


def as_toml(keymap: Keymap) -> str:
    """The keymap as a `keys.toml`, with what each command does: `lsc-tui --keys`."""
    lines = []
    for group in GROUPS:
        lines += ["", f"# {group}"]
        for command in (c for c in keymap.commands.values() if c.group == group):
            keys = ", ".join(f'"{key}"' for key in command.keys)
            lines.append(f"{command.id:<13} = {f'[{keys}]':<18} # {command.help}")
    return "\n".join(lines[1:])


def matching(commands: Iterable[Command], words: str) -> list[Command]:
    """Commands whose id, word, help or key hold all of the words, best first (those that begin so)."""
    parts = words.lower().split()
    found = [c for c in commands if all(p in f"{c.id} {c.word} {c.help}".lower() or p in c.keys for p in parts)]
    first = parts[0] if parts else ""
    return sorted(found, key=lambda c: not (c.word.lower().startswith(first) or c.id.startswith(first)))
