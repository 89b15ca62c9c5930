"""A terminal for tests: the real program behind a pty, its screen read by a small emulator of what it sends.

The emulator knows what Textual writes: text, cursor moves, erasing, scrolling off. Anything else is passed over.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

from rich.cells import cell_len

from tests import processes
from tests.waiting import LIMIT, wait_until

# Makes the terminal on its streams the one that a process belongs to. Some libraries put COLUMNS and LINES into the C
# environment, past os.environ; they would win.
_CONTROLLED = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
"""

_TOKEN = re.compile(
    r"\x1b\[([?<>=]*)([0-9;:]*)([ -/]*[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[()][A-Z0-9]|\x1b[=>78cDEHM]|[\x00-\x1a\x1c-\x1f]|[^\x00-\x1f]+"
)


class Screen:
    """Rows of cells, as far as this text needs it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.cells = [[" "] * width for _ in range(height)]
        self.x = self.y = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> None:
        """Take bytes in; an escape sequence that is cut waits for its end."""
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or (found.end() == len(text) and text[at] == "\x1b" and len(text) - at < 3):
                self._rest = text[at:]
                if len(self._rest) > 4096:
                    self._rest = self._rest[1:]
                return
            self._do(found)
            at = found.end()

    def _do(self, token: re.Match[str]) -> None:
        text = token[0]
        if text[0] not in "\x1b" and text[0] >= " ":
            self._put(text)
        elif text == "\r":
            self.x = 0
        elif text == "\n":
            self.y = min(self.height - 1, self.y + 1)
        elif text == "\x08":
            self.x = max(0, self.x - 1)
        elif token[3] and not token[1]:
            self._control(token[3], [int(n) if n.isdigit() else 0 for n in (token[2] or "").split(";")])
        elif token[3] == "h" and "1049" in token[2]:
            self.cells = [[" "] * self.width for _ in range(self.height)]

    def _control(self, what: str, numbers: list[int]) -> None:
        first = numbers[0] if numbers else 0
        if what in "Hf":
            self.y = min(self.height - 1, max(0, (first or 1) - 1))
            self.x = min(self.width - 1, max(0, ((numbers[1] if len(numbers) > 1 else 0) or 1) - 1))
        elif what in "ABCD":
            dx, dy = {"A": (0, -1), "B": (0, 1), "C": (1, 0), "D": (-1, 0)}[what]
            self.x = min(self.width - 1, max(0, self.x + dx * (first or 1)))
            self.y = min(self.height - 1, max(0, self.y + dy * (first or 1)))
        elif what == "G":
            self.x = min(self.width - 1, max(0, (first or 1) - 1))
        elif what == "J" and first == 2:
            self.cells = [[" "] * self.width for _ in range(self.height)]
        elif what == "K" and first == 0:
            self.cells[self.y][self.x :] = [" "] * (self.width - self.x)

    def _put(self, text: str) -> None:
        for char in text:
            # Textual turns wrapping off.
            self.x = min(self.x, self.width - 1)
            self.cells[self.y][self.x] = char
            for extra in range(1, cell_len(char)):
                if self.x + extra < self.width:
                    self.cells[self.y][self.x + extra] = ""
            self.x += max(1, cell_len(char))

    @property
    def text(self) -> str:
        """The screen, without spaces at the ends of its lines."""
        return "\n".join("".join(row).rstrip() for row in self.cells)


class Terminal:
    """A process in a terminal of its own. `sent` counts the bytes it wrote, `screen` is what stands there."""

    def __init__(self, start: Callable[[int], subprocess.Popen[bytes]], width: int, height: int) -> None:
        """`start` starts the process with this descriptor as its three streams."""
        self.screen = Screen(width, height)
        self.sent = 0
        self.raw = b""
        self.fd, theirs = pty.openpty()
        # The size must be there before the program asks for it.
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._process = start(theirs)
        self.pid = self._process.pid
        os.close(theirs)

    @staticmethod
    def viewer(runs: Path, home: Path, *more: str, size: tuple[int, int] = (80, 24), fresh: bool = False) -> Terminal:
        """lsc-tui on a runs folder (or with the options `more`), with a home of its own. `fresh`: as users start it,
        from nothing."""
        env = {"TERM": "xterm-256color", "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
        words = more or ("--runs-dir", str(runs))

        def start(terminal: int) -> subprocess.Popen[bytes]:
            return processes.start(
                *words, module="lsc_tui", env=env, setup=_CONTROLLED, fresh=fresh, start_new_session=True,
                stdin=terminal, stdout=terminal, stderr=terminal,
            )  # fmt: skip

        return Terminal(start, *size)

    def read(self, seconds: float) -> int:
        """Take in what comes within this time; the number of bytes."""
        before, deadline = self.sent, time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.fd], [], [], min(0.02, left))[0]:
                try:
                    data = os.read(self.fd, 1 << 16)
                except OSError:
                    break
                if not data:
                    break
                self.sent += len(data)
                self.raw = (self.raw + data)[-200_000:]
                self.screen.feed(data)
        return self.sent - before

    def until(self, ready: str | Callable[[str], bool], seconds: float = LIMIT) -> None:
        """Read until the words stand on the screen, or `ready(text)` is true."""
        deadline = time.monotonic() + seconds
        holds = (lambda text: ready in text) if isinstance(ready, str) else ready
        while not holds(self.screen.text):
            assert time.monotonic() < deadline, f"waited in vain for {ready!r}:\n{self.screen.text}"
            if not self.read(0.01):
                assert self.alive, f"ended while waiting for {ready!r}:\n{self.screen.text}"

    def keys(self, text: str) -> None:
        """Type."""
        os.write(self.fd, text.encode())

    def resize(self, width: int, height: int) -> None:
        """Another size of the window."""
        self.screen = Screen(width, height)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def hang_up(self) -> None:
        """Close the terminal under the program, and wait for its end."""
        os.close(self.fd)
        self.fd = -1
        wait_until(lambda: not self.alive, "the end of the viewer, which lives on without its terminal")

    def close(self) -> None:
        """End it in any case."""
        self._process.kill()
        self._process.wait()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
