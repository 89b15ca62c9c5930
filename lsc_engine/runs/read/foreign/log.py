"""What a format of another tool has to offer (`Log`), and the common part of those that are files of records."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from lsc_engine.common.safe_io import opened
from lsc_engine.runs.metrics.parsing import MAX_KEY, MAX_NAMES, MAX_STEP, Rows

MAX_RECORD = 4 << 20
_READ = 1 << 20
_HEAD = 64
_PIECE = 2 << 10
_HEADROOM = 1 << 16
_MOST_FILES = 1000

_TRAIN, _VAL = ("train", "training"), ("val", "valid", "validation", "test", "eval")
_SPLIT = "|".join((*_TRAIN, *_VAL))
_KIND = r"(?P<kind>loss|acc|acc@?1|top-?1|top1_acc|accuracy|accuracy_top-?1)"
_NAMES = [
    re.compile(rf"(?:epoch_)?(?:(?P<split>{_SPLIT})[/_. -])?{_KIND}\Z"),
    re.compile(rf"{_KIND}[/_. -](?P<split>{_SPLIT})\Z"),
]


class Damaged(Exception):
    """Bytes that are no record: nothing behind them can be trusted. The message is a clause."""


class Replaced(Exception):
    """A file was replaced or cut short: all is to be read again."""


class Names:
    """Names of another tool -> ours. Loss and accuracy are found by their names (`train_loss`, `Loss/train`,
    `val_acc`); `split` is what a name without one means. All others, and a second that would get the same, stay as they
    are. An accuracy is a fraction: one that is given in per cent is divided."""

    def __init__(self, split: str = "train") -> None:
        self.split = split
        self.percent: set[str] = set()
        self._known: dict[str, tuple[str, bool]] = {}

    def of(self, raw: str) -> tuple[str, bool]:
        """Our name, "" for none, and whether it is an accuracy."""
        if raw not in self._known and len(self._known) < MAX_NAMES:
            name, accuracy = raw.strip(), False
            if (found := next(filter(None, (one.match(name.lower()) for one in _NAMES)), None)) is not None:
                split = "val" if (found["split"] or self.split) in _VAL else "train"
                ours = f"{split}/{'loss' if found['kind'] == 'loss' else 'accuracy'}"
                if "1" in found["kind"]:
                    # acc1, top-1: given in per cent by all who use the word.
                    self.percent.add(ours)
                if not any(ours == taken for taken, _ in self._known.values()):
                    name, accuracy = ours, found["kind"] != "loss"
            elif not 0 < len(name) <= MAX_KEY or not name.isprintable() or name in ("step", "attempt", "nonfinite"):
                name = ""
            self._known[raw] = (name, accuracy)
        return self._known.get(raw, ("", False))


def stop_at(place: int, why: str) -> int:
    """Keep the records before `place`; at the first record there is nothing to keep: Damaged."""
    if place == 0:
        raise Damaged(why)
    return place


class NewRows:
    """The rows of one look, with names of the other tool."""

    def __init__(self) -> None:
        self.attempt = 1
        self.steps: list[int] = []
        self._attempts: list[int] = []
        self._table: list[dict[str, float]] = []

    def add(self, step: int, values: Mapping[str, float], time: float | None = None) -> None:
        """One row; `time` in seconds; `values` may hold `epoch`. One without a step from 0 to 2⁵³ is left out."""
        if 0 <= step < MAX_STEP:
            self.steps.append(step)
            self._attempts.append(self.attempt)
            self._table.append({**values} if time is None else {**values, "time": time})

    def named(self, names: Names, first_line: int) -> Rows:
        """The rows with our names. Replaced if an accuracy turns out to be in per cent."""
        lines = range(first_line, first_line + len(self.steps))
        found = Rows.of(lines, self.steps, self._attempts, self._table)
        columns = {}
        for raw, (rows, values) in found.columns.items():
            name, accuracy = names.of(raw)
            if accuracy and name not in names.percent and (values > 1).any():
                names.percent.add(name)
                raise Replaced
            if name and name not in columns:
                columns[name] = rows, values / 100 if name in names.percent else values
        return Rows(found.line, found.step, found.attempt, columns)


def changed(path: Path) -> float:
    """When a file was written last, seconds since 1970; 0 if it is not there."""
    with suppress(OSError):
        return os.stat(path).st_mtime
    return 0.0


class Log(ABC):
    """One run as another tool logs it. `folder` is where it lies, `name` which of several in it ("" if it is alone)."""

    origin: ClassVar[str]
    # Folders beside the log that hold nothing but parts of it.
    own_folders: ClassVar[frozenset[str]] = frozenset()
    # What its process printed.
    printed: Path | None = None

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder = folder
        self.name = name
        self.problem: str | None = None

    @classmethod
    @abstractmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        """The logs of this format in `folder`, whose files are `names`; nothing below it."""

    def files(self) -> list[Path]:
        """What changes when something is logged."""
        return [self.folder / self.name]

    @abstractmethod
    def read(self, budget: int, rows: NewRows) -> int:
        """Add what is new, of at most about `budget` bytes; returns how many are left. Raises UnreadableError, and
        Replaced where all has to be read again, by a new Log."""

    @abstractmethod
    def sample(self, places: int, rows: NewRows) -> int:
        """Add some rows at each of about `places` places all over a long log. Raises as `read` does; returns 0."""

    def again(self) -> Self:
        return type(self)(self.folder, self.name)

    def identifier(self, folder: str, several: bool) -> str:
        """The id of the run whose log lies in `folder` (relative to the runs folder), alone or as one of `several`."""
        return f"{folder}/{self.name}".lstrip("/") if several else folder or "."

    def written(self) -> float:
        return max(map(changed, self.files()), default=0.0)

    def state(self) -> str | None:
        """finished, failed or running, where the log records it."""
        return None

    @property
    def default_split(self) -> str:
        """What metrics belong to whose name has no split."""
        return "val" if self.folder.name.lower() in _VAL else "train"

    def settings(self) -> dict[str, Any]:
        return {}


class Decoder(ABC):
    """Turns the bytes of one file into rows; keeps what it has to remember between two looks."""

    # Records are looked for from multiples of this number of bytes on.
    aligned: ClassVar[int] = 1

    def __init__(self) -> None:
        # What of the file has been read: its end, the file, and its first bytes.
        self.offset = 0
        self.inode: tuple[int, int] | None = None
        self.head = b""

    @abstractmethod
    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Add the whole records at the beginning of `data`, which lies at `offset` of its file; returns how many bytes
        they take: 0 where the first is not whole yet, more than there are where it is passed over. Raises Damaged if
        the first is no record."""

    @abstractmethod
    def resume(self, data: bytes) -> int:
        """Where in `data`, which begins anywhere in the file, a record begins; its length if none does."""


