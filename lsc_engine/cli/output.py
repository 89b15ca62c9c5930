"""What a command prints and how it ends: JSON or tables on stdout, messages on stderr, one exit code. Exit codes: 0
done · 1 failed · 2 bad usage or preset · 3 diverged · 143 SIGTERM · 130 Ctrl-C · 129 SIGHUP."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO, cast

from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import clock
from lsc_engine.common.streams import is_terminal, shows_unicode

if TYPE_CHECKING:
    from rich.console import Console

# What writing fails with on a full disk, a lost connection, or a stdout that is read-only or does not block.
_UNWRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EBADF, errno.EPIPE, errno.ECONNRESET, errno.EAGAIN),
)


def printable(text: str) -> str:
    """`text` without control characters, so that no file can send an escape sequence to the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def message(text: str) -> None:
    """Print a message for the user on stderr; one that is closed or on a full disk ends no training."""
    write_stderr(f"{printable(text)}\n")


def write_stderr(text: str) -> None:
    """Write to stderr as far as that is possible."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def print_error(error: LscError) -> None:
    """The sentences of `error`, one per line, on stderr, in red on a terminal."""
    colour = is_terminal(sys.stderr) and not os.environ.get("NO_COLOR")
    for line in str(error).splitlines():
        text = printable(line)
        write_stderr(f"\x1b[31m{text}\x1b[0m\n" if colour else f"{text}\n")


@contextlib.contextmanager
def optional_stdout() -> Iterator[None]:
    """For what a training prints on stdout at its end: a full disk or closed pipe does not change its exit code."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        abandon_stdout(error)


def abandon_stdout(error: OSError) -> None:
    """Report that stdout cannot be written, and write nothing more to it."""
    message(f"the results cannot be printed: {error.strerror or error}")
    # What is still buffered would fail again when Python ends.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_stdout_error(error: OSError) -> bool:
    """Whether `error` comes from writing to stdout; errors about files carry the file's name."""
    return error.filename is None and error.errno in _UNWRITABLE


def print_json(document: Any, indent: int | None = 2) -> None:
    """One JSON document on stdout, null for what is not finite; without `indent` on one line, flushed."""
    text = json.dumps(_finite(document), ensure_ascii=not shows_unicode(sys.stdout), indent=indent, default=str)

    def escaped(match: re.Match[str]) -> str:
        return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]

    sys.stdout.write(re.sub("[^\n -~]", escaped, text) + "\n")
    if indent is None:
        sys.stdout.flush()


def answer(as_json: bool, document: Any, text: str | Callable[[], str] = "", *, note: str = "") -> None:
    """The outcome of a command: `document` as JSON, or `text` and, on stderr, `note`; callables are called."""
    if as_json:
        print_json(document() if callable(document) else document)
        return
    if note:
        message(note)
    if shown := text() if callable(text) else text:
        print(shown)


def wait_for_more(seconds: float) -> None:
    """Sleep, but end like a writer to a closed pipe as soon as nobody reads stdout any more."""
    try:
        look = select.poll()
        look.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError, AttributeError):
        # A stream without a file, which cannot be closed from elsewhere.
        time.sleep(seconds)
        return
    if look.poll(1000 * seconds):
        signal.raise_signal(signal.SIGPIPE)
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def console() -> Console:
    """stdout as a rich console: escape codes only on a terminal that takes them, colour never with NO_COLOR."""
    from rich.console import Console

    wide = not sys.stdout.isatty()
    return Console(highlight=False, markup=False, force_terminal=is_terminal(sys.stdout), soft_wrap=wide)


def chart_mode() -> Literal["braille", "ascii"]:
    """Braille if stdout can show it."""
    return "braille" if shows_unicode(sys.stdout) else "ascii"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """Lines of aligned columns under a head, without escape codes. `align`: one letter per column, `r` for right.
    rich's own tables take twenty times as long for a thousand rows."""
    from rich.cells import cell_len

    cells = [[printable(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in (head, *rows)]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        pads = [" " * (width - cell_len(cell)) for width, cell in zip(widths, row, strict=True)]
        columns = [p + c if align[i : i + 1] == "r" else c + p for i, (c, p) in enumerate(zip(row, pads, strict=True))]
        lines.append("  ".join(columns).rstrip())
    return "\n".join(lines)


class Lines(contextlib.ExitStack):
    """Every log line as it is written, for pipes, files and batch systems."""

    prints_logs = True

    def begin(self, name: str) -> None:
        message(f"{name}: starting")

    def end(self, name: str, state: str, text: str) -> None:
        message(f"{name}: {state}" + (f": {text}" if text else ""))

    def note(self, text: str) -> None:
        message(text)

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        pass


class _Stderr:
    """stderr for bars that are redrawn: writing to a terminal that is gone does nothing."""

    def write(self, text: str) -> int:
        write_stderr(text)
        return len(text)

    def flush(self) -> None:
        write_stderr("")

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Bars(contextlib.ExitStack):
    """One bar per run of the study on stderr; finished bars stay. A terminal that is gone ends the bars only."""

    prints_logs = False

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[metrics]}", markup=False),
            console=Console(file=cast(TextIO, _Stderr()), highlight=False),
            auto_refresh=False,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.enter_context(self._progress)
        return super().__enter__()

    def begin(self, name: str) -> None:
        self._tasks[name] = self._progress.add_task(printable(name), total=None, metrics="starting")
        self._progress.refresh()

    def end(self, name: str, state: str, text: str) -> None:
        outcome = f"{state}: {text}" if text else state
        if name not in self._tasks:
            self.note(f"{name}: {outcome}")
        elif state != "finished":
            self._progress.update(self._tasks[name], metrics=printable(outcome), refresh=True)

    def note(self, text: str) -> None:
        self._progress.console.print(printable(text), markup=False)

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        shown = {"train/loss": "loss {:.4f}", "train/accuracy": "train {:6.1%}", "val/accuracy": "val {:6.1%}"}
        parts = [text.format(values[metric]) for metric, text in shown.items() if metric in values]
        if eta is not None and step < total:
            parts.append(f"ETA {clock(eta)}")
        self._progress.update(self._tasks[name], total=total, completed=step, metrics="  ".join(parts), refresh=True)


def display() -> Bars | Lines:
    """Bars if stderr is a terminal that takes escape codes, lines elsewhere."""
    return Bars() if is_terminal(sys.stderr) else Lines()
