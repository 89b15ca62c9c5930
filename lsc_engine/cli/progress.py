"""The progress of runs while they train: a bar per run on a terminal, one line per log step elsewhere."""

from __future__ import annotations

import sys
from typing import Any, Self, TextIO, cast

from lsc_engine.cli.output import message, printable, write_stderr
from lsc_engine.common.formatting import clock
from lsc_engine.common.streams import is_terminal


class Lines:
    """Every log line as it is written, for pipes, files and batch systems."""

    prints_logs = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

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


class Bars:
    """One bar per run of the study on stderr; finished bars stay. A terminal that is gone ends the bars only."""

    prints_logs = False

    def __init__(self) -> None:
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
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

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
