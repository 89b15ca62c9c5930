"""Record the whole path in the real program, in terminals of 80x24 and 160x48, by keys.

    python benchmarks/walkthrough.py [--out DIR]

Opens lsc-tui on an empty folder, chooses the preset walkthrough.toml, launches its six runs on what this machine has,
watches one in Monitor, opens the study in Compare while it fills in, reads its verdict, writes the figure, a note and
the report, and reads the report. Nothing is replayed: it trains for about a minute at each size. Writes
walkthrough-80x24.cast and walkthrough-160x48.cast (asciicast v2, `asciinema play FILE`), and walkthrough.md with the
frames of 80x24.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "e2e")]

from terminal import Screen, Terminal  # noqa: E402

SIZES = ((80, 24), (160, 48))
PRESET = HERE / "walkthrough.toml"
STUDY = PRESET.stem
MOST_BYTES = 3_000_000
# Seconds between keys, and the longest pause that a player keeps.
PACE, IDLE = 0.7, 1.5


class Recording(Screen):
    """A screen that keeps what came and when."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self.started = time.monotonic()
        self.events: list[tuple[float, bytes]] = []

    def feed(self, data: bytes) -> None:
        """Keep it and show it."""
        self.events.append((time.monotonic() - self.started, data))
        super().feed(data)

    def cast(self) -> str:
        """Asciicast v2."""
        head = {
            "version": 2,
            "width": self.width,
            "height": self.height,
            "idle_time_limit": IDLE,
            "title": "lsc-tui: from a preset to its verdict",
            "env": {"TERM": "xterm-256color"},
        }
        lines, rest = [json.dumps(head)], b""
        for at, data in self.events:
            data = rest + data
            # A character that was cut goes with the next piece.
            whole = data.decode("utf-8", "ignore")
            rest = data[len(whole.encode()) :]
            lines.append(json.dumps([round(at, 2), "o", whole], ensure_ascii=False))
        return "\n".join(lines) + "\n"


