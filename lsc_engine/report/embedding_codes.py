"""Embeddings of a trained run as codes of few bytes, written for vector databases, with what each code finds again.

    float32   the direction of the embedding, n numbers
    int8      the same, each number in 1/127 of the largest one of all
    sign      n bits, 1 above 0
    ternary   the nearest vector of V_pq, two bits a coordinate: -1 is 00, 0 is 01, +1 is 11. The Hamming distance of
              two codes is the l1 distance of the vectors.
    rank      the number of the nearest vector, for any system that has one

Bits fill bytes from the highest on, and the last byte with zeros."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import whole_file, writing
from lsc_engine.vectors.base import VectorSystem

CODES = ("float32", "int8", "sign", "ternary", "rank")
FORMATS = ("faiss", "pgvector", "usearch", "parquet", "npy")
ENDINGS = {"faiss": ".faiss", "pgvector": ".sql", "usearch": ".usearch", "parquet": ".parquet", "npy": ".npy"}
BITS = ("sign", "ternary")
# What a format cannot hold, with the codes that it can.
_LACKS = {"pgvector": {"int8"}, "faiss": {"rank"}, "usearch": {"rank"}}
_PACKAGES = {"faiss": "faiss-cpu", "usearch": "usearch", "parquet": "pyarrow"}
NEIGHBOURS = (1, 10)
MOST_QUERIES, MOST_STORED, _AT_ONCE = 1000, 2**16, 2**16


@dataclass(frozen=True)
class Codes:
    """`rows`: float32 or int8 [N, n], uint8 [N, bytes] of bits, or uint64 [N] of ranks; `bits` of one code."""

    code: str
    rows: np.ndarray
    bits: int

    @property
    def bytes(self) -> int:
        """Of one embedding."""
        return -(-self.bits // 8)


def encode(z: np.ndarray, code: str, system: VectorSystem | None) -> Codes:
    """The codes of embeddings [N, n] float32. UsageError if the `system` of the run has none of this kind."""
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-30)
    if code == "float32":
        return Codes(code, unit.astype(np.float32), 32 * z.shape[1])
    if code == "int8":
        return Codes(code, np.rint(unit * (127 / max(np.abs(unit).max(), 1e-30))).astype(np.int8), 8 * z.shape[1])
    if code == "sign":
        return Codes(code, np.packbits(unit > 0, axis=1), z.shape[1])
    if system is None:
        raise UsageError(f"--codes {code} needs a run that was trained on a vector system; sign and int8 need none")
    import torch

    if code == "ternary":
        first = system.vectors(torch.zeros(1, dtype=torch.int64)).numpy()
        if not system.name.startswith("V") or len(np.unique(np.abs(first[first != 0]))) != 1:
            need = "--codes ternary needs vectors of -1, 0 and +1 like V21"
            raise UsageError(f"{need}, not {system.name}; take rank or sign")
    if system.count > 2**63 - 1:
        raise UsageError(f"--codes {code}: {system.name} at n = {system.n} has more vectors than 64 bits can number")
    parts = torch.from_numpy(np.ascontiguousarray(z, np.float32)).split(_AT_ONCE)
    index = torch.cat([system.nearest(part) for part in parts])
    if code == "rank":
        return Codes(code, index.numpy().astype(np.uint64), max(1, math.ceil(math.log2(system.count))))
    vectors = np.sign(torch.cat([system.vectors(part) for part in index.split(_AT_ONCE)]).numpy())
    bits = np.stack([vectors > 0, vectors > -1], axis=2).reshape(len(vectors), -1)
    return Codes(code, np.packbits(bits, axis=1), bits.shape[1])


def recall(codes: Codes, exact: Codes) -> list[float]:
    """For each k of NEIGHBOURS the share of queries whose nearest other embedding, by the cosine of `exact`, is among
    the k nearest by `codes`. Equal distances go by number."""
    stored = np.unique(np.linspace(0, len(exact.rows) - 1, min(len(exact.rows), MOST_STORED)).astype(np.int64))
    codes, exact = replace(codes, rows=codes.rows[stored]), replace(exact, rows=exact.rows[stored])
    count = len(stored)
    queries = np.unique(np.linspace(0, count - 1, min(count, MOST_QUERIES)).astype(np.int64))
    hits = np.zeros(len(NEIGHBOURS), np.int64)
    for part in np.array_split(queries, max(1, len(queries) * count // 2**24)):
        wanted = _distances(exact, part)
        found = _distances(codes, part)
        own = np.arange(len(part)), part
        wanted[own] = found[own] = np.inf
        nearest = wanted.argmin(1)
        at = found[np.arange(len(part)), nearest]
        ahead = (found < at[:, None]).sum(1) + ((found == at[:, None]) & (np.arange(count) < nearest[:, None])).sum(1)
        hits += [(ahead < k).sum() for k in NEIGHBOURS]
    return [float(hit) / len(queries) for hit in hits]


def _distances(codes: Codes, queries: np.ndarray) -> np.ndarray:
    """[len(queries), N] float64: what grows with the distance of two codes."""
    rows = codes.rows
    if codes.code == "rank":
        return (rows[queries][:, None] != rows[None, :]).astype(np.float64)
    if codes.code in BITS:
        return np.stack([np.bitwise_count(rows ^ rows[query]).sum(1) for query in queries]).astype(np.float64)
    return -(rows[queries].astype(np.float64) @ rows.T.astype(np.float64))


def check_format(to: str, code: str) -> None:
    """UsageError if the format cannot hold the code, or its package is missing."""
    if code in _LACKS.get(to, ()):
        others = ", ".join(one for one in CODES if one not in _LACKS[to])
        raise UsageError(f"--codes {code} does not go with --to {to}; {others} do")
    if (package := _PACKAGES.get(to)) is not None:
        try:
            importlib.import_module(to if to != "parquet" else "pyarrow")
        except ImportError:
            raise UsageError(f"--to {to} needs {package}, which is not installed: pip install {package}") from None


def labels_file(to: str, path: Path) -> Path | None:
    """The file beside `path` that holds the labels, None for the formats that hold them themselves."""
    return None if to in _WITH_LABELS else path.with_name(f"{path.name}.labels.npy")


def write(codes: Codes, labels: np.ndarray, to: str, path: Path) -> list[Path]:
    """Write codes and labels [N] int64; the files written. The position of a code is its id, and that of its label in
    FILE.labels.npy for the formats that hold no labels. LscError if the disk refuses."""
    labels_path = labels_file(to, path)
    with writing(path):
        with whole_file(path) as part:
            if labels_path is None:
                _WITH_LABELS[to](codes, labels, part)
                return [path]
            _WRITERS[to](codes, part)
        with whole_file(labels_path) as part:
            _save(part, labels)
    return [path, labels_path]


def _save(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, rows)


def _write_parquet(codes: Codes, labels: np.ndarray, path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows: Any = codes.rows
    if codes.code in BITS:
        column = pyarrow.array([row.tobytes() for row in rows], pyarrow.binary(codes.bytes))
    elif codes.code == "rank":
        column = pyarrow.array(rows)
    else:
        column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), rows.shape[1])
    columns = {"id": pyarrow.array(np.arange(len(rows))), "label": pyarrow.array(labels), "embedding": column}
    parquet.write_table(pyarrow.table(columns), path)


def _write_faiss(codes: Codes, path: Path) -> None:
    import faiss

    rows, n = codes.rows, codes.rows.shape[1]
    if codes.code in BITS:
        index: Any = faiss.IndexBinaryFlat(8 * n)
        index.add(rows)
        faiss.write_index_binary(index, str(path))
        return
    if codes.code == "int8":
        index = faiss.IndexScalarQuantizer(n, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexFlatIP(n)
    index.add(rows.astype(np.float32))
    faiss.write_index(index, str(path))


def _write_usearch(codes: Codes, path: Path) -> None:
    from usearch.index import Index

    kinds = {"float32": ("ip", "f32"), "int8": ("ip", "i8")}
    metric, kind = kinds.get(codes.code, ("hamming", "b1"))
    width = 8 * codes.rows.shape[1] if kind == "b1" else codes.rows.shape[1]
    index = Index(ndim=width, metric=metric, dtype=kind)
    index.add(np.arange(len(codes.rows)), codes.rows)
    index.save(str(path))


def _write_pgvector(codes: Codes, labels: np.ndarray, path: Path) -> None:
    """A script for psql that makes and fills the table `embeddings`."""
    bits, rows = codes.code in BITS, codes.rows
    kind = "bigint" if codes.code == "rank" else f"bit({codes.bits})" if bits else f"vector({rows.shape[1]})"

    def text(row: Any) -> str:
        if codes.code == "rank":
            return str(int(row))
        if bits:
            return "".join(map(str, np.unpackbits(row)[: codes.bits].tolist()))
        return "[" + ",".join(f"{value:.9g}" for value in row.tolist()) + "]"

    with path.open("w", encoding="ascii") as file:
        file.write("CREATE EXTENSION IF NOT EXISTS vector;\n")
        columns = f"id bigint PRIMARY KEY, label bigint NOT NULL, embedding {kind} NOT NULL"
        file.write(f"CREATE TABLE embeddings ({columns});\n")
        file.write("COPY embeddings (id, label, embedding) FROM stdin;\n")
        file.writelines(f"{i}\t{label}\t{text(row)}\n" for i, (label, row) in enumerate(zip(labels, rows, strict=True)))
        file.write("\\.\n")


_WRITERS: dict[str, Callable[[Codes, Path], None]] = {
    "npy": lambda codes, path: _save(path, codes.rows),
    "faiss": _write_faiss,
    "usearch": _write_usearch,
}
_WITH_LABELS = {"parquet": _write_parquet, "pgvector": _write_pgvector}
