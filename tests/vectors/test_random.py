"""Random systems: rows from counters against Python integers, their laws against scipy, labels against brute force."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.optimize import linear_sum_assignment

from lsc_engine.common.errors import UsageError
from lsc_engine.heads.lsc import LscHead
from lsc_engine.vectors import n_min, system
from lsc_engine.vectors.choice import assign_nearest
from lsc_engine.vectors.families import random
from lsc_engine.vectors.order import Order
from lsc_engine.vectors.registry import facts
from tests.training.stages import After, train_one, weights

U64 = 2**64 - 1
CASES = [("gaussian", 2, 40), ("gaussian", 9, 300), ("gaussian", 64, 1000), ("rademacher", 5, 32),
         ("rademacher", 12, 300), ("rademacher", 63, 100), ("rademacher", 64, 500),
         ("rademacher", 99, 300)]  # fmt: skip


def mix(x: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & U64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & U64
    return x ^ x >> 31


def gaussian_row(n: int, seed: int, index: int) -> np.ndarray:
    content = hashlib.shake_256(f"lsc gaussian 1|{n}|{seed}".encode()).digest(8 * (n + 1))
    first, *keys = (int.from_bytes(content[i : i + 8], "little") for i in range(0, len(content), 8))
    numbers: list[float] = []
    for key in keys[: (n + 1) // 2]:
        bits = mix(mix((index + first) & U64) ^ key)
        size = math.sqrt(-2 * math.log(((bits >> 24) + 1) / 2**40))
        angle = 2 * math.pi * (bits % 2**24) / 2**24
        numbers += [size * math.cos(angle), size * math.sin(angle)]
    row = np.array(numbers[:n])
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("n", [2, 7, 64])
def test_gaussian_rows_are_a_pure_function_of_n_seed_and_index(n: int) -> None:
    made = system("gaussian", n, seed=5)
    picks = [0, 1, 2, 10**6, 2**62 + 12345, 2**63 - 2]
    rows = made.vectors(torch.tensor(picks))
    expected = np.stack([gaussian_row(n, 5, i) for i in picks])
    np.testing.assert_allclose(rows, expected, atol=1e-7)
    np.testing.assert_allclose(made.rows(np.array(picks), np), expected, atol=1e-12)
    assert torch.equal(system("gaussian", n, classes=9, seed=5).vectors(torch.tensor(picks[::-1])), rows.flip(0))
    assert not torch.equal(system("gaussian", n, seed=6).vectors(torch.tensor(picks)), rows)
    assert made.count == 2**63 - 1


def test_gaussian_directions_are_even_on_the_sphere() -> None:
    """(1 + cos) / 2 of two of them is Beta((n - 1) / 2, (n - 1) / 2), of one with an axis too; means are 0."""
    n, many = 10, 4000
    rows = system("gaussian", n, seed=1).vectors(torch.arange(2 * many)).double()
    law = stats.beta((n - 1) / 2, (n - 1) / 2)
    assert stats.kstest(((rows[:many] * rows[many:]).sum(1) + 1) / 2, law.cdf).pvalue > 1e-3
    for j in (0, 3, 9):
        assert stats.kstest((rows[:, j] + 1) / 2, law.cdf).pvalue > 1e-3
    assert float(rows.mean(0).abs().max()) < 5 / math.sqrt(n * 2 * many)
    near = (rows[1:] * rows[:-1]).sum(1)
    assert abs(float(near.mean())) < 5 / math.sqrt(n * 2 * many)


def test_rademacher_rows_are_distinct_signs() -> None:
    for n, seed in ((1, 0), (3, 1), (10, 2)):
        rows = system("rademacher", n, seed=seed).vectors(torch.arange(2**n)) * math.sqrt(n)
        assert {tuple(row) for row in rows.round().int().tolist()} == set(product((1, -1), repeat=n))
    for n in (63, 64, 200):
        made = system("rademacher", n, seed=3)
        assert made.count == 2**63
        picks = torch.cat([torch.arange(2000), torch.tensor([2**62, 2**63 - 1])])
        signs = (made.vectors(picks) * math.sqrt(n)).round()
        assert set(signs.unique().tolist()) == {-1.0, 1.0}
        assert len(signs.unique(dim=0)) == len(picks)
        assert float(signs.mean(0).abs().max()) < 5 / math.sqrt(len(picks))
        assert abs(float(signs.mean())) < 5 / math.sqrt(len(picks) * n)
        assert [made.entries(i) for i in (0, 7)] == [list(enumerate(signs[i].int().tolist())) for i in (0, 7)]


@pytest.mark.parametrize(("name", "n", "classes"), CASES)
def test_nearest_and_largest_cosine_against_all(name: str, n: int, classes: int) -> None:
    made = system(name, n, classes=classes, seed=2)
    index = torch.arange(classes)
    rows = made.vectors(index)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(classes))
    cosines = (rows.double() @ rows.double().T).fill_diagonal_(-1)
    assert made.max_cosine == pytest.approx(float(cosines.max()), abs=1e-6)
    assert made.max_cosine_note == ""
    assert torch.equal(made.nearest(rows), index)
    z = torch.randn(100, n, generator=torch.Generator().manual_seed(0))
    found = made.nearest(z)
    if made.structured:
        assert torch.equal((made.vectors(found) > 0), z >= 0)
        assert made.nearest_k(z, 3) is None
    else:
        dense = z @ rows.T
        torch.testing.assert_close(dense.gather(1, found.unsqueeze(1))[:, 0], dense.max(1).values)
        several = made.nearest_k(z, 5)
        assert several is not None
        torch.testing.assert_close(dense.gather(1, several), dense.topk(5).values)
    torch.testing.assert_close(made.cosine(z, found), torch.cosine_similarity(z, made.vectors(found)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made.vectors(index), rows)
        assert torch.equal(made.nearest(z), found)
    order = Order.make("shuffled", made, 4)
    assert order.count == (made.count if made.structured else classes)
    head = LscHead(made, order, classes)
    labels = order.index(index)
    assert len(labels.unique()) == classes
    for unused in range(2):  # computed, then kept
        dense = z @ made.vectors(labels).T
        got = dense.gather(1, head.predict(z).unsqueeze(1))[:, 0]
        torch.testing.assert_close(got, dense.max(1).values, msg=f"call {unused}")
    assert head.record()["vectors_seed"] == 2


@pytest.mark.parametrize(("name", "n"), [("gaussian", 9), ("rademacher", 70)])
def test_loss_path_compiles_whole(name: str, n: int) -> None:
    made, index = system(name, n, classes=50), torch.arange(50)
    z = torch.randn(50, n, generator=torch.Generator().manual_seed(0))
    torch.compiler.reset()
    compiled = torch.compile(made.cosine, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(z, index), made.cosine(z, index))


@pytest.mark.parametrize("name", ["gaussian", "rademacher", "kerdock", "bch"])
def test_vectors_chosen_by_embeddings_are_the_best_matching(name: str) -> None:
    n, classes = 64 if name != "rademacher" else 9, 200
    made = system(name, n, classes=classes)
    means = torch.randn(classes, n, generator=torch.Generator().manual_seed(0))
    found = assign_nearest(made, means)
    assert len(found.unique()) == classes
    every = torch.arange(made.choosable)
    dense = torch.nn.functional.normalize(means) @ made.vectors(every).T
    rows, columns = linear_sum_assignment(-dense.numpy())
    best = dense[rows, columns].mean()
    assert made.cosine(means, found).mean() >= 0.999 * best
    assert made.choosable == {"gaussian": classes}.get(name, made.count)


def test_scans_need_the_number_of_classes() -> None:
    for name in ("gaussian", "rademacher"):
        made = system(name, 64)
        assert math.isnan(made.max_cosine)
        with pytest.raises(ValueError, match="give classes"):
            made.nearest(torch.zeros(1, 64))
    assert system("rademacher", 20).max_cosine == pytest.approx(0.9)


def test_the_estimate_of_many_classes_is_marked_and_near(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = {n: [system("gaussian", n, classes=8000, seed=s).max_cosine for s in range(4)] for n in (4, 16, 64)}
    signs = system("rademacher", 14, classes=8000).max_cosine
    monkeypatch.setattr(random, "MOST_COMPARED", 1000)
    monkeypatch.setattr(random, "SAMPLE", 1000)
    for n, values in exact.items():
        estimates = []
        for seed in range(4):
            made = system("gaussian", n, classes=8000, seed=seed)
            assert made.max_cosine_note == "estimate by a sample of 1000"
            estimates.append(made.max_cosine)
        angle, expected = np.degrees(np.arccos(np.mean(estimates))), np.degrees(np.arccos(np.mean(values)))
        assert angle == pytest.approx(expected, rel=0.5 if n == 4 else 0.1)
    assert system("rademacher", 14, classes=8000).max_cosine <= signs + 1e-6 <= 1 - 2 / 14 + 2e-6
    assert system("rademacher", 14, classes=2**14).max_cosine_note == ""


def test_smallest_sizes_and_what_is_refused() -> None:
    assert [n_min("rademacher", c) for c in (1, 2, 3, 1024, 1025, 2**63)] == [1, 1, 2, 10, 11, 63]
    assert n_min("gaussian", 10**9) == 2
    for name in ("gaussian", "rademacher"):
        with pytest.raises(UsageError, match="too many, 2\\^63"):
            n_min(name, 2**63 + 1)
        with pytest.raises(UsageError, match="falls with n"):
            n_min(name, 1000, max_cosine=0.5)
    with pytest.raises(UsageError, match="n = 5 is too small, n >= 10"):
        system("rademacher", 5, classes=1000)


# -- crowding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n", "classes"),
    [("V21", 6, None), ("A", 5, None), ("W2", 5, None), ("planar", 2, 16), ("simplex", 6, 5), ("kerdock", 16, None),
     ("bch", 16, None), ("rademacher", 8, None)],
)  # fmt: skip
@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_crowding_is_the_mean_over_all_pairs(name: str, n: int, classes: int | None, scale: float) -> None:
    made = system(name, n, classes=classes)
    rows = made.vectors(torch.arange(made.count)).double()
    pairs = (rows @ rows.T)[~torch.eye(made.count, dtype=torch.bool)]
    assert made.crowding(scale) == (pytest.approx(float((scale * pairs).exp().mean()), rel=1e-5), False)


def test_crowding_of_random_directions_is_the_bessel_function() -> None:
    for n, scale in ((2, 16.0), (17, 16.0), (64, 16.0), (384, 64.0)):
        order = n / 2 - 1
        log = special.gammaln(n / 2) + order * math.log(2 / scale) + math.log(special.ive(order, scale)) + scale
        assert system("gaussian", n).crowding(scale) == (pytest.approx(math.exp(log)), False)
    rows = system("gaussian", 64, seed=1).vectors(torch.arange(2000)).double()
    pairs = (rows @ rows.T)[~torch.eye(2000, dtype=torch.bool)]
    assert system("gaussian", 64).crowding(16)[0] == pytest.approx(float((16 * pairs).exp().mean()), rel=0.05)
    # Beyond 63 coordinates those of all sign vectors.
    assert facts("rademacher", 100).crowding(16)[0] == pytest.approx(math.cosh(16 / 100) ** 100, rel=1e-6)


def test_crowding_of_a_table_is_that_of_its_rows(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 6))
    np.save(tmp_path / "a.npy", rows)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.exp(4 * (unit @ unit.T))[~np.eye(60, dtype=bool)].mean()
    assert system(f"file:{tmp_path / 'a.npy'}", 6).crowding(4.0) == (pytest.approx(expected), False)
    np.save(tmp_path / "b.npy", np.random.default_rng(1).normal(size=(3000, 6)))
    value, sampled = system(f"file:{tmp_path / 'b.npy'}", 6).crowding(4.0)
    assert sampled
    assert value == pytest.approx(system("gaussian", 6).crowding(4.0)[0], rel=0.1)


def test_sum_over_all_sign_vectors() -> None:
    made = system("rademacher", 8, seed=1)
    x = 5 * torch.randn(20, 8, generator=torch.Generator().manual_seed(0)).double()
    every = made.vectors(torch.arange(256)).double()
    torch.testing.assert_close(made.log_partition(x), torch.logsumexp(x @ every.T, 1), atol=1e-6, rtol=0)
    assert made.partition_fault is None
    assert "no formula" in str(system("gaussian", 8, classes=9).partition_fault)
    with pytest.raises(UsageError, match="no formula"):
        system("rademacher", 64, classes=9).log_partition(x)


# -- runs ------------------------------------------------------------------------------------------------------------

PRESET = """
[data]
dataset = "digits"
labels = "unique"
classes = 96
[model]
name = "mlp"
dim = 16
[target]
method = "lsc"
system = "{}"
[optimizer]
lr = 3e-3
[train]
duration = "6 epochs"
batch_size = 16
"""


@pytest.mark.parametrize("name", ["gaussian", "rademacher", "bch"])
def test_a_stopped_run_goes_on_bit_by_bit_and_seeds_choose_the_vectors(tmp_path: Path, name: str) -> None:
    preset = PRESET.format(name)
    straight = train_one(tmp_path, preset, name="straight")
    train_one(tmp_path, preset, name="stopped", signals=After(14))
    resumed = train_one(tmp_path, preset, name="stopped", again=True)
    assert resumed.status().state == "finished"
    a, b = weights(straight), weights(resumed)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert straight.last()["train/loss"] == resumed.last()["train/loss"]
    head = json.loads((straight.path / "source.json").read_text())["head"]
    assert head.get("vectors_seed") == (None if name == "bch" else 0)
    other = train_one(tmp_path, preset, "seed=1", name="other")
    assert json.loads((other.path / "source.json").read_text())["head"].get("vectors_seed") in (None, 1)
