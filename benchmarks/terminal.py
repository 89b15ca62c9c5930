"""A process in a terminal of its own, for timing: what it writes, how much, and when certain words have come."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from lsc_engine.common.errors import LscError
from lsc_engine.runs.folder.process import python_command

_ESCAPES = re.compile(rb"\x1b\[[?<>=]*[0-9;:]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>()][A-Z0-9]?")
KEPT = 400_000


class Terminal:
    """`argv` behind a pty of `width` x `height` cells. `sent` counts the bytes it wrote, `raw` holds the last ones."""

    def __init__(self, argv: Sequence[str], home: Path, *, width: int = 160, height: int = 48) -> None:
        path = os.pathsep.join(part for part in sys.path if part)
        unwanted = ("COLUMNS", "LINES", "LSC_RUNS", "NO_COLOR", "PYTHONDONTWRITEBYTECODE")
        inherited = {k: v for k, v in os.environ.items() if k not in unwanted}
        env = {**inherited, "TERM": "xterm-256color", "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"),
               "PYTHONPATH": path}  # fmt: skip
        self.sent, self.raw = 0, b""
        self.started = time.perf_counter()
        self.pid, self.fd = pty.fork()
        size = struct.pack("HHHH", height, width, 0, 0)
        if self.pid == 0:
            # The size must be there before the program asks for it.
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execve(argv[0], list(argv), env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)

    @classmethod
    def viewer(cls, runs: Path, home: Path) -> Terminal:
        """lsc-tui on a runs folder, with a home of its own."""
        return cls(python_command("-m", "lsc_tui", "--runs-dir", str(runs)), home)

    def read(self, seconds: float) -> int:
        """Take in what comes within this time; the number of bytes."""
        before, deadline = self.sent, time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._take(left)
        return self.sent - before

    def _take(self, seconds: float) -> bool:
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError as error:
            raise LscError("the program in the terminal has ended") from error
        self.sent += len(data)
        self.raw = (self.raw + data)[-KEPT:]
        return True

    def until(self, *words: str, seconds: float = 60.0) -> float:
        """Read until any of the words has been written since keys were typed last; the seconds it took."""
        began = time.perf_counter()
        while not any(word.encode() in _ESCAPES.sub(b"", self.raw) for word in words):
            if time.perf_counter() - began > seconds:
                raise LscError(f"{' or '.join(map(repr, words))} did not come in {seconds:.0f} s")
            self._take(0.005)
        return time.perf_counter() - began

    def keys(self, text: str) -> None:
        """Type, and forget what was written before."""
        self.raw = b""
        os.write(self.fd, text.encode())

    def answer(self, text: str, seconds: float = 20.0) -> float:
        """Seconds from a key to the first bytes that answer it."""
        self.keys(text)
        began = time.perf_counter()
        while not self._take(0.005):
            if time.perf_counter() - began > seconds:
                raise LscError(f"no answer to a key in {seconds:.0f} s")
        return time.perf_counter() - began

    def help_page(self) -> float:
        """Seconds from the key to the end of the help page, which is closed again."""
        self.keys("?")
        taken = self.until("a page up")
        self.keys("\x1b")
        self.read(0.2)
        return taken

    def peak_memory(self) -> int:
        """The most bytes of memory it had so far."""
        (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return 1024 * int(line)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
