"""Codes against their definitions: syndromes, full enumeration, mutually unbiased bases, brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lsc_engine.common.errors import UsageError
from lsc_engine.vectors import n_min, system
from lsc_engine.vectors.families import codes
from lsc_engine.vectors.families.codes import _PRIMITIVE, bch_codes
from lsc_engine.vectors.registry import at_n_min, facts

SMALL = [("hadamard", 2, None), ("hadamard", 16, None), ("hadamard", 256, None), ("kerdock", 4, None),
         ("kerdock", 16, None), ("kerdock", 64, None), ("bch", 16, None), ("bch", 16, 2**15), ("bch", 32, None),
         ("bch", 64, 900)]  # fmt: skip
# (n, k, d) of extended primitive BCH codes: MacWilliams and Sloane, Fig. 9.1, Lin and Costello, Table 6.1.
KNOWN = [
    (16, 5, 8), (16, 7, 6), (16, 11, 4), (32, 6, 16), (32, 11, 12), (32, 16, 8), (32, 21, 6), (32, 26, 4), (64, 7, 32),
    (64, 10, 28), (64, 16, 24), (64, 18, 22), (64, 24, 16), (64, 30, 14), (128, 8, 64), (128, 15, 56), (128, 22, 48),
    (128, 29, 44), (256, 9, 128), (256, 13, 120), (256, 21, 112), (512, 10, 256), (512, 19, 240), (1024, 11, 512),
    (1024, 16, 496),
]  # fmt: skip


def rows_of(name: str, n: int, classes: int | None) -> torch.Tensor:
    made = system(name, n, classes=classes)
    return made.vectors(torch.arange(made.count))


def signs(rows: torch.Tensor) -> np.ndarray:
    return (rows * math.sqrt(rows.shape[1])).round().numpy().astype(int)


def times(a: int, b: int, m: int) -> int:
    """The product in GF(2^m), by shifts."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a <<= 1
        a ^= _PRIMITIVE[m] if a >> m else 0
        b >>= 1
    return product


