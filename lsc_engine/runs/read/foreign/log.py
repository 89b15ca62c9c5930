"""What a format of another tool has to offer (`Log`), and the common part of those that are files of records."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

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


# Rows that hold a metric, and its values.
Column = tuple[Sequence[int], Sequence[float]]
Columns = dict[str, tuple[list[int], list[float]]]


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
        """Our name, and whether it is an accuracy."""
        if raw not in self._known and len(self._known) < MAX_NAMES:
            name, accuracy = self._ours(raw.strip())
            if any(name == taken for taken, _ in self._known.values()):
                name, accuracy = raw.strip(), False
            self._known[raw] = (name, accuracy)
        return self._known.get(raw, ("", False))

    def _ours(self, raw: str) -> tuple[str, bool]:
        found = next(filter(None, (pattern.match(raw.lower()) for pattern in _NAMES)), None)
        if found is None:
            name = raw if 0 < len(raw) <= MAX_KEY and raw.isprintable() else ""
            return ("" if name in ("step", "attempt", "nonfinite") else name), False
        split = found["split"] or self.split
        name = f"{'val' if split in _VAL else 'train'}/{'loss' if found['kind'] == 'loss' else 'accuracy'}"
        if "1" in found["kind"]:
            # acc1, top-1: given in per cent by all who use the word.
            self.percent.add(name)
        return name, found["kind"] != "loss"


def extend(columns: Columns, name: str, rows: Sequence[int], values: Sequence[float]) -> None:
    """Add rows and values to those of a column."""
    known = columns.setdefault(name, ([], []))
    known[0].extend(rows)
    known[1].extend(values)


def stop_at(place: int, why: str) -> int:
    """Keep the records before `place`; at the first record there is nothing to keep: Damaged."""
    if place == 0:
        raise Damaged(why)
    return place


class NewRows:
    """The rows of one look, gathered column by column."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.steps: list[int] = []
        self.attempts: list[int] = []
        self.columns: Columns = {}
        self.attempt = 1

    def add(self, step: int, values: dict[str, float], time: float | None = None, epoch: float | None = None) -> None:
        """One row; `time` in seconds. Rows without a step from 0 to 2⁵³ or without values are left out."""
        if not 0 <= step < MAX_STEP:
            return
        row = len(self.steps)
        for raw, value in values.items():
            name, accuracy = self.names.of(raw)
            if name:
                if accuracy and value > 1 and name not in self.names.percent:
                    self.names.percent.add(name)
                    raise Replaced
                self._put(name, row, value / 100 if name in self.names.percent else value)
        for name, place in (("time", time), ("epoch", epoch)):
            if place is not None:
                self._put(name, row, place)
        self.steps.append(int(step))
        self.attempts.append(self.attempt)

    def add_columns(self, steps: Sequence[int], columns: Mapping[str, Column], **axes: Column) -> None:
        """Many rows at once, all with a step from 0 to 2⁵³: per metric and axis (time, epoch) rows and values."""
        first = len(self.steps)
        for raw, (rows, values) in columns.items():
            name, accuracy = self.names.of(raw)
            if name and rows:
                if accuracy and name not in self.names.percent and max(values) > 1:
                    self.names.percent.add(name)
                    raise Replaced
                share = 100 if name in self.names.percent else 1
                extend(self.columns, name, [first + row for row in rows], [value / share for value in values])
        for name, (rows, values) in axes.items():
            if rows:
                extend(self.columns, name, [first + row for row in rows], values)
        self.steps.extend(steps)
        self.attempts.extend([self.attempt] * len(steps))

    def _put(self, name: str, row: int, value: float) -> None:
        rows, numbers = self.columns.setdefault(name, ([], []))
        if rows and rows[-1] == row:
            numbers[-1] = value
            return
        rows.append(row)
        numbers.append(value)

    def as_group(self, first_line: int) -> Rows:
        lines = np.arange(first_line, first_line + len(self.steps), dtype=np.int64)
        heads = lines, np.array(self.steps, np.int64), np.array(self.attempts, np.int64)
        columns = {
            name: (np.array(rows, np.int64), np.array(values, np.float64))
            for name, (rows, values) in self.columns.items()
        }
        return Rows(*heads, columns)