class FileLog(Log):
    """A log of one or several files that only grow; where they are `attempts`, a later one counts for a step."""

    decoder: ClassVar[type[Decoder]]
    attempts: ClassVar[bool] = True

    def __init__(self, folder: Path, name: str = "") -> None:
        super().__init__(folder, name)
        self._followed: dict[Path, Decoder] = {}

    def decoder_of(self, path: Path) -> Decoder:
        return self.decoder()

    def _files(self, rows: NewRows) -> Iterator[Path]:
        for number, path in enumerate(self.files()[:_MOST_FILES], 1):
            rows.attempt = number if self.attempts else 1
            yield path

    def read(self, budget: int, rows: NewRows) -> int:
        self.problem = None
        left = 0
        for path in self._files(rows):
            used, more = self._follow(path, budget, rows)
            budget -= used
            left += more
        return left

    def sample(self, places: int, rows: NewRows) -> int:
        for path in self._files(rows):
            decoder = self.decoder_of(path)
            with opened(path) as descriptor:
                size = os.fstat(descriptor).st_size
                for place in range(0, size, max(size // places, _PIECE)):
                    offset = place - place % decoder.aligned
                    data = os.pread(descriptor, _PIECE, offset)
                    begin = decoder.resume(data) if offset else 0
                    # A piece that is no record hides none of the others.
                    with suppress(Damaged):
                        decoder.decode(data[begin:], offset + begin, rows)
        return 0

    def _follow(self, path: Path, budget: int, rows: NewRows) -> tuple[int, int]:
        """Bytes read and bytes left."""
        if (known := self._followed.get(path)) is None:
            known = self._followed[path] = self.decoder_of(path)
        with opened(path) as descriptor:
            info = os.fstat(descriptor)
            inode, head = (info.st_dev, info.st_ino), os.pread(descriptor, _HEAD, 0)
            same = known.inode in (None, inode) and head.startswith(known.head)
            if not same or info.st_size < known.offset:
                raise Replaced
            known.inode, known.head = inode, head
            size, done, begin = 0, 0, known.offset
            while done < budget:
                data = os.pread(descriptor, size or min(_READ, max(budget - done, _HEADROOM)), known.offset)
                why = "a record without an end" if len(data) >= MAX_RECORD else ""
                try:
                    used = known.decode(data, known.offset, rows)
                except Damaged as error:
                    used, why = 0, str(error)
                if used == 0 and not (why or size) and known.offset + len(data) < info.st_size:
                    # The record is longer than the piece.
                    size = MAX_RECORD
                    continue
                if used == 0 and why:
                    self.problem = f"{path.name} is damaged behind byte {known.offset}: {why}"
                if used == 0 or known.offset + used > info.st_size:
                    return done, 0
                known.offset += used
                size, done = 0, known.offset - begin
            return done, info.st_size - known.offset
