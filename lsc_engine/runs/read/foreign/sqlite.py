"""Trackers that log into an SQLite database: opened to read only, beside a process that writes it; nothing is created
next to it, no lock is held between two looks."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import time
from typing import Any, ClassVar, Self
from urllib.parse import quote

from lsc_engine.common.safe_io import UnreadableError, opened
from lsc_engine.runs.read.foreign.log import MAX_RECORD, Log, NewRows, Replaced, changed

_ENDINGS = (".db", ".sqlite", ".sqlite3")
_MAGIC = b"SQLite format 3\0"
_MOST_COPIED = 1 << 30
_ROWS = 2000
_PLACE = 10
_TICK = 2.0
# Bytes that a row takes beside its text, about.
_ROW_BYTES = 32
# Instructions of SQLite's machine after which a statement is given up: a view may be without end.
_MOST_STEPS, _STEPS = 1000, 100_000


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading; UnreadableError where it cannot be read, also for what is run on it."""
    try:
        with opened(path) as descriptor:
            head = os.pread(descriptor, 20, 0)
        if head[:16] != _MAGIC:
            raise UnreadableError(f"{path.name} is not an SQLite database")
        with _readable(path, head[18:19] == b"\2") as uri, closing(sqlite3.connect(uri, uri=True, timeout=1)) as found:
            found.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_RECORD)
            found.text_factory = lambda raw: raw.decode("utf-8", "replace")
            found.execute("pragma trusted_schema = off")
            steps = iter(range(_MOST_STEPS))
            found.set_progress_handler(lambda: next(steps, None) is None, _STEPS)
            yield found
    except (sqlite3.Error, OSError, OverflowError, UnicodeError, MemoryError) as error:
        # SQLite calls damaged lengths a lack of memory.
        raise UnreadableError(f"{path.name} cannot be read: {str(error) or 'damaged'}") from None


@contextmanager
def _readable(path: Path, wal: bool) -> Iterator[str]:
    """The address of `path` under which SQLite creates no file beside it. Without a log of changes (-wal) a database
    in that mode is read as it is; one whose index of changes (-shm) is missing was copied, and is read in a copy."""
    changes = path.with_name(f"{path.name}-wal")
    if not wal:
        yield _address(path, "mode=ro")
    elif not changes.is_file() or not changes.stat().st_size:
        yield _address(path, "immutable=1")
    elif path.with_name(f"{path.name}-shm").exists():
        yield _address(path, "mode=ro&readonly_shm=1")
    elif path.stat().st_size + changes.stat().st_size > _MOST_COPIED:
        raise UnreadableError(f"{path.name}-shm is not there; open the database once with its own tool")
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.db"
            shutil.copyfile(path, copy)
            shutil.copyfile(changes, f"{copy}-wal")
            yield _address(copy, "mode=ro")


def _address(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?{mode}"


def columns(found: sqlite3.Connection, table: str) -> set[str]:
    """The names of a table's columns; none if it is not there."""
    return {str(row[1]) for row in found.execute(f"pragma table_info({table})")}


def printable(name: object) -> str:
    """A name of another tool as a part of an id."""
    return "".join(c if c.isprintable() else "?" for c in str(name))[:120].strip("/ ") or "unnamed"


class Database(Log):
    """One run of a database: the rows of `metrics` with `run` in the column `key`, by their row numbers."""

    content: ClassVar[str]  # the columns of a row behind its number

    def __init__(self, folder: Path, name: str, file: str, run: str, key: str) -> None:
        super().__init__(folder, name)
        self.file, self.run, self.key = file, run, key
        self._seen = -1
        self._known: tuple[tuple[int, ...], ...] = ()
        self._waiting, self._settled = 0, False
        self.newest = 0.0

    def again(self) -> Self:
        return type(self)(self.folder, self.name, self.file, self.run, self.key)

    def identifier(self, folder: str, several: bool) -> str:
        """Always with its name: other runs of the database come later."""
        return f"{folder}/{self.name}".lstrip("/")

    @property
    def path(self) -> Path:
        return self.folder / self.file

    def files(self) -> list[Path]:
        return [self.path, self.path.with_name(f"{self.file}-wal")]

    def written(self) -> float:
        return self.newest or changed(self.path)

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        logs = list[Self]()
        for name in sorted(name for name in names if name.lower().endswith(_ENDINGS)):
            try:
                with database(folder / name) as found:
                    logs += cls.runs_of(found, folder, name)
            except UnreadableError:
                # No database, or one that is being made.
                continue
        return logs

    @classmethod
    @abstractmethod
    def runs_of(cls, found: sqlite3.Connection, folder: Path, file: str) -> list[Self]:
        """The runs of one database; none if it is another tool's."""

    @abstractmethod
    def add(self, part: Sequence[Sequence[Any]], rows: NewRows) -> int:
        """Add some rows, which hold `content`; about how many bytes they take."""

    def refresh(self, found: sqlite3.Connection) -> None:
        """Look at what else of the run may change; called where the database has changed."""

    @abstractmethod
    def settings_in(self, found: sqlite3.Connection) -> dict[str, Any]:
        """The settings that were logged."""

    def settings(self) -> dict[str, Any]:
        try:
            with database(self.path) as found:
                return self.settings_in(found)
        except UnreadableError:
            return {}

    def read(self, budget: int, rows: NewRows) -> int:
        """Rows that came since; of one that is not there any more, or a smaller one, all."""
        self.problem = None
        state = tuple(_stat(path) for path in self.files())
        # Two changes within one tick of the clock of the file system look like one.
        settled = time() - max(map(changed, self.files())) > _TICK
        if state == self._known and self._settled and not self._waiting:
            return 0
        if self._known and state[0][:1] != self._known[0][:1]:
            raise Replaced
        with database(self.path) as found:
            self.refresh(found)
            first, last = self._ends(found)
            if last < self._seen:
                raise Replaced
            self._settled = settled
            if last < 0:
                self._known = state
                return 0
            self._seen = max(self._seen, first - 1)
            chosen = self._rows(found, self._seen, last)
            while budget > 0 and (part := chosen.fetchmany(_ROWS)):
                budget -= self.add([row[1:] for row in part], rows) + _ROW_BYTES * len(part)
                self._seen = part[-1][0]
        self._known = state
        # Row numbers of other runs lie between, so this is a rough count.
        self._waiting = (last - self._seen) * 4 * _ROW_BYTES
        return self._waiting

    def sample(self, places: int, rows: NewRows) -> None:
        """Some rows behind each of evenly spaced row numbers."""
        with database(self.path) as found:
            first, last = self._ends(found)
            for place in range(first, last, max(1, (last - first) // places)):
                if part := self._rows(found, place - 1, place + _PLACE).fetchall():
                    self.add([row[1:] for row in part], rows)

    def _ends(self, found: sqlite3.Connection) -> tuple[int, int]:
        """The first and the last row number of the run; 0 and -1 if it has none."""
        ends = found.execute(f"select min(rowid), max(rowid) from metrics where {self.key} = ?", (self.run,)).fetchone()
        return ends if isinstance(ends[1], int) else (0, -1)

    def _rows(self, found: sqlite3.Connection, after: int, last: int) -> sqlite3.Cursor:
        return found.execute(
            f"select rowid, {self.content} from metrics where rowid > ? and rowid <= ? and +{self.key} = ?"
            " order by rowid",
            (after, last, self.run),
        )


def _stat(path: Path) -> tuple[int, ...]:
    """Inode, size and time of a file; nothing if it is not there."""
    try:
        info = os.stat(path)
    except OSError:
        return ()
    return info.st_ino, info.st_size, info.st_mtime_ns
