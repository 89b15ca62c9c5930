"""Tables of vectors: class means of a trained network (CEembs, arXiv:2510.04090) and files of rows.

A table is the one kind of system that grows with the number of classes: [classes, n] float32 and a scan to decode.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsc_engine.errors import UsageError
from lsc_engine.textfiles import other_encoding
from lsc_engine.vectors.base import VectorSystem, clean
from lsc_engine.vectors.counting import SystemFacts

# Scores held at once in a scan, 64 MB of float32.
SCORES_AT_ONCE = 2**24


class Empirical(VectorSystem):
    """The rows of a table [count, n], made unit rows. `sha256` names its content."""

    structured = False
    has_lexicographic = False

    def __init__(self, name: str, table: Tensor) -> None:
        """Raises UsageError for rows that are zero, not finite, or equal as directions."""
        rows = table.detach().cpu().double()
        self._lengths = rows.norm(dim=1)
        self._rows = (rows / self._lengths.unsqueeze(1)).float()
        _refuse_bad_rows(name, rows, self._lengths, self._rows)
        self.sha256 = hashlib.sha256(np.ascontiguousarray(table.detach().cpu().float().numpy()).tobytes()).hexdigest()
        count, n = rows.shape
        largest = self._largest_cosine()
        angle = math.degrees(math.acos(max(-1.0, min(1.0, largest))))
        sure = 1 - math.sqrt((1 + largest) / 2)
        super().__init__(
            SystemFacts(name, n, count, largest, angle, min(n, count), None, sure, "scan", n, "2510.04090 CEembs")
        )

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._table(index)[index]
        return torch.arange(self.n, device=index.device).expand(rows.shape), rows

    def vectors(self, index: Tensor) -> Tensor:
        self._check(index)
        return self._table(index)[index]

    def native_norm(self, index: Tensor) -> Tensor:
        key = ("lengths", index.device)
        if key not in self._constants:
            self._constants[key] = self._lengths.float().to(index.device)
        return self._constants[key][index]

    def cosine(self, z: Tensor, index: Tensor) -> Tensor:
        z = z.float()
        length = torch.linalg.vector_norm(z, dim=1)
        return (z * self._table(index)[index]).sum(1) / torch.where(length > 0, length, 1.0)

    def nearest(self, z: Tensor) -> Tensor:
        return self._best(clean(z), 1).squeeze(1)

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """By a scan of the table in chunks."""
        return self._best(clean(z), min(k, self.count))

    def _best(self, z: Tensor, k: int) -> Tensor:
        table = self._table(z)
        found = []
        with torch.autocast(z.device.type, enabled=False):
            for rows in z.split(max(1, SCORES_AT_ONCE // self.count)):
                scores = rows @ table.T
                found.append(scores.argmax(1, keepdim=True) if k == 1 else scores.topk(k, dim=1).indices)
        return torch.cat(found) if found else torch.empty((0, k), dtype=torch.long, device=z.device)

    def _largest_cosine(self) -> float:
        best = -1.0
        count = len(self._rows)
        step = max(1, SCORES_AT_ONCE // count)
        for start in range(0, count, step):
            scores = self._rows[start : start + step] @ self._rows.T
            scores.diagonal(start).fill_(-1.0)
            best = max(best, float(scores.max()))
        return min(best, 1.0)

    def _table(self, like: Tensor) -> Tensor:
        key = ("table", like.device)
        if key not in self._constants:
            self._constants[key] = self._rows.to(like.device)
        return self._constants[key]


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
            with path.open("rb") as start:
                if (other := other_encoding(start.read(1024))) is not None:
                    raise UsageError(f"file:{path}: is {other} text; save it as UTF-8")
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


def _refuse_bad_rows(name: str, rows: Tensor, lengths: Tensor, unit: Tensor) -> None:
    if not bool(torch.isfinite(rows).all()):
        bad = int((~torch.isfinite(rows)).any(1).nonzero()[0])
        raise UsageError(f"{name}: row {bad} holds a number that is not finite")
    if not bool((lengths > 0).all()):
        raise UsageError(f"{name}: row {int((lengths == 0).nonzero()[0])} is zero and has no direction")
    _, group, sizes = torch.unique(unit, dim=0, return_inverse=True, return_counts=True)
    if bool((sizes > 1).any()):
        first, other = (group == int((sizes > 1).nonzero()[0])).nonzero()[:2, 0].tolist()
        raise UsageError(
            f"rows {first} and {other} of {name.removeprefix('file:')} are equal: 2 classes would share a centre"
        )
