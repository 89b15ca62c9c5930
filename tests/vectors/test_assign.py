"""The order "nearest:RUN" against the dense assignment problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from lsc_engine.common.errors import UsageError
from lsc_engine.vectors import system
from lsc_engine.vectors.assign import assign_nearest
from lsc_engine.vectors.order import Order


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