@pytest.mark.parametrize(("name", "n", "classes"), SMALL)
def test_vectors_cosines_and_nearest_against_all(name: str, n: int, classes: int | None) -> None:
    made, rows = system(name, n, classes=classes), rows_of(name, n, classes)
    index = torch.arange(made.count)
    assert rows.dtype == torch.float32
    assert len(rows.unique(dim=0)) == made.count
    assert torch.equal(made.nearest(rows), index)
    some = index[:: max(1, made.count // 512)]
    cosines = rows[some].double() @ rows.T.double()
    seen: dict[float, float] = {}
    for value, often in zip(*np.unique(cosines.numpy().round(6), return_counts=True), strict=True):
        seen[value + 0.0] = often / len(some)
    assert seen.pop(1.0) == 1
    assert {round(c, 6) + 0.0: often for c, often in made.cosine_histogram()} == seen
    assert made.max_cosine == pytest.approx(max(seen))
    near = (cosines > made.max_cosine - 1e-6).sum(1) - 1
    if made.neighbours is not None:
        assert made.neighbours == (near.min(), near.max())
    weights = [dict(made.entries(i)) for i in (0, 1, made.count // 3, made.count - 1)]
    for i, found in zip((0, 1, made.count // 3, made.count - 1), weights, strict=True):
        length = math.sqrt(sum(weight**2 for weight in found.values()))
        torch.testing.assert_close(rows[i], torch.tensor([found.get(x, 0) / length for x in range(n)]))

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(240, n, generator=generator)
    z[:80] = torch.randint(-2, 3, (80, n), generator=generator).float()
    z[0] = 0
    dense = z.double() @ rows.T.double()
    found = made.nearest(z)
    np.testing.assert_allclose(dense.gather(1, found.unsqueeze(1))[:, 0], dense.max(1).values, atol=1e-5 * n**0.5)
    torch.testing.assert_close(made.cosine(z, found), (dense.max(1).values / z.norm(dim=1).clamp(min=1e-9)).float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made.vectors(index), rows)
        assert torch.equal(made.nearest(z), found)
    assert made.nearest(z[:0]).shape == (0,)
    bad = torch.full((3, n), math.nan)
    bad[1], bad[2, 0] = math.inf, -math.inf
    assert bool(((made.nearest(bad) >= 0) & (made.nearest(bad) < made.count)).all())


def test_the_first_words_are_linear_forms_and_their_complements() -> None:
    for name, n in (("hadamard", 8), ("kerdock", 16), ("bch", 32)):
        bits = (1 - signs(system(name, n).vectors(torch.arange(2 * n)))) // 2
        for low in range(2 * n):
            assert bits[low].tolist() == [((low % n) & x).bit_count() % 2 ^ low // n for x in range(n)]
    axes = system("kerdock", 16).vectors(torch.arange(256, 288))
    assert torch.equal(axes, torch.cat([torch.eye(16), -torch.eye(16)]))


@pytest.mark.parametrize("n", [4, 16, 64, 256])
def test_kerdock_is_a_set_of_mutually_unbiased_bases(n: int) -> None:
    made = system("kerdock", n)
    for c in sorted({0, 1, n // 2 - 1}):
        basis = made.vectors(torch.arange(2 * n * c, 2 * n * c + n)).double()
        torch.testing.assert_close(basis @ basis.T, torch.eye(n).double(), atol=1e-6, rtol=0)
        others = made.vectors(torch.arange(0, made.count, 1 if n < 256 else 37)).double()
        sizes = (basis @ others.T).abs().round(decimals=5)
        assert set(sizes.unique().tolist()) <= {0.0, round(1 / math.sqrt(n), 5), 1.0}


@pytest.mark.parametrize("m", [4, 5, 6, 7, 8, 9, 10])
def test_bch_words_have_the_syndromes_of_the_definition(m: int) -> None:
    """Dimension by rank; the words vanish at the first d - 2 powers of the primitive element, and have even weight."""
    n = 2**m
    powers = {1: list(range(n))}
    for j in range(2, n):
        powers[j] = [times(a, x, m) for x, a in enumerate(powers[j - 1])] if j <= 64 else []
    for k, d in bch_codes(m):
        if k > 36:
            break
        made = system("bch", n, classes=2**k)
        assert isinstance(made, codes.Bch)
        words = made.generator
        assert (made.k, made.distance, len(words)) == (k, d, k)
        rank, left = 0, [int("".join(map(str, row)), 2) for row in words.tolist()]
        while any(left):
            pivot = max(left)
            left = [min(row, row ^ pivot) for row in left if row != pivot]
            rank += 1
        assert rank == k
        assert not (words.sum(1) % 2).any()
        for j in range(1, min(d - 1, 65)):
            values = np.array(powers[j])
            assert not np.bitwise_xor.reduce(words * values, axis=1).any(), (k, d, j)


@pytest.mark.parametrize(("n", "k", "d"), [code for code in KNOWN if code[1] <= 18 and code[0] <= 512])
def test_every_word_is_enumerated(n: int, k: int, d: int) -> None:
    """All of up to 2^18 words as vectors: minimum distance of the literature, histogram of cosines."""
    made = system("bch", n, classes=2**k)
    assert (made.count, made.max_cosine, made.max_cosine_note) == (2**k, 1 - 2 * d / n, "")
    seen = np.zeros(n + 1, dtype=int)
    for part in torch.arange(made.count).split(2**14):
        seen += np.bincount((made.vectors(part) < 0).sum(1), minlength=n + 1)
    assert seen[0] == 1
    assert (seen[1:] > 0).argmax() + 1 == d
    assert {round((1 - c) * n / 2): often for c, often in made.cosine_histogram()} == {
        w: often for w, often in enumerate(seen.tolist()) if w and often
    }
    assert made.min_angle_deg == pytest.approx(math.degrees(math.acos(1 - 2 * d / n)))


def test_weights_of_the_literature() -> None:
    """[128,22,48] and [64,24,16] (Terada, Asumi and Asatani; Kasami)."""
    large = system("bch", 128)
    assert (large.count, large.max_cosine) == (2**22, 0.25)
    assert {round(64 - 64 * c): often for c, often in large.cosine_histogram()} == {
        48: 42672, 56: 877824, 64: 2353310, 72: 877824, 80: 42672, 128: 1,
    }  # fmt: skip
    assert [often for _, often in system("bch", 64, classes=2**24).cosine_histogram()[:3]] == [2604, 10752, 216576]
    many = system("bch", 64)
    assert (many.count, many.max_cosine) == (65536, 0.25)
    assert {round(32 - 32 * c): often for c, often in many.cosine_histogram()} == {
        24: 5040, 28: 12544, 32: 30366, 36: 12544, 40: 5040, 64: 1,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("m", range(4, 11))
def test_designed_distances_up_to_the_enumerated_size(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "_COUNTED", 2**60)
    for k, d in bch_codes(m):
        if k <= codes.MOST_ENUMERATED:
            assert system("bch", 2**m, classes=2**k).cosine_histogram()[0][0] == 1 - 2 * d / 2**m


def test_sampled_weights_are_near_the_counted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dict(system("bch", 64).cosine_histogram())
    monkeypatch.setattr(codes, "_COUNTED", 2**13)
    made = system("bch", 64)
    assert made.sampled
    found = dict(made.cosine_histogram())
    assert sum(found.values()) == pytest.approx(65535, rel=1e-3)
    assert found[0.25] == pytest.approx(whole[0.25], rel=0.2)


def test_the_nearest_of_all_65536() -> None:
    made, rows = system("bch", 64), rows_of("bch", 64, None)
    z = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
    dense = z @ rows.T
    torch.testing.assert_close(dense.gather(1, made.nearest(z).unsqueeze(1))[:, 0], dense.max(1).values)
    many = z.repeat(20, 1)
    assert torch.equal(made.nearest(many), made.nearest(z).repeat(20))
    picks = torch.randint(65536, (1000,), generator=torch.Generator().manual_seed(1))
    near = rows[picks] + 0.02 * torch.randn(1000, 64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(made.nearest(near), picks)


@pytest.mark.parametrize(("name", "n"), [("bch", 64), ("kerdock", 16)])
def test_loss_path_compiles_whole(name: str, n: int) -> None:
    """After a first call, which makes the constants, as a run does."""
    made, index = system(name, n), torch.arange(0, 40)
    z = torch.randn(40, n, generator=torch.Generator().manual_seed(0))
    expected = made.cosine(z, index)
    torch.compiler.reset()
    compiled = torch.compile(made.cosine, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(z, index), expected)


def test_smallest_sizes() -> None:
    assert [n_min("bch", c) for c in (2, 2048, 2049, 65536, 65537, 2**24 + 1)] == [16, 16, 32, 32, 64, 128]
    assert [n_min("bch", c, max_cosine=0.25) for c in (128, 129, 2048, 2049, 65536, 65537)] == [16, 32, 32, 64, 64, 128]
    assert [n_min("hadamard", c) for c in (1, 4, 5, 1000)] == [2, 2, 4, 512]
    assert [n_min("kerdock", c) for c in (24, 25, 289, 4096 * 4098)] == [4, 16, 64, 4096]
    assert facts("bch", 32, 300).count == 2**11
    for name, classes, cosine in (("kerdock", 4096 * 4098 + 1, None), ("bch", 10**6, 0.01), ("kerdock", 10, 0.01)):
        with pytest.raises(UsageError, match="no n up to"):
            n_min(name, classes, max_cosine=cosine)


def test_a_lower_cosine_takes_a_larger_n() -> None:
    found = [at_n_min("bch", 300_000, cosine) for cosine in (0.75, 0.5, 0.25, 0.1)]
    assert [(made.n, made.max_cosine) for made in found] == [(64, 0.5), (64, 0.5), (128, 0.25), (512, 0.0625)]
    # Where no n keeps it, the smallest that holds the classes.
    assert (at_n_min("kerdock", 300_000, 0.01).n, at_n_min("V21", 300_000, 0.1).n) == (1024, 86)


def test_impossible_codes_are_refused() -> None:
    for name, n, near in (("bch", 100, "64 or 128"), ("bch", 2000, "1024"), ("kerdock", 32, "16 or 64"),
                          ("hadamard", 48, "32 or 64"), ("kerdock", 8192, "4096")):  # fmt: skip
        with pytest.raises(UsageError, match=f"n = {n} is not .*take {near}"):
            system(name, n)
    with pytest.raises(UsageError, match="no code of length 16 has 100000 words, the largest has 2\\^15"):
        system("bch", 16, classes=100_000)
    large = system("bch", 128, classes=2**29)
    assert (large.decode, large.max_cosine_note) == ("scan", "of the designed distance, at most")
    with pytest.raises(UsageError, match="takes 2097152 Hadamard transforms, at most 1048576"):
        large.nearest(torch.zeros(1, 128))
    rows = large.vectors(torch.tensor([0, 2**29 - 1]))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
