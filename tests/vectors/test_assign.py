"""The order "nearest:RUN" against the dense assignment problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from lsc_engine.common.errors import UsageError
from lsc_engine.vectors import choice, system
from lsc_engine.vectors.choice import assign_nearest
from lsc_engine.vectors.order import Order
from lsc_engine.vectors.registry import listed, n_min


@pytest.mark.parametrize(
    ("name", "n", "classes"), [("V21", 6, 40), ("V21", 5, 30), ("A", 6, 42), ("Ap", 6, 15), ("W2", 4, 30)]
)
def test_total_cosine_is_the_largest(name: str, n: int, classes: int) -> None:
    s = system(name, n)
    means = torch.randn(classes, n, generator=torch.Generator().manual_seed(0))
    means[: classes // 2] = means[0] + 0.1 * means[: classes // 2]
    found = assign_nearest(s, means)
    assert len(set(found.tolist())) == classes
    rows = s.vectors(torch.arange(s.count))
    dense = torch.nn.functional.normalize(means) @ rows.T
    best = linear_sum_assignment(dense.numpy(), maximize=True)
    assert float(s.cosine(means, found).sum()) == pytest.approx(float(dense[best].sum()), abs=1e-4)
    order = Order.stored("nearest:ssl", s, found)
    assert np.array_equal(order.label(found).numpy(), np.arange(classes))


def test_more_classes_than_candidates() -> None:
    s = system("V21", 14)
    means = torch.randn(1, 14, generator=torch.Generator().manual_seed(0)).repeat(1000, 1)
    means += 0.01 * torch.randn(1000, 14, generator=torch.Generator().manual_seed(1))
    assert len(set(assign_nearest(s, means).tolist())) == 1000
    with pytest.raises(UsageError, match="1092 vectors, 1100"):
        assign_nearest(s, torch.ones(1100, 14))


@pytest.fixture(autouse=True)
def fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ROUNDS", 5)


def crowded(classes: int, n: int) -> torch.Tensor:
    """Class means that crowd together: most of their spread lies in a few directions."""
    draws = torch.Generator().manual_seed(0)
    z = torch.randn(classes, n, generator=draws) * torch.logspace(0.5, -0.5, n) @ torch.randn(n, n, generator=draws)
    return (z - z.mean(0)) / z.std(0)


WAYS = [
    (choice._exchanged, "V21", 17, 1797), (choice._exchanged, "A", 43, 1797), (choice._exchanged, "A-mid", 13, 1797),
    (choice._exchanged, "W2", 11, 1797), (choice._exchanged, "V21pm", 13, 1700),
    (choice._exchanged, "A-helmert", 43, 1797), (choice._exchanged, "V11", 43, 1797),
    (choice._proposed, "V21", 64, 1797), (choice._proposed, "W4", 12, 1797), (choice._proposed, "V11", 100, 1797),
]  # fmt: skip


@pytest.mark.parametrize(("way", "name", "n", "classes"), WAYS)
def test_ways_for_many_classes_come_near_the_optimum(way: Any, name: str, n: int, classes: int) -> None:
    s, means = system(name, n), torch.nn.functional.normalize(crowded(classes, n))
    found = way(s, means, lambda: None)
    assert len(found.unique()) == classes
    assert 0 <= int(found.min()) <= int(found.max()) < s.count
    mean = float(s.cosine(means, found).mean())
    if s.count > 20_000:
        # Above the optimum: every class has its nearest vector.
        assert mean >= 0.98 * float(s.cosine(means, s.nearest(means)).mean())
    else:
        dense = (means @ s.vectors(torch.arange(s.count)).T).numpy()
        best = linear_sum_assignment(dense, maximize=True)
        assert mean >= 0.98 * float(dense[best].mean())
    assert torch.equal(found, way(s, means, lambda: None))


def test_vectors_without_zeros_are_exchanged_too() -> None:
    draws = torch.Generator().manual_seed(1)
    table = torch.randn(700, 8, generator=draws)
    s = system("file:x", 8, classes=600, table=table)
    means = torch.nn.functional.normalize(crowded(600, 8))
    mean = float(s.cosine(means, choice._exchanged(s, means, lambda: None)).mean())
    dense = (means @ s.vectors(torch.arange(700)).T).numpy()
    best = linear_sum_assignment(dense, maximize=True)
    assert mean >= 0.98 * float(dense[best].mean())


def test_classes_all_alike_get_vectors_near_them_and_none_twice() -> None:
    s = system("V21", 40)
    means = torch.nn.functional.normalize(torch.randn(1, 40, generator=torch.Generator().manual_seed(0))).repeat(
        3000, 1
    )
    found = choice._proposed(s, means, lambda: None)
    assert len(found.unique()) == 3000
    random = float(s.cosine(means, torch.arange(3000)).mean())
    nearest = s.nearest_k(means[:1], 3000)
    assert nearest is not None
    best = float(s.cosine(means, nearest[0]).mean())
    assert float(s.cosine(means, found).mean()) > 0.5 * best + 0.5 * random


def test_cost_is_known_beforehand_and_grows_with_the_classes() -> None:
    costs = [choice.cost(system("V21", n), classes) for n, classes in ((17, 1797), (138, 1_281_167), (384, 1_281_167))]
    assert [choice.way(system("V21", n), c) for n, c in ((17, 1797), (138, 1_281_167), (384, 1_281_167))] == [
        "matching", "exchange", "proposals",
    ]  # fmt: skip
    assert costs[0][1] < costs[1][1]
    assert costs[1][0] < 600
    assert costs[1][1] < 4e9


@pytest.mark.parametrize("name", listed())
def test_every_system_gives_nearer_vectors_than_a_random_choice(name: str) -> None:
    n = n_min(name, 60) if name != "simplex" else 59
    s, means = system(name, n, classes=60), crowded(60, n)
    found = choice.assign_nearest(s, means)
    assert len(found.unique()) == 60
    shuffled = Order.make("shuffled", s, 0).index(torch.arange(60))
    assert float(s.cosine(means, found).mean()) > float(s.cosine(means, shuffled).mean()) + 0.05


@pytest.mark.parametrize(
    ("name", "n"), [("rademacher", 24), ("gaussian", 8), ("bch", 64), ("W4", 20), ("simplex", 599)]
)
def test_large_and_endless_systems(name: str, n: int) -> None:
    s, means = system(name, n, classes=600), torch.nn.functional.normalize(crowded(600, n))
    found = choice.assign_nearest(s, means)
    assert len(found.unique()) == 600
    assert int(found.max()) < s.choosable
    if name == "rademacher":
        assert float(s.cosine(means, found).mean()) >= 0.98 * float(s.cosine(means, s.nearest(means)).mean())
