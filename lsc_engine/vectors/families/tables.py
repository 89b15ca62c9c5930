"""Tables of vectors: class means of a trained network (CEembs, arXiv:2510.04090) and files of rows.

A table is the one kind of system that grows with the number of classes: [classes, n] float32 and a scan to decode.
"""

from __future__ import annotations

import hashlib
import math
import stat
import warnings
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from safetensors import safe_open

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import decoded
from lsc_engine.common.userpaths import user_path
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors import tensors
from lsc_engine.vectors.base import VectorSystem

# Scores held at once in a scan, 64 MB of float32.
SCORES_AT_ONCE = 2**24


@SYSTEMS.register("file", "embeddings")
class Table(VectorSystem):
    """The rows of a table [count, n], made unit rows. Without its rows, only its size is known."""

    pattern = "(embeddings|file):.+"
    position: ClassVar[int] = 80
    suggested = ("embeddings:RUN", "file:PATH")
    needs_classes = True
    is_table = True
    structured = False
    has_lexicographic = False
    description = "the rows of the table"
    decoding = "all rows are compared"

    def __init__(self, name: str, n: int, classes: int | None = None, max_cosine: float = math.nan) -> None:
        super().__init__(name, n, classes)
        self.count = classes or 1
        self.rank, self.max_cosine = min(n, self.count), max_cosine

    @classmethod
    def read(cls, name: str, n: int, classes: int | None, rows: Tensor | None = None) -> Table:
        """The table with its rows, of which at least `classes` are needed; a `file:` is read where no `rows` are given.

        UsageError for rows of another length, too few rows, and those that `with_rows` refuses.
        """
        if rows is None:
            if not name.startswith("file:"):
                raise UsageError(f"target.system: {name}: the class means of that run are needed")
            rows = load_table(user_path(name.removeprefix("file:")))
        if rows.shape[1] != n:
            raise UsageError(f"target.system: {name} has rows of {rows.shape[1]} numbers, n is {n}")
        if classes is not None and len(rows) < classes:
            raise UsageError(f"target.system: {name} has {len(rows)} rows, {classes} are needed")
        return cls.with_rows(name, rows)

    @classmethod
    def with_rows(cls, name: str, rows: Tensor) -> Table:
        """A table of `rows` [count, n]. UsageError for rows that are zero, not finite, or equal as directions."""
        rows = rows.detach().cpu().float()
        unit, lengths = directions(name.removeprefix("file:"), rows.numpy())
        table = cls(name, rows.shape[1], len(rows))
        table._rows, table._lengths = torch.from_numpy(unit), torch.from_numpy(lengths)
        table.source = "-" if name.startswith("file:") else "2510.04090 CEembs"
        table.max_cosine = tensors.largest_cosine(unit)
        content = rows.contiguous().numpy().tobytes()
        table.sha256 = hashlib.sha256(content).hexdigest()
        return table

    _rows: Tensor | None = None
    _lengths: Tensor
    sha256: str  # of the rows as float32, before they were made unit rows

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._table(index)[index]
        return torch.arange(self.n, device=index.device).expand(rows.shape), rows

    def vectors(self, index: Tensor) -> Tensor:
        self._check(index)
        return self._table(index)[index]

    def native_norm(self, index: Tensor) -> Tensor:
        return self._once("lengths", index, lambda: self._lengths.float())[index]

    def cosine(self, z: Tensor, index: Tensor) -> Tensor:
        z = z.float()
        return (z * self._table(index)[index]).sum(1) / tensors.safe_length(z)

    def nearest(self, z: Tensor) -> Tensor:
        return self.nearest_k(z, 1).squeeze(1)

    def nearest_k(self, z: Tensor, k: int) -> Tensor:
        """By a scan of the table in chunks."""
        k, table = min(k, self.count), self._table(z)

        def best(rows: Tensor) -> Tensor:
            scores = rows @ table.T
            return scores.argmax(1, keepdim=True) if k == 1 else scores.topk(k, dim=1).indices

        with torch.autocast(z.device.type, enabled=False):
            return tensors.in_chunks(tensors.clean(z), SCORES_AT_ONCE // self.count, k, best)

    def _table(self, like: Tensor) -> Tensor:
        rows = self._rows
        assert rows is not None, "a table made for its facts alone has no rows"
        return self._once("table", like, lambda: rows)


def table_shape(path: Path) -> tuple[int, int]:
    """(rows, columns) of a vector file. UsageError for each file that `load_table` or `Table.with_rows` refuses."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _shape(path, ())  # which raises
    return _shape(path, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=16)
def _shape(path: Path, _content: tuple[int, ...]) -> tuple[int, int]:
    # Every variant of a preset, and the form at every key, checks its file.
    rows = _read(path)
    directions(str(path), rows)
    return rows.shape[0], rows.shape[1]


def load_table(path: Path) -> Tensor:
    """The rows of an .npy, .safetensors (its only matrix, or "class_means") or .csv file: float32 [rows, n].

    UsageError for a file that cannot be read or holds no matrix of numbers.
    """
    return torch.from_numpy(_read(path))


def directions(name: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`rows` [count, n] of `name` as unit rows float32, and their lengths float64 [count]. UsageError for rows that are
    zero, not finite, or equal as directions."""
    exact = rows.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    for fault, wrong in (
        ("holds a number that is not finite", ~np.isfinite(exact).all(1)),
        ("is zero and has no direction", lengths == 0),
    ):
        if wrong.any():
            raise UsageError(f"{name}: row {wrong.argmax()} {fault}")
    unit = (exact / lengths[:, None]).astype(np.float32)
    content = (unit + np.float32(0)).view(f"V{4 * unit.shape[1]}")[:, 0]  # -0 and 0 are equal
    _, first, group = np.unique(content, return_index=True, return_inverse=True)
    repeated = first[group] != np.arange(len(unit))
    if repeated.any():
        other = int(repeated.argmax())
        equal = f"rows {first[group[other]]} and {other} of {name} are equal"
        raise UsageError(f"{equal}: 2 classes would share a centre")
    return unit, lengths


def _read(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise UsageError(f"{path} is none of .npy, .safetensors and .csv")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is not a file")
        rows = _READERS[suffix](path)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the file may be broken in any way
        raise UsageError(f"{path} is no {suffix} file: {error}") from error
    if rows.dtype.kind not in "fiu":
        raise UsageError(f"{path} holds {rows.dtype}; save it as float32")
    if rows.ndim != 2 or 0 in rows.shape:
        raise UsageError(f"{path} has shape {rows.shape}; rows and columns are needed, one row per class")
    with np.errstate(over="ignore"):  # of which a sentence follows
        return np.array(rows, np.float32, order="C")


def _read_npy(path: Path) -> np.ndarray:
    # Unlike np.load, takes nothing else for an array: no archive, no pickle.
    return np.lib.format.open_memmap(path, mode="r")


def _read_csv(path: Path) -> np.ndarray:
    try:
        decoded(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path} {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file
            return np.loadtxt(path, delimiter=",", ndmin=2, encoding="utf-8-sig")
    except ValueError as error:
        why = str(error).partition("; use `usecols`")[0].rstrip(".")
        needed = "a line of numbers for each class is needed, with commas between them and without a header"
        raise ValueError(f"{why:.120}; {needed}") from None


def _read_safetensors(path: Path) -> np.ndarray:
    with safe_open(path, framework="numpy") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        matrices = [name for name, shape in shapes.items() if len(shape) == 2]
        if "class_means" in shapes:
            matrices = ["class_means"]
        if len(matrices) != 1:
            raise UsageError(f"{path} holds {len(matrices)} matrices; one is needed, or one with the name class_means")
        try:
            return file.get_tensor(matrices[0])
        except (TypeError, AttributeError):  # numbers that numpy does not have
            dtype = file.get_slice(matrices[0]).get_dtype()
            raise UsageError(f"{path} holds {dtype}; save it as float32") from None


_READERS = {".npy": _read_npy, ".safetensors": _read_safetensors, ".csv": _read_csv}