class Walk:
    """The terminal, and the frames that were kept on the way."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.frames: list[tuple[str, str, str]] = []

    def press(self, *keys: str) -> None:
        """Keys, as a person presses them."""
        for key in keys:
            self.terminal.keys(key)
            self.terminal.read(PACE)

    def until(self, ready: str | Callable[[str], bool]) -> None:
        """Wait for words on the screen."""
        self.terminal.until(ready)
        self.terminal.read(PACE)

    def keep(self, title: str, keys: str, words: str) -> None:
        """This frame, with what was pressed to come here."""
        self.frames.append((title, f"{keys}\n\n{words}" if keys else words, self.terminal.screen.text))


def walk(terminal: Terminal, home: Path) -> Walk:
    """Everything that is done."""
    go = Walk(terminal)
    go.until("No runs in")
    go.press("4")
    go.until(STUDY)
    go.press("/")
    terminal.keys(STUDY)
    go.press("\r", "\r")
    go.until(lambda text: "parameters" in text and "counting" not in text)
    go.keep(
        "Choose and adjust a preset",
        "`4`, `/`, a word of its name, `Enter`, `Enter`",
        "Each setting with its origin; beside it what follows from the settings, before anything is started.",
    )
    go.press("L")
    go.until("Esc no")
    go.press("y")
    go.until(lambda text: "● running" in text and "○ queued" in text)
    go.keep(
        "Launch it",
        "`L`, `y`",
        "The runs take what is free, a GPU each where there are some; the others wait. "
        "They belong to no terminal: closing it changes nothing.",
    )
    rows = terminal.screen.text.splitlines()
    at = next(i for i, row in enumerate(rows) if "● running" in row) - next(
        i for i, row in enumerate(rows) if f"▾ {STUDY}" in row
    )
    go.press("g", *["j"] * at, "\r")
    go.until("img/s")
    go.until(lambda text: len(curve(text)) > 20)
    go.keep("Watch one", "`Enter` on a run", "Loss and accuracy as they come, the machine, the log.")
    go.press("1", "g", "\r")
    go.until(lambda text: "verdict" in text and "FASTER" in text)
    go.keep(
        "Compare while it trains", "`1`, `g`, `Enter` on the study", "Curves, levels and verdict fill in by themselves."
    )
    go.until(lambda text: "6 done" in text and "verdict so far" not in text)
    go.keep("Read the verdict", "", "All runs are finished: who is faster, by accuracy and by loss, in how many seeds.")
    go.press("e")
    go.until("s SVG")
    go.press("s")
    go.until("width of")
    go.press("1")
    go.until("write to")
    go.press("\r")
    go.until(lambda text: f"wrote ~/{STUDY}.svg" in text)
    go.keep(
        "Write the figure",
        "`e`, `s`, `1`, `Enter`",
        "What is on the screen, one column wide; `c` and `l` write the table.",
    )
    (figure,) = home.glob("**/*.svg")
    print(f"figure {figure.name}: {figure.stat().st_size / 1000:.0f} kB")
    go.press("1", "g", "j", "n")
    terminal.keys("the study of the walk-through")
    go.press("\r")
    go.until("note")
    go.keep("Write a note", "`1`, `n` on a run, the note, `Enter`", "It stays with the run and is seen in every list.")
    go.press("3", "e")
    go.until("r report")
    go.press("r")
    go.until("write to")
    go.press("\r")
    go.until("E opens it")
    go.press("E")
    go.until("or a copy in")
    go.press("r")
    go.until(f"Study: {STUDY}")
    go.keep(
        "Write and read the report",
        "`3`, `e`, `r`, `Enter`, then `E`, `r`",
        "Settings, verdicts, curves, cost: Markdown with its figures and values, here in the pager.",
    )
    go.press("q")
    go.until("3 Compare")
    go.press("q")
    return go


def curve(text: str) -> str:
    """The braille of a screen: its charts."""
    return "".join(c for c in text if "⠁" <= c <= "⣿")


def page(frames: list[tuple[str, str, str]]) -> str:
    """The frames as a page."""
    out = [
        "# From a preset to its verdict",
        "",
        "Recorded in a terminal of 80×24 by `benchmarks/walkthrough.py`, on a machine without a GPU: six small runs of "
        "scikit-learn's",
        "digits, every image its own class. The whole recordings are `walkthrough-80x24.cast` and "
        "`walkthrough-160x48.cast`",
        "(`asciinema play docs/walkthrough-80x24.cast`).",
    ]
    for number, (title, words, frame) in enumerate(frames, 1):
        out += ["", f"## {number}. {title}", "", words, "", "```text", frame, "```"]
    return "\n".join(out) + "\n"


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs")
    out = parser.parse_args().out.absolute()
    for size in SIZES:
        record(out, size)


def record(out: Path, size: tuple[int, int]) -> None:
    """One session at this size, with a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "presets").mkdir()
        (home / "runs").mkdir()
        shutil.copy(PRESET, home / "presets" / PRESET.name)
        os.environ |= {"LSC_PRESETS": str(home / "presets"), "PAGER": "less", "LESS": "-S -Psreport"}
        os.chdir(home)
        terminal = Terminal.viewer(home / "runs", home, size=size)
        recording = Recording(*size)
        terminal.screen = recording
        try:
            go = walk(terminal, home)
        finally:
            terminal.close()
        os.chdir(out)
        text = recording.cast()
    assert str(home) not in text, "the recording names a folder of this machine"
    assert len(text.encode()) < MOST_BYTES, f"{len(text.encode())} bytes"
    name = f"walkthrough-{size[0]}x{size[1]}.cast"
    (out / name).write_text(text, encoding="utf-8")
    if size == SIZES[0]:
        (out / "walkthrough.md").write_text(page(go.frames), encoding="utf-8")
    print(f"{name}: {len(text.encode()) / 1000:.0f} kB, {recording.events[-1][0]:.0f} s")


if __name__ == "__main__":
    main()
