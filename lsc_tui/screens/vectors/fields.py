"""What is typed on the Vectors screen: the limits above the table, and vector files that the engine reads."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events

from lsc_engine.config.vector_file import table_shape
from lsc_engine.errors import UsageError
from lsc_engine.runs.folder.process import python_command
from lsc_engine.userpaths import user_path
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.families.tables import Table
from lsc_tui.lines import clean
from lsc_tui.screens.base import Field
from lsc_tui.screens.vectors.table import Limits

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen

    _Base = LscScreen
else:
    _Base = object

FIELDS = ("classes", "cosine", "most", "bytes", "loss")
FILE_SECONDS = 120.0


class FieldCommands(_Base):
    """Mixed into the screen: Tab goes through the fields, the table follows what is typed."""

    limits: Limits

    def take_limits(self, limits: Limits) -> None:
        """New limits: count and show again."""
        raise NotImplementedError

    def _to(self, by: int) -> None:
        """The highlighted row."""
        raise NotImplementedError

    def do_next_pane(self) -> None:
        """Tab: the first field, then the next one, then back to the table."""
        names = [f"field-{name}" for name in (FIELDS if self.wide else FIELDS[:3])]
        place = 0
        if self.field is not None and self.field.id in names:
            self._accept(self.field)
            place = names.index(self.field.id) + 1
        if place < len(names):
            self.open_field(self.query_one(f"#{names[place]}", Field), select=True)
        else:
            self.close_field()
            self.show()

    async def key_in_field(self, field: Field, key: str, event: events.Key) -> None:
        if field.id == "prompt" or key not in ("tab", "enter", "up", "down"):
            await super().key_in_field(field, key, event)
        elif key == "tab":
            self.do_next_pane()
        elif key != "enter":
            self._to(1 if key == "down" else -1)
        elif self._accept(field):
            self.close_field()
            self.show()

    def field_changed(self, field: Field) -> None:
        if field.id == "prompt":
            super().field_changed(field)
        else:
            self._accept(field, quiet=True)

    def _accept(self, field: Field, quiet: bool = False) -> bool:
        """Take a field's text into the limits; say what is wrong with it. While typing only the table follows."""
        name = (field.id or "").removeprefix("field-")
        try:
            limits = self.limits.typed(name, field.value)
        except UsageError as error:
            # "1.2" on the way to "1.28M" is no fault yet.
            if not quiet:
                self.say(str(error), "error")
            return False
        if self.message[1] == "error":
            self.say("")
        if limits != self.limits:
            self.take_limits(limits)
        if not quiet:
            field.value = self.limits.shown(name)
        return True

    def leave_field(self) -> None:
        if self.field is not None and self.field.id != "prompt":
            self.say("")
        super().leave_field()
        self.show()


def read_file(name: str) -> VectorSystem | str:
    """What `lsc-engine vectors file:PATH` says of a file: its facts, or the sentence why not."""
    try:
        path = user_path(name.removeprefix("file:")).absolute()
        count, n = table_shape(path)
        argv = python_command("-m", "lsc_engine", "vectors", f"file:{path}", "--n", str(n), "--json")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=FILE_SECONDS, stdin=subprocess.DEVNULL)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            return (
                clean(lines[-1] if lines else f"{path}: not read").removeprefix("error: ").replace(f"{path}", path.name)
            )
        told = json.loads(done.stdout)
        # Of the rounded numbers the angle is the more exact one.
        return Table(name, n, count, math.cos(math.radians(told["min_angle_deg"])))
    except subprocess.TimeoutExpired:
        return f"{Path(name).name}: not read within {FILE_SECONDS:.0f} s"
    except (ValueError, KeyError, OSError, UsageError) as error:
        return clean(error)
