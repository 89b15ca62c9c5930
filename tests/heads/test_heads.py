"""Heads: losses against the papers' formulas written out, labels against exhaustive search."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.lsc import LscHead
from lsc_engine.heads.scan import Scan
from lsc_engine.registry import LOSSES
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order


def lsc(
    name: str, n: int, classes: int, order: str = "shuffled", loss: str = "cosine", within: Any = None, **settings: Any
) -> LscHead:
    made = system(name, n, classes=classes)
    function = LOSSES.built_in[loss](**settings)
    return LscHead(made, Order.make(order, made, 0), classes, function, within=within, within_weight=0.1)


def centres(head: LscHead) -> Tensor:
    return head.system.vectors(head.target(torch.arange(head.classes)))


def embeddings(rows: int, n: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, n, generator=torch.Generator().manual_seed(seed))


FAMILIES = [
    ("V21", 9, 200), ("V22", 8, 400), ("V21pm", 8, 300), ("A", 7, 50), ("Ap", 8, 30), ("A-helmert", 7, 50),
    ("A-mid", 6, 200), ("A-interp", 6, 200), ("simplex", 20, 20), ("planar", 2, 13), ("W4", 5, 100),
]  # fmt: skip


@pytest.mark.parametrize(("name", "n", "classes"), FAMILIES)
def test_cosine_loss_is_equation_11(name: str, n: int, classes: int) -> None:
    head = lsc(name, n, classes)
    z, labels = embeddings(64, n), torch.arange(64) % classes
    want = 1 - torch.cosine_similarity(z, centres(head)[labels])
    torch.testing.assert_close(head.losses(z, head.target(labels)), want, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "n", "classes"), FAMILIES)
@pytest.mark.parametrize("loss", ["cosine", "distance", "cosine+distance"])
def test_what_is_computed_before_a_step_changes_neither_loss_nor_gradient(
    name: str, n: int, classes: int, loss: str
) -> None:
    within = {"within": "gaussian"} if loss == "cosine" else {}
    head = lsc(name, n, classes, loss=loss, **within)
    labels = torch.arange(64) % classes
    found = []
    for target in (head.target(labels), head.training_target(labels)):
        assert target.dtype == torch.int64
        assert len(target) == 64
        z = embeddings(64, n).requires_grad_()
        value = head.loss(z, target)
        value.backward()
        found.append((value.detach(), z.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "n", "classes"), FAMILIES)
def test_labels_equal_an_exhaustive_search_over_the_classes_in_use(name: str, n: int, classes: int) -> None:
    head = lsc(name, n, classes)
    z = embeddings(300, n, seed=1)
    scores = torch.nn.functional.normalize(z) @ centres(head).T
    got = head.predict(z)
    assert got.min() >= 0
    assert got.max() < classes
    torch.testing.assert_close(scores.gather(1, got[:, None]).squeeze(1), scores.max(1).values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [1.0, 0.98, 0.5, 0.1, 0.002])
def test_labels_are_exact_however_many_vectors_are_unused(share: float) -> None:
    made = system("V21", 16)
    classes = max(2, round(made.count * share))
    head = LscHead(made, Order.make("shuffled", made, 3), classes)
    z = embeddings(500, 16, seed=2)
    scores = torch.nn.functional.normalize(z) @ centres(head).T
    assert torch.equal(head.predict(z), scores.argmax(1))
    assert torch.equal(Scan(made, head.order, classes)(z), scores.argmax(1))


@pytest.mark.parametrize(("name", "n", "classes"), [("V21", 130, 3000), ("V22", 150, 70_000), ("A-helmert", 80, 500)])
@pytest.mark.parametrize("rows", [1, 5, 80])
def test_a_scan_of_few_classes_among_many_vectors_is_exact(name: str, n: int, classes: int, rows: int) -> None:
    """Sparse sums and dense products, rows that a later chunk of classes serves better, and falling cosine."""
    head = lsc(name, n, classes)
    z = embeddings(rows, n, seed=rows)
    scores = torch.nn.functional.normalize(z) @ centres(head).T
    for labels in (head.predict(z), Scan(head.system, head.order, classes)(z)):
        torch.testing.assert_close(
            scores.gather(1, labels[:, None]).squeeze(1), scores.max(1).values, atol=1e-6, rtol=0
        )
        assert int((labels != scores.argmax(1)).sum()) <= 1
    assert Scan(head.system, head.order, classes)(z[:0]).shape == (0,)


@pytest.mark.parametrize(("name", "n", "classes"), [("V22", 60, 3000), ("A-interp", 30, 4000), ("V21pm", 40, 900)])
@pytest.mark.parametrize(
    "most",
    [
        {},
        {"KEPT_BYTES": {"cpu": 0}},
        {"MOST_WEIGHTS": 1},
        {"CLASSES_AT_ONCE": {"cpu": 100}, "GROUP": 7},
        {"TABLE_BYTES": {"cpu": 2**20}, "SCORES_AT_ONCE": {"cpu": 30_000}},
    ],
)
def test_a_scan_is_exact_with_and_without_what_it_keeps(
    monkeypatch: pytest.MonkeyPatch, name: str, n: int, classes: int, most: dict[str, Any]
) -> None:
    for constant, value in most.items():
        monkeypatch.setattr(f"lsc_engine.heads.scan.{constant}", value)
    head = lsc(name, n, classes)
    scanned = Scan(head.system, head.order, classes)
    for seed in range(2):
        z = embeddings(40, n, seed=seed)
        scores = torch.nn.functional.normalize(z) @ centres(head).T
        found = scores.gather(1, scanned(z)[:, None]).squeeze(1)
        torch.testing.assert_close(found, scores.max(1).values, atol=1e-6, rtol=0)
    assert scanned.ready(torch.device("cpu")) == most.keys().isdisjoint({"KEPT_BYTES", "MOST_WEIGHTS", "TABLE_BYTES"})


def test_an_embedding_on_an_unused_vector_is_a_new_class_where_asked() -> None:
    head = lsc("V21", 9, 100)
    on_used = head.system.vectors(head.target(torch.tensor([7, 99])))
    free = head.order.index(torch.tensor([100, 200]))
    z = torch.cat([on_used, head.system.vectors(free)])
    assert head.predict(z, unused="new").tolist() == [7, 99, -1, -1]


def test_distance_loss_is_equations_6_and_7() -> None:
    head = lsc("A", 6, 40, loss="distance", radius=5.0, cluster_radius=0.5)
    z, labels = embeddings(32, 6), torch.arange(32)
    x = (z - 5 * centres(head)[labels]).square().sum(1).sqrt()
    want = torch.exp(torch.relu(x - 0.5)) - 1
    torch.testing.assert_close(head.losses(z, head.target(labels)), want)


def test_distance_to_centres_of_native_length_labels_by_equation_8() -> None:
    head = lsc("A", 6, 42, loss="distance", radius="native")
    target = head.target(torch.arange(42))
    native = head.system.vectors(target) * head.system.native_norm(target)[:, None]
    assert sorted({round(float(v), 4) for v in native.norm(dim=1)}) == [1.0, round(math.sqrt(2), 4)]
    z = embeddings(400, 6, seed=4)
    assert torch.equal(head.predict(z), torch.cdist(z, native).argmin(1))


def test_both_losses_are_weighted() -> None:
    z, labels = embeddings(8, 6), torch.arange(8)
    cosine, distance = (lsc("V21", 6, 30, loss=kind) for kind in ("cosine", "distance"))
    both = lsc("V21", 6, 30, loss="cosine+distance", weights=(2.0, 0.5))
    want = 2 * cosine.losses(z, cosine.target(labels)) + 0.5 * distance.losses(z, distance.target(labels))
    torch.testing.assert_close(both.losses(z, both.target(labels)), want)


@pytest.mark.parametrize(("n", "batch"), [(6, 8), (9, 21)])
def test_both_losses_as_printed_are_the_batch_size_for_the_distance(n: int, batch: int) -> None:
    z, labels = embeddings(batch, n), torch.arange(batch)
    head = lsc("V21", n, 30, loss="cosine+distance", weights=(1.0, float(batch)), radius="native", cluster_radius=0.25)
    own = centres(head)[labels]
    cosine = 1 - (torch.nn.functional.normalize(z, dim=1) * own).sum(1)
    excess = torch.relu((z - own * math.sqrt(3)).square().sum(1).sqrt() - 0.25)
    printed = cosine.mean() + (torch.exp(excess) - 1).sum()
    torch.testing.assert_close(head.loss(z, head.target(labels)), printed)
    means = lsc("V21", n, 30, loss="cosine+distance", radius="native", cluster_radius=0.25)
    torch.testing.assert_close(means.loss(z, means.target(labels)), cosine.mean() + (torch.exp(excess) - 1).mean())


def test_a_loss_below_the_sure_level_means_a_right_label() -> None:
    head = lsc("V21", 10, 300)
    labels = torch.arange(300)
    z = centres(head) + 0.2 * embeddings(300, 10, seed=5)
    sure = head.within_half_angle(z, head.target(labels))
    assert 10 < int(sure.sum()) < 300
    assert torch.equal(head.predict(z)[sure], labels[sure])


def test_lsc_has_no_parameter_and_no_buffer_whatever_the_classes() -> None:
    for classes in (10, 5_000_000):
        head = lsc("V21", 384, classes)
        assert not list(head.state_dict())


def test_losses_are_computed_in_float32_under_autocast() -> None:
    head = lsc("V21", 384, 1000)
    z, labels = embeddings(16, 384), torch.arange(16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.losses(z, head.target(labels)).dtype == torch.float32
        torch.testing.assert_close(head.loss(z, head.target(labels)), head.losses(z, head.target(labels)).mean())


def test_gradient_of_the_cosine_loss_is_right_and_finite_at_zero() -> None:
    head = lsc("A-helmert", 5, 20)
    z = embeddings(4, 5).requires_grad_()
    head.loss(z, head.target(torch.arange(4))).backward()
    reference = z.detach().clone().requires_grad_()
    (1 - torch.cosine_similarity(reference, centres(head)[:4])).mean().backward()
    torch.testing.assert_close(z.grad, reference.grad, atol=1e-6, rtol=1e-4)
    zero = torch.zeros(2, 5, requires_grad=True)
    head.loss(zero, head.target(torch.arange(2))).backward()
    assert torch.isfinite(zero.grad).all()


def test_cross_entropy_is_torchs_own_and_the_bottleneck_narrows() -> None:
    head = CrossEntropyHead(12, 50, None, seed=0)
    z, labels = embeddings(20, 12), torch.arange(20)
    want = torch.nn.functional.cross_entropy(head.layer(z), labels)
    torch.testing.assert_close(head.loss(z, labels), want)
    assert torch.equal(head.predict(z), head.layer(z).argmax(1))
    assert sum(p.numel() for p in CrossEntropyHead(12, 50, 4, seed=0).parameters()) == 12 * 4 + 5 * 50


def test_records_distinguish_heads() -> None:
    records = [
        lsc("V21", 9, 100).record(), lsc("V21", 9, 101).record(), lsc("V21", 10, 100).record(),
        lsc("V21", 9, 100, order="sequential").record(), CrossEntropyHead(9, 100, None, 0).record(),
    ]  # fmt: skip
    assert all(a != b for a, b in combinations(records, 2))
    assert lsc("V21", 9, 100).record() == lsc("V21", 9, 100).record()
