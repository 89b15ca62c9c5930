"""Tables of vectors: class means of a trained network (CEembs, arXiv:2510.04090) and files of rows.

A table is the one kind of system that grows with the number of classes: [classes, n] float32 and a scan to decode.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import ClassVar

from safetensors import SafetensorError, safe_open

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import other_encoding
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
            rows = load_table(Path(name.removeprefix("file:")))
        if rows.shape[1] != n:
            raise UsageError(f"target.system: {name} has rows of {rows.shape[1]} numbers, n is {n}")
        if classes is not None and len(rows) < classes:
            raise UsageError(f"target.system: {name} has {len(rows)} rows, {classes} are needed")
        return cls.with_rows(name, rows)

    @classmethod
    def with_rows(cls, name: str, rows: Tensor) -> Table:
        """A table of `rows` [count, n]. UsageError for rows that are zero, not finite, or equal as directions."""
        exact = rows.detach().cpu().double()
        table = cls(name, exact.shape[1], len(exact))
        table._lengths = exact.norm(dim=1)
        table._rows = (exact / table._lengths.unsqueeze(1)).float()
        if not bool(torch.isfinite(exact).all()):
            bad = int((~torch.isfinite(exact)).any(1).nonzero()[0])
            raise UsageError(f"{name}: row {bad} holds a number that is not finite")
        if not bool((table._lengths > 0).all()):
            raise UsageError(f"{name}: row {int((table._lengths == 0).nonzero()[0])} is zero and has no direction")
        _, group, sizes = torch.unique(table._rows, dim=0, return_inverse=True, return_counts=True)
        if bool((sizes > 1).any()):
            first, other = (group == int((sizes > 1).nonzero()[0])).nonzero()[:2, 0].tolist()
            file = name.removeprefix("file:")
            raise UsageError(f"rows {first} and {other} of {file} are equal: 2 classes would share a centre")
        table.source, table.max_cosine = "2510.04090 CEembs", tensors.largest_cosine(table._rows.numpy())
        content = rows.detach().cpu().float().contiguous().numpy().tobytes()
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


def table_shape(path: str | Path) -> tuple[int, int]:
    """(rows, columns) of a vector file from its header. ValueError with a sentence where there is no such table."""
    path = Path(path)
    try:
        match path.suffix.lower():
            case ".npy":
                shape = list(np.load(path, mmap_mode="r", allow_pickle=False).shape)
            case ".safetensors":
                with safe_open(path, framework="numpy") as file:
                    shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
                if len(shapes) != 1:
                    raise UsageError(f"{path} holds {len(shapes)} tensors, one is needed")
                (shape,) = shapes
            case ".csv":
                _check_text(path, f"{path} is")
                with path.open(encoding="utf-8-sig", errors="replace") as text:
                    lines = [line.count(",") + 1 for line in text if line.strip()]
                shape = [len(lines), next(iter(lines), 0)]
            case _:
                raise UsageError(f"{path.name} is none of .npy, .safetensors, .csv")
    except UsageError as error:
        raise ValueError(str(error)) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, SafetensorError) as error:
        raise ValueError(f"{path} is no {path.suffix.lower()} file: {error}") from error
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"{path} has shape {tuple(shape)}; rows and columns are needed, one row per class")
    return int(shape[0]), int(shape[1])


def _check_text(path: Path, prefix: str) -> None:
    with path.open("rb") as start:
        if (other := other_encoding(start.read(1024))) is not None:
            raise UsageError(f"{prefix} {other} text; save it as UTF-8")


def load_table(path: str | Path) -> Tensor:
    """The rows of an .npy, .safetensors (its only matrix, or "class_means") or .csv file: float32 [rows, n].

    Raises UsageError where there is no such file or it holds no matrix of numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"file:{path}: no such file")
    try:
        rows = _read(path)
    except UsageError:
        raise
    except Exception as error:  # the file may be broken in any way; the sentence says where and how
        raise UsageError(f"file:{path}: cannot be read: {error}") from error
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or 0 in rows.shape:
        raise UsageError(
            f"file:{path}: a matrix of numbers is needed, one row per class, not {rows.dtype} {rows.shape}"
        )
    return torch.from_numpy(rows.astype(np.float32))


def _read(path: Path) -> np.ndarray:
    match path.suffix.lower():
        case ".npy":
            return np.load(path, allow_pickle=False)
        case ".csv":
            _check_text(path, f"file:{path}: is")
            return np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float64, encoding="utf-8-sig")
        case ".safetensors":
            from safetensors.numpy import load_file

            tensors = load_file(path)
            matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
            if "class_means" in tensors:
                return tensors["class_means"]
            if len(matrices) != 1:
                raise UsageError(f"file:{path}: one matrix is needed, it holds {len(matrices)}")
            return tensors[matrices[0]]
    raise UsageError(f"file:{path}: one of .npy, .safetensors and .csv is needed")
