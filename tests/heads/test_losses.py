"""Losses beside cosine and distance, against dense formulas and other libraries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lsc_engine.heads.lsc import LscHead
from lsc_engine.registry import LOSSES
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

SYSTEMS = [("V21", 9), ("V22", 8), ("V32", 7), ("V21pm", 8), ("A", 9), ("Ap", 9), ("A-mid", 8), ("A-interp", 8),
           ("A-helmert", 9)]  # fmt: skip


def lsc(name: str, n: int, loss: str, classes: int = 30, **settings: Any) -> LscHead:
    made = system(name, n, classes=classes)
    return LscHead(made, Order.make("shuffled", made, 0), classes, LOSSES.built_in[loss](**settings))


def batch(head: LscHead, rows: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings that want a gradient, targets, and all vectors [count, n] of the system, float64."""
    z = torch.randn(rows, head.system.n, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(head.classes, (rows,), generator=torch.Generator().manual_seed(2))
    vectors = head.system.vectors(torch.arange(head.system.count)).double()
    return z.requires_grad_(), head.target(labels), vectors


def same(head: LscHead, z: Tensor, target: Tensor, want: Tensor, tolerance: float = 2e-6) -> None:
    """Losses and gradient of `head` are those of `want`, which hangs on the same z."""
    (wanted,) = torch.autograd.grad(want.mean(), z)
    found = head.losses(z, target)
    (gradient,) = torch.autograd.grad(head.loss(z, target), z)
    torch.testing.assert_close(found.double(), want.double(), atol=20 * tolerance, rtol=1e-5)
    torch.testing.assert_close(gradient, wanted, atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize(("name", "n"), SYSTEMS)
@pytest.mark.parametrize("scale", [4.0, 16.0, 64.0])
def test_softmax_is_cross_entropy_over_all_vectors(name: str, n: int, scale: float) -> None:
    head = lsc(name, n, "softmax", scale=scale)
    z, target, vectors = batch(head)
    want = functional.cross_entropy(scale * functional.normalize(z.double()) @ vectors.T, target, reduction="none")
    same(head, z, target, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("loss", "name", "n"), [
    ("batch-softmax", "V22", 300), ("softmax", "V22", 300), ("softmax", "A-interp", 300),
    *(("softmax", name, 40) for name in ("V21", "V32", "V21pm", "A", "Ap", "A-mid", "A-helmert")),
    ("softmax", "bch", 64), ("softmax", "kerdock", 64), ("softmax", "hadamard", 64),
])  # fmt: skip
def test_a_softmax_is_finite_at_scale_64_under_autocast(loss: str, name: str, n: int, dtype: torch.dtype) -> None:
    head = lsc(name, n, loss, scale=64.0)
    draw = torch.Generator().manual_seed(0)
    z = torch.cat([torch.randn(6, n, generator=draw), 1e4 * torch.eye(n)[:3], torch.zeros(1, n)])
    z = z.to(dtype).requires_grad_()
    target = head.target(torch.arange(10))
    with torch.autocast("cpu", torch.bfloat16):
        loss_value = head.loss(z, target)
    loss_value.backward()
    assert loss_value.dtype == torch.float32
    assert torch.isfinite(loss_value)
    assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]
    torch.testing.assert_close(loss_value, head.loss(z.detach().float(), target))


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_batch_softmax_tells_classes_of_a_batch_apart(axis: str) -> None:
    head = lsc("V21", 9, "batch-softmax", scale=8.0, batch_axis=axis)
    z, target, vectors = batch(head)
    assert len(target.unique()) < len(target)
    unit, own = functional.normalize(z.double()), vectors[target]
    want = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j == i or target[j] != target[i]]
        scores = own[others] @ unit[i] if axis == "rows" else unit[others] @ own[i]
        want.append((8 * scores).logsumexp(0) - 8 * own[i] @ unit[i])
    same(head, z, target, torch.stack(want))


@pytest.mark.parametrize("name", ["V21", "A", "A-helmert", "simplex"])
@pytest.mark.parametrize("radius", [2.5, "native"])
def test_squared_and_dot_are_their_formulas(name: str, radius: Any) -> None:
    n = 29 if name == "simplex" else 9
    head = lsc(name, n, "squared")
    z, target, vectors = batch(head)
    inner = (z.double() * vectors[target]).sum(1)
    same(head, z, target, (1 - inner / z.double().norm(dim=1)).square())

    head = lsc(name, n, "dot", radius=radius)
    z, target, _ = batch(head)
    length = head.system.native_norm(target) if radius == "native" else torch.full((len(z),), radius)
    same(head, z, target, 0.5 * ((z.double() * vectors[target]).sum(1) - length).square())
    labels = head.order.label(target)
    torch.testing.assert_close(head.centres(labels).double(), length.double().unsqueeze(1) * vectors[target])
    assert not head.directional
