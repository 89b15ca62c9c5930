"""What a run looks like while it trains: one bar on a terminal, one line per log step elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self, TextIO, cast

from lsc_engine.cli.output import Screen, printable, say
from lsc_engine.streams import is_terminal


class Display(Protocol):
    """What training tells of itself as it goes on."""

    def begin(self, name: str) -> None:
        """The run `name` starts."""

    def end(self, name: str, state: str, message: str) -> None:
        """The run `name` ended as `state`."""

    def note(self, text: str) -> None:
        """A sentence between the runs."""

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        """Where the run `name` is, with its newest metrics and the seconds left."""


class Lines:
    """Every log line as it is written, for pipes, files and batch systems."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def begin(self, name: str) -> None:
        say(f"{name}: starting")

    def end(self, name: str, state: str, message: str) -> None:
        say(f"{name}: {state}" + (f": {message}" if message else ""))

    def note(self, text: str) -> None:
        say(text)

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        pass


class Bars:
    """One bar per run of the study on stderr; finished bars stay. A terminal that is gone ends the bars only."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[metrics]}"),
            console=Console(file=cast(TextIO, Screen()), highlight=False),
            auto_refresh=False,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, name: str) -> None:
        from rich.markup import escape

        self._tasks[name] = self._progress.add_task(escape(printable(name)), total=None, metrics="starting")
        self._progress.refresh()

    def end(self, name: str, state: str, message: str) -> None:
        if state != "finished":
            from rich.markup import escape

            text = escape(printable(f"{state}: {message}" if message else state))
            self._progress.update(self._tasks[name], metrics=text, refresh=True)

    def note(self, text: str) -> None:
        from rich.markup import escape

        self._progress.console.print(escape(printable(text)))

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        parts = []
        if "train/loss" in values:
            parts.append(f"loss {values['train/loss']:.4f}")
        if "train/accuracy" in values:
            parts.append(f"train {100 * values['train/accuracy']:5.1f}%")
        if "val/accuracy" in values:
            parts.append(f"val {100 * values['val/accuracy']:5.1f}%")
        if eta is not None and step < total:
            parts.append(f"ETA {clock(eta)}")
        self._progress.update(self._tasks[name], total=total, completed=step, metrics="  ".join(parts), refresh=True)


def clock(seconds: float) -> str:
    """minutes:seconds under an hour, else 9h12."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}"


def display() -> Bars | Lines:
    """Bars where stderr is a terminal that takes escape codes, lines elsewhere."""
    return Bars() if is_terminal(sys.stderr) else Lines()
