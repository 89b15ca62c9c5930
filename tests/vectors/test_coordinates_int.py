"""A vector in Python integers is the row that torch computes."""

from __future__ import annotations

import math

import pytest
import torch

from lsc_engine.common.errors import UsageError
from lsc_engine.vectors import system
from lsc_engine.vectors.registry import facts
from lsc_engine.vectors.subsets import Subsets

CASES = [
    ("A", 5), ("Ap", 6), ("A-mid", 5), ("A-interp", 5), ("V11", 6), ("V21", 6), ("V22", 7), ("V31", 6), ("V21pm", 6),
    ("W2", 5), ("W4", 4),
]  # fmt: skip


@pytest.mark.parametrize(("name", "n"), CASES)
def test_every_vector_is_that_of_the_family(name: str, n: int) -> None:
    made = system(name, n)
    rows = made.vectors(torch.arange(made.count))
    for index in range(made.count):
        row = torch.zeros(n)
        for column, weight in made.entries(index):
            row[column] = weight
        assert torch.allclose(row / row.norm(), rows[index], atol=1e-6), index


def test_helmert_and_simplex_in_their_lifted_coordinates() -> None:
    for name, n, classes in (("A-helmert", 5, None), ("simplex", 6, 7)):
        made = system(name, n, classes=classes)
        for index in range(made.count):
            lifted = torch.zeros(1, n + 1)
            for column, weight in made.entries(index):
                lifted[0, column] = weight
            lifted -= lifted.mean()
            row = lifted / lifted.norm()
            back = made.lift(made.vectors(torch.tensor([index])))
            assert torch.allclose(row, back, atol=1e-5), (name, index)


def test_subsets_count_up_and_large_ranks_are_exact() -> None:
    assert [Subsets(4, 2).unrank(r) for r in range(6)] == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    last = math.comb(10**9, 3) - 1
    assert Subsets(10**9, 3).unrank(last) == [10**9 - 3, 10**9 - 2, 10**9 - 1]
    assert Subsets(5, 0).unrank(0) == []


def test_what_is_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="30 vectors"):
        facts("V21", 5).entries(facts("V21", 5).count)
    with pytest.raises(UsageError, match="planar"):
        facts("planar", 2, 8).entries(0)