def changed(path: Path) -> float:
    """When a file was written last, seconds since 1970; 0 if it is not there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


class Log(ABC):
    """One run as another tool logs it. `folder` is where it lies, `name` which of several in it ("" if it is alone)."""

    origin: ClassVar[str]
    # Folders beside the log that hold nothing but parts of it.
    own_folders: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder = folder
        self.name = name
        self.problem: str | None = None

    @classmethod
    @abstractmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        """The logs of this format in `folder`, whose files are `names`; nothing below it."""

    @abstractmethod
    def files(self) -> list[Path]:
        """What changes when something is logged."""

    @abstractmethod
    def read(self, budget: int, rows: NewRows) -> int:
        """Add what is new, of at most about `budget` bytes; returns how many are left. Raises UnreadableError, and
        Replaced where all has to be read again, by a new Log."""

    @abstractmethod
    def sample(self, places: int, rows: NewRows) -> None:
        """Add some rows at each of about `places` places all over a long log. Raises as `read` does."""

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

    @property
    def printed(self) -> Path | None:
        return None

    def settings(self) -> dict[str, Any]:
        return {}


class Decoder(ABC):
    """Turns the bytes of one file into rows; keeps what it has to remember between two looks."""

    # Records are looked for from multiples of this number of bytes on.
    aligned: ClassVar[int] = 1

    @abstractmethod
    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Add the whole records at the beginning of `data`, which lies at `offset` of its file; returns how many bytes
        they take: 0 where the first is not whole yet, more than there are where it is passed over. Raises Damaged if
        the first is no record."""

    @abstractmethod
    def resume(self, data: bytes) -> int:
        """Where in `data`, which begins anywhere in the file, a record begins; its length if none does."""


class _Followed:
    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.offset = 0
        self.inode: tuple[int, int] | None = None
        self.head = b""


class FileLog(Log):
    """A log of one or several files that only grow; where they are `attempts`, a later one counts for a step."""

    decoder: ClassVar[type[Decoder]]
    attempts: ClassVar[bool] = True

    def __init__(self, folder: Path, name: str = "") -> None:
        super().__init__(folder, name)
        self._followed: dict[str, _Followed] = {}

    def decoder_of(self, path: Path) -> Decoder:
        return self.decoder()

    def read(self, budget: int, rows: NewRows) -> int:
        self.problem = None
        left = 0
        for number, path in enumerate(self.files()[:_MOST_FILES], 1):
            rows.attempt = number if self.attempts else 1
            used, more = self._follow(path, budget, rows)
            budget -= used
            left += more
        return left

    def sample(self, places: int, rows: NewRows) -> None:
        for number, path in enumerate(self.files()[:_MOST_FILES], 1):
            rows.attempt = number if self.attempts else 1
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

    def _follow(self, path: Path, budget: int, rows: NewRows) -> tuple[int, int]:
        """Bytes read and bytes left."""
        known = self._followed.get(str(path)) or self._followed.setdefault(str(path), _Followed(self.decoder_of(path)))
        with opened(path) as descriptor:
            info = os.fstat(descriptor)
            inode = (info.st_dev, info.st_ino)
            if known.inode not in (None, inode) or info.st_size < known.offset:
                raise Replaced
            head = os.pread(descriptor, _HEAD, 0)
            if head[: len(known.head)] != known.head:
                raise Replaced
            known.inode, known.head = inode, head
            start = known.offset
            for data in _pieces(descriptor, known, start + budget):
                try:
                    used = known.decoder.decode(data, known.offset, rows)
                except Damaged as error:
                    self.problem = f"{path.name} is damaged behind byte {known.offset}: {error}"
                    return known.offset - start, 0
                if known.offset + used > info.st_size:
                    return known.offset - start, 0
                if used == 0 and len(data) >= MAX_RECORD:
                    self.problem = f"{path.name} is damaged behind byte {known.offset}: a record without an end"
                if used == 0 and (len(data) >= MAX_RECORD or known.offset + len(data) >= info.st_size):
                    return known.offset - start, 0
                known.offset += used
            return known.offset - start, info.st_size - known.offset


def _pieces(descriptor: int, known: _Followed, end: int) -> Iterator[bytes]:
    """The bytes from where the file has been read to: more of them where a piece did not do."""
    size = _READ
    while known.offset < end:
        before = known.offset
        size = min(size, max(end - before, _HEADROOM)) if size < MAX_RECORD else size
        data = os.pread(descriptor, size, before)
        if not data:
            return
        yield data
        size = _READ if known.offset > before else MAX_RECORD
