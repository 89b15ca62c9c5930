"""Every family against listing: vectors, ranks, nearest, k nearest, cosine, orders; large counts against integers."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsc_engine.common.deferred import import_deferred
from lsc_engine.common.errors import UsageError
from lsc_engine.vectors import VectorSystem, n_min, system
from lsc_engine.vectors.families.tables import load_table
from lsc_engine.vectors.orbit_system import candidates
from lsc_engine.vectors.registry import facts
from lsc_engine.vectors.subsets import Subsets
from lsc_engine.vectors.tensors import extremes
from tests.vectors.brute import SMALL, native, unit

COMPILED = ["V21", "V22", "V21pm", "A", "Ap", "A-mid", "A-interp", "A-helmert", "W2"]
OTHERS = [
    ("simplex", 1, 1),
    ("simplex", 1, 2),
    ("simplex", 4, 5),
    ("simplex", 9, 5),
    ("planar", 2, 4),
    ("planar", 2, 20),
]
ALL = [*[(name, n, None) for name, n in SMALL], *OTHERS]


@pytest.mark.parametrize(("name", "n", "classes"), ALL)
def test_sums_over_repeated_columns_have_the_same_bits_in_any_order(name: str, n: int, classes: int | None) -> None:
    """A GPU adds them in the order in which its threads come. In W_n(k) a column stands several times, always with one
    weight, so that every order adds equal numbers."""
    s = system(name, n, classes=classes)
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(min(s.count, 10**6), (200,), generator=generator)
    columns, weights = s.coordinates(index)
    z = torch.randn(200, n, generator=generator)
    lifted = s.lift(z).detach()
    vectors, gradients = set[bytes](), set[bytes]()
    for turn in range(6):
        slots = torch.rand(columns.shape, generator=generator).argsort(1) if turn else torch.arange(columns.shape[1])
        some, theirs = columns.gather(1, slots.expand_as(columns)), weights.gather(1, slots.expand_as(columns))
        vectors.add(torch.zeros_like(lifted).scatter_add_(1, some, theirs).numpy().tobytes())
        scaled = torch.linspace(0.1, 3, 200).unsqueeze(1)
        gradients.add(lifted.clone().scatter_add_(1, some, theirs * scaled).numpy().tobytes())
    assert (len(vectors), len(gradients)) == (1, 1)
    if name.startswith("W"):
        assert any(len(set(row)) < len(row) for row in columns.tolist())


def made(name: str, n: int, classes: int | None) -> tuple[VectorSystem, torch.Tensor]:
    """A system and all its vectors."""
    s = system(name, n, classes=classes)
    return s, s.vectors(torch.arange(s.count))


def embeddings(n: int, rows: int = 200) -> torch.Tensor:
    """Random embeddings, a third of them full of ties, one zero."""
    generator = torch.Generator().manual_seed(n)
    z = torch.randn(rows, n, generator=generator)
    z[: rows // 3] = torch.randint(-2, 3, (rows // 3, n), generator=generator).float()
    z[0] = 0
    z[1 : rows // 6] = z[1 : rows // 6].relu()
    return z


def cosines(z: torch.Tensor, rows: torch.Tensor) -> np.ndarray:
    """Dense cosines [B, count] in float64, 0 for the zero embedding."""
    length = z.double().norm(dim=1, keepdim=True)
    return (z.double() @ rows.double().T / torch.where(length > 0, length, 1)).numpy()


@pytest.mark.parametrize(("name", "n"), SMALL)
def test_vectors_are_the_definition(name: str, n: int) -> None:
    s, rows = made(name, n, None)
    assert rows.dtype == torch.float32
    assert rows.shape == (s.count, n)
    expected = unit(native(name, n))
    if name == "A-helmert":
        lifted = s.lift(rows)
        np.testing.assert_allclose(
            (rows.double() @ rows.double().T).numpy(), lifted.double() @ lifted.double().T, atol=1e-6
        )
        rows = lifted
    got = {tuple(row) for row in np.round(rows.double().numpy(), 5) + 0.0}
    assert got == {tuple(row) for row in np.round(expected, 5) + 0.0}


@pytest.mark.parametrize(("name", "n", "classes"), ALL)
def test_decode_and_cosine(name: str, n: int, classes: int | None) -> None:
    s, rows = made(name, n, classes)
    index = torch.arange(s.count)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(s.count))
    assert torch.equal(s.nearest(rows), index), "an exact vector decodes to itself"
    if s.count > 1:
        assert s.max_cosine == pytest.approx(float(np.sort(cosines(rows, rows), axis=1)[:, -2].max()), abs=1e-6)
    z = embeddings(n)
    dense = cosines(z, rows)
    every = np.arange(len(z))
    np.testing.assert_allclose(dense[every, s.nearest(z)], dense.max(1), atol=1e-6)
    label = torch.randint(0, s.count, (len(z),), generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(s.cosine(z, label), dense[every, label], atol=1e-6)
    assert s.cosine(z, label)[0] == 0
    for k in (1, 2, 5, 24):
        found = s.nearest_k(z, k)
        if name.startswith("W"):
            assert found is None
            continue
        assert found is not None
        assert found.shape == (len(z), min(k, s.count))
        assert all(len(set(row)) == len(row) for row in found.tolist())
        np.testing.assert_allclose(
            np.take_along_axis(dense, found.numpy(), 1), -np.sort(-dense, axis=1)[:, : found.shape[1]], atol=1e-6
        )


@pytest.mark.parametrize(("name", "n", "classes"), ALL)
def test_sparse_form_norms_and_orders(name: str, n: int, classes: int | None) -> None:
    s, rows = made(name, n, classes)
    index = torch.arange(s.count)
    columns, weights = s.coordinates(index)
    assert columns.shape == weights.shape == (s.count, s.support)
    assert (columns.dtype, weights.dtype) == (torch.int64, torch.float32)
    lifted = s.lift(rows)
    dense = torch.zeros_like(lifted).scatter_add_(1, columns, weights)
    if name not in ("simplex",):  # its sparse form leaves out the mean, which no lifted embedding has
        torch.testing.assert_close(dense, lifted, atol=1e-5, rtol=0)
    if name.startswith(("A", "V", "W")) and name != "A-helmert":
        integer = rows * s.native_norm(index).unsqueeze(1) * (2 if name in ("A-mid",) else 1)
        if name != "A-interp":
            torch.testing.assert_close(integer, integer.round(), atol=1e-5, rtol=0)
    if s.has_lexicographic:
        there = s.from_lexicographic(index)
        assert sorted(there.tolist()) == index.tolist()
        assert torch.equal(s.to_lexicographic(there), index)


def test_documented_orders() -> None:
    v21 = system("V21", 4)
    first = (v21.vectors(torch.arange(3)) * math.sqrt(3)).round().long().tolist()
    assert first == [[1, 1, -1, 0], [1, 1, 0, -1], [1, -1, 1, 0]]
    for name in ("A", "A-mid", "V21pm"):
        s, rows = made(name, 4, None)
        torch.testing.assert_close(rows[0::2], -rows[1::2])
        half = s.vectors(s.from_lexicographic(torch.arange(s.count)))
        if name != "A":
            torch.testing.assert_close(half[: s.count // 2], -half[s.count // 2 :])
    a, ap = made("A", 5, None), made("Ap", 5, None)
    torch.testing.assert_close(a[1][0::2], ap[1])
    roots = system("A-interp", 5).vectors(torch.arange(30))
    torch.testing.assert_close(roots, a[1])
    # e_1 - e_2, e_1 - e_3, ..., e_1 (its partner dropped), then e_2 - e_1, ...
    order = (a[1][a[0].from_lexicographic(torch.arange(6))] * 2).sign().long().tolist()
    assert order[0] == [1, -1, 0, 0, 0]
    assert order[4] == [1, 0, 0, 0, 0]
    assert order[5] == [-1, 1, 0, 0, 0]
    turn = system("planar", 2, classes=16)
    rows = turn.vectors(torch.arange(16)).double()
    degrees = (torch.rad2deg(torch.atan2(rows[:, 1], rows[:, 0])) % 360).round(decimals=3).tolist()
    assert degrees[:8] == [0, 90, 180, 270, 45, 135, 225, 315]
    assert degrees[8:] == [x + 22.5 for x in degrees[:8]]


def test_simplex_has_equal_cosines() -> None:
    rows = system("simplex", 384, classes=300).vectors(torch.arange(300)).double()
    off = (rows @ rows.T)[~torch.eye(300, dtype=torch.bool)]
    assert float((off + 1 / 299).abs().max()) < 1e-6


LARGE = [("V22", 384), ("V21", 384), ("V33", 384), ("V44", 200), ("V21pm", 5000), ("A", 100_000), ("Ap", 100_000)]
LARGE += [("A-mid", 20_000), ("A-interp", 20_000), ("A-helmert", 3000), ("W2", 384), ("W4", 60), ("V11", 100_000)]


@pytest.mark.parametrize(("name", "n"), LARGE)
def test_large_counts_round_trip(name: str, n: int) -> None:
    """rank(unrank(r)) = r through vectors -> nearest, at the ends and at random, far beyond what float64 holds."""
    s = system(name, n)
    generator = np.random.default_rng(0)
    picks = [0, 1, s.count // 3, s.count - 2, s.count - 1, *generator.integers(0, s.count, 20).tolist()]
    index = torch.tensor(picks)
    rows = s.vectors(index)
    assert torch.equal(s.nearest(rows), index)
    torch.testing.assert_close(s.cosine(rows, index), torch.ones(len(picks)), atol=2e-6, rtol=0)


@given(st.integers(1, 60), st.integers(1, 7), st.data())
@settings(max_examples=200)
def test_subset_ranks_against_integers(total: int, p: int, data: st.DataObject) -> None:
    p = min(p, total)
    subsets = Subsets(total, p)
    rank = data.draw(st.integers(0, subsets.count - 1))
    got = [int(x) for x in subsets.unrank(torch.tensor([rank]))]
    # Lexicographic unranking in Python integers.
    expected, left, low = [], rank, 0
    for missing in range(p, 0, -1):
        while math.comb(total - low - 1, missing - 1) <= left:
            left -= math.comb(total - low - 1, missing - 1)
            low += 1
        expected.append(low)
        low += 1
    assert got == expected
    assert int(subsets.rank([torch.tensor([x]) for x in got])) == rank


def test_ranks_near_the_end_of_int64() -> None:
    n, p = 67, 33
    subsets = Subsets(66, 33)
    assert subsets.count < 2**63 < math.comb(n, p)
    ranks = torch.tensor([0, subsets.count // 2, subsets.count - 1])
    assert torch.equal(subsets.rank(subsets.unrank(ranks)), ranks)
    v = system("V99", 64)
    assert v.count > 2**63 - 1
    for call in (
        lambda: v.vectors(torch.tensor([0])),
        lambda: v.nearest(torch.zeros(1, 64)),
        lambda: v.coordinates(torch.tensor([0])),
    ):
        with pytest.raises(ValueError, match="2\\^63"):
            call()
    assert facts("V99", 64).count == math.comb(64, 9) * math.comb(55, 9)
    assert n_min("V99", v.count) == 64


def test_index_out_of_range() -> None:
    for name, n, classes in (
        ("V21", 5, None),
        ("A", 4, None),
        ("simplex", 4, 5),
        ("planar", 2, 4),
        ("A-helmert", 4, None),
    ):
        s = system(name, n, classes=classes)
        for bad in (-1, s.count):
            with pytest.raises(IndexError, match="outside"):
                s.vectors(torch.tensor([0, bad]))
        assert s.vectors(torch.empty(0, dtype=torch.long)).shape == (0, n)
        assert s.nearest(torch.empty(0, n)).shape == (0,)


@given(st.integers(2, 12), st.integers(0, 3), st.integers(0, 3), st.integers(1, 40), st.integers(0, 10**6))
@settings(max_examples=150)
def test_candidates_hold_the_k_best(n: int, p: int, q: int, k: int, seed: int) -> None:
    """For any values, the k best arrangements by score have the scores of the k best candidates."""
    if p + q > n or p + q == 0:
        return
    generator = np.random.default_rng(seed)
    z = np.sort(generator.integers(-4, 5, n).astype(float))[::-1]
    every = []
    for plus in combinations(range(n), p):
        rest = [x for x in range(n) if x not in plus]
        every += [z[list(plus)].sum() - z[list(minus)].sum() for minus in combinations(rest, q)]
    listed = candidates(n, p, q, k)
    assert len(set(listed)) == len(listed)
    scores = [z[list(a)].sum() - z[[n - 1 - b for b in below]].sum() for a, below in listed]
    best = sorted(every, reverse=True)[:k]
    assert sorted(scores, reverse=True)[: len(best)] == best


def test_candidates_are_few() -> None:
    assert len(candidates(384, 2, 1, 64)) < 1000
    assert len(candidates(384, 2, 2, 64)) < 3000
    assert candidates(384, 2, 2, 64) == candidates(384, 2, 2, 64)


@given(st.integers(1, 9), st.integers(0, 4), st.integers(0, 4))
@settings(max_examples=100)
def test_extremes_never_meet(n: int, largest: int, smallest: int) -> None:
    z = torch.randint(0, 2, (50, n), generator=torch.Generator().manual_seed(n)).float()
    top, bottom = extremes(z, largest, smallest)
    assert (top.shape, bottom.shape) == ((50, min(n, largest)), (50, min(n, smallest)))
    for p in range(min(n, largest) + 1):
        for q in range(min(n - p, smallest) + 1):
            for row in range(50):
                assert not set(top[row, :p].tolist()) & set(bottom[row, :q].tolist())


def test_gradient_is_that_of_the_dense_cosine() -> None:
    for name, n, classes in (
        ("V22", 9, None),
        ("A", 6, None),
        ("A-interp", 6, None),
        ("A-helmert", 6, None),
        ("simplex", 6, 5),
    ):
        s = system(name, n, classes=classes)
        index = torch.randint(0, s.count, (32,), generator=torch.Generator().manual_seed(0))
        z = embeddings(n, 32)[11:].clone().requires_grad_()
        s.cosine(z, index[11:]).sum().backward()
        dense = z.detach().clone().requires_grad_()
        torch.nn.functional.cosine_similarity(dense, s.vectors(index[11:])).sum().backward()
        torch.testing.assert_close(z.grad, dense.grad, atol=1e-5, rtol=1e-4)
        zero = torch.zeros(1, n, requires_grad=True)
        s.cosine(zero, index[:1]).sum().backward()
        assert torch.isfinite(zero.grad).all()


def test_float32_under_autocast_and_in_half_precision() -> None:
    s = system("V21", 20)
    z = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    index = s.nearest(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert s.cosine(z, index).dtype == torch.float32
        torch.testing.assert_close(s.cosine(z, index), s.cosine(z.double().float(), index))
        assert s.vectors(index).dtype == torch.float32
        assert s.cosine(z.bfloat16(), index).dtype == torch.float32
    assert s.nearest(z.bfloat16()).shape == (8,)


@pytest.mark.parametrize(("name", "n", "classes"), [*[(name, 9, None) for name in COMPILED], ("simplex", 9, 8)])
def test_loss_path_compiles_whole(name: str, n: int, classes: int | None) -> None:
    """One graph without breaks, equal to the eager result."""
    s = system(name, n, classes=classes)
    z, index = embeddings(n, 32), torch.arange(32) % s.count
    torch.compiler.reset()
    import_deferred()
    got = torch.compile(s.cosine, backend="aot_eager", fullgraph=True)(z, index)
    torch.testing.assert_close(got, s.cosine(z, index))
    if s.structured:
        assert torch.equal(torch.compile(s.nearest, backend="aot_eager", fullgraph=True)(z), s.nearest(z))


@pytest.mark.parametrize("name", ["V21", "V22", "A", "Ap", "A-interp", "A-helmert", "W2", "V21pm"])
def test_diverged_embeddings_still_decode(name: str) -> None:
    s = system(name, 9)
    z = torch.full((4, 9), math.nan)
    z[1], z[2, 3], z[3, 4] = math.inf, -math.inf, math.nan
    index = s.nearest(z)
    assert bool(((index >= 0) & (index < s.count)).all())


# -- tables ----------------------------------------------------------------------------------------------------------


def test_table_files(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    np.save(tmp_path / "a.npy", rows)
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", fmt="%.9g")
    from safetensors.numpy import save_file

    save_file({"class_means": rows, "other": rows}, tmp_path / "a.safetensors")
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for name in ("a.npy", "a.csv", "a.safetensors"):
        s = system(f"file:{tmp_path / name}", 6, classes=40)
        assert (s.count, s.structured) == (50, False)
        np.testing.assert_allclose(s.vectors(torch.arange(50)), expected, atol=1e-6)
        z = embeddings(6)
        dense = cosines(z, s.vectors(torch.arange(50)))
        np.testing.assert_allclose(dense[np.arange(len(z)), s.nearest(z)], dense.max(1), atol=1e-6)
        found = s.nearest_k(z, 7)
        assert found is not None
        np.testing.assert_allclose(np.take_along_axis(dense, found.numpy(), 1), -np.sort(-dense)[:, :7], atol=1e-6)
        np.testing.assert_allclose(s.native_norm(torch.arange(50)), np.linalg.norm(rows, axis=1), rtol=1e-6)
        off = expected @ expected.T - 3 * np.eye(50)
        assert s.max_cosine == pytest.approx(off.max(), abs=1e-6)
    assert len({system(f"file:{tmp_path / name}", 6).sha256 for name in ("a.npy", "a.csv")}) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda rows: rows.__setitem__(17, rows[3]),
            "rows 3 and 17 of .*a.npy are equal: 2 classes would share a centre",
        ),
        (lambda rows: rows.__setitem__(17, 4 * rows[3]), "rows 3 and 17"),
        (lambda rows: rows.__setitem__(5, 0), "row 5 is zero"),
        (lambda rows: rows.__setitem__((6, 2), math.nan), "row 6 .*not finite"),
    ],
)
def test_bad_tables(tmp_path: Path, change: object, sentence: str) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 6))
    change(rows)  # type: ignore[operator]
    np.save(tmp_path / "a.npy", rows)
    with pytest.raises(UsageError, match=sentence):
        system(f"file:{tmp_path / 'a.npy'}", 6)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\nx,4\n")
    (tmp_path / "a.txt").write_text("1")
    np.save(tmp_path / "flat.npy", np.arange(4))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("a.csv", "a.txt", "flat.npy", "objects.npy", "none.npy"):
        with pytest.raises(UsageError, match=name):
            load_table(tmp_path / name)
    with pytest.raises(UsageError, match="n is 5"):
        system("embeddings:@ce", 5, table=torch.eye(4))
    with pytest.raises(UsageError, match="class means"):
        system("embeddings:@ce", 5)


def test_plugins() -> None:
    from lsc_engine import plugins
    from lsc_engine.registry import SYSTEMS

    def factory(n: int, classes: int | None) -> VectorSystem:
        return system("V11", n)

    plugins.register("systems", "mine", factory)
    try:
        assert system("mine", 5).count == 20
        assert facts("mine", 5).count == 20
        assert n_min("mine", 21) == 6
    finally:
        SYSTEMS.factories.pop("mine")
    with pytest.raises(UsageError, match="not a vector system"):
        system("mine", 5)
