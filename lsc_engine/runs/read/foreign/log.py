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
from numpy.typing import NDArray

from lsc_engine.common.safe_io import UnreadableError, opened
from lsc_engine.runs.metrics.parsing import MAX_KEY, MAX_NAMES, MAX_STEP, RESERVED, Floats, Ints
from lsc_engine.runs.metrics.reader import MetricsTable

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

_HEADS = (*RESERVED, "time", "epoch")


# Rows that hold a metric, and its cells there.
Cells = Sequence[Any] | NDArray[Any]
Column = tuple[Sequence[int] | Ints, Cells]


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
            others = {taken for taken, _ in self._known.values()}
            if name in others:
                name, accuracy = raw.strip() if raw.strip() not in others else "", False
            self._known[raw] = (name, accuracy)
        return self._known.get(raw, ("", False))

    def _ours(self, raw: str) -> tuple[str, bool]:
        found = next(filter(None, (pattern.match(raw.lower()) for pattern in _NAMES)), None)
        if found is None:
            name = raw if 0 < len(raw) <= MAX_KEY and raw.isprintable() else ""
            return ("" if name in _HEADS else name), False
        split = found["split"] or self.split
        name = f"{'val' if split in _VAL else 'train'}/{'loss' if found['kind'] == 'loss' else 'accuracy'}"
        if "1" in found["kind"]:
            # acc1, top-1: given in per cent by all who use the word.
            self.percent.add(name)
        return name, found["kind"] != "loss"


def number(value: Any) -> float | None:
    """A cell as a number; None for empty cells, words and yes or no."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        # float() takes "1_000" too, and a number of any length.
        return float(value) if not isinstance(value, str) or "_" not in value else None
    except (ValueError, OverflowError):
        return None


def numbers(rows: Sequence[int] | Ints, cells: Cells) -> tuple[Ints, Floats]:
    """The cells that are numbers, and their rows."""
    if isinstance(cells, np.ndarray):
        return np.asarray(rows, np.int64), cells.astype(np.float64)
    kinds = set(map(type, cells))
    if kinds <= {int, float} or (kinds == {str} and "_" not in "".join(cells)):
        with suppress(ValueError, OverflowError):
            return np.array(rows, np.int64), np.array(list(map(float, cells)), np.float64)
    found = [(row, n) for row, cell in zip(rows, cells, strict=True) if (n := number(cell)) is not None]
    return np.array([row for row, _ in found], np.int64), np.array([n for _, n in found], np.float64)


def whole(cells: Cells) -> Column:
    """A column with a cell in each row."""
    return range(len(cells)), cells


def flat(table: Mapping[str, Any], before: str = "", depth: int = 4) -> Iterator[tuple[str, Any]]:
    """Names and values of nested tables, with names joined by slashes."""
    for name, value in table.items():
        if isinstance(value, dict) and depth:
            yield from flat(value, f"{before}{name}/", depth - 1)
        else:
            yield f"{before}{name}", value


def stop_at(place: int, why: str) -> int:
    """Keep the records before `place`; at the first record there is nothing to keep: Damaged."""
    if place == 0:
        raise Damaged(why)
    return place


class NewRows:
    """Puts the rows of another tool into a table, with our names."""

    def __init__(self, names: Names, table: MetricsTable) -> None:
        self.names, self.table, self.attempt = names, table, 1

    def add(self, steps: Cells, columns: Mapping[str, Column], **axes: Column) -> None:
        """Rows of a table: their steps, the cells of each metric, and those of the axes time (in seconds) and epoch.
        Rows without a step from 0 to 2⁵³ or without a number beside it are left out."""
        numbered, found = numbers(*whole(steps)), dict[str, tuple[Ints, Floats]]()
        step, kept = np.full(len(steps), -1.0), np.zeros(len(steps), np.bool_)
        step[numbered[0]] = numbered[1]
        for raw, column in columns.items():
            name, accuracy = self.names.of(raw)
            if name:
                rows, values = numbers(*column)
                if accuracy and name not in self.names.percent and (values > 1).any():
                    self.names.percent.add(name)
                    raise Replaced
                found[name] = rows, values / 100 if name in self.names.percent else values
                kept[rows] = True
        kept &= (step >= 0) & (step < MAX_STEP) & (step == np.floor(step))
        place, known = np.cumsum(kept) - 1, dict[str, tuple[Ints, Floats]]()
        for name, (rows, values) in (found | {name: numbers(*axis) for name, axis in axes.items()}).items():
            order = np.argsort(rows, kind="stable")
            if (chosen := order[kept[rows[order]]]).size:
                known[name] = place[rows[chosen]], values[chosen]
        step = step[kept].astype(np.int64)
        line = np.arange(self.table.lines, self.table.lines + len(step), dtype=np.int64)
        self.table.append(line, step, np.full_like(step, self.attempt), known)
        self.table.lines += len(step)


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
            try:
                used, more = self._follow(path, budget, rows)
            except UnreadableError as error:
                # The others are read all the same.
                self.problem = str(error)
                continue
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
