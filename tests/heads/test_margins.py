"""Class layers of cosines, with margins, of some classes, of running means, and the centre loss: against formulas in
plain numbers and pytorch-metric-learning."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lsc_engine.heads.cross_entropy import CrossEntropyHead, sampled_classes

CLASSES, N, ROWS = 12, 6, 40
SETTINGS: dict[str, dict[str, float]] = {
    "normalized": {"scale": 20.0}, "cosface": {"scale": 64.0, "margin": 0.35}, "arcface": {"scale": 64.0, "margin": 0.5}
}  # fmt: skip


def head_of(loss: str, classes: int = CLASSES, **settings: Any) -> CrossEntropyHead:
    return CrossEntropyHead(N, classes, None, 3, loss=loss, **SETTINGS.get(loss, {}), **settings)


def batch(classes: int = CLASSES, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(rows, N, generator=generator), torch.randint(classes, (rows,), generator=generator)


def step(head: CrossEntropyHead, z: Tensor, labels: Tensor) -> Tensor:
    """The loss of a training step whose embeddings are `z`."""
    return head.batch_loss(nn.Identity(), z, labels)


@pytest.mark.parametrize("loss", list(SETTINGS))
def test_the_loss_is_its_formula_angle_by_angle(loss: str) -> None:
    head, (z, labels) = head_of(loss), batch()
    # The opposite of the own row, where an angle with its margin passes 180 degrees, and the row itself.
    weights = head.weights.detach()
    z[0], z[1] = -weights[labels[0]], weights[labels[1]]
    for row, label, found in zip(z, labels.tolist(), head.losses(z, labels).detach().tolist(), strict=True):
        angles = [math.acos(max(-1.0, min(1.0, float(functional.cosine_similarity(row, w, dim=0))))) for w in weights]
        scores = [math.cos(angle) for angle in angles]
        if loss == "cosface":
            scores[label] -= 0.35
        if loss == "arcface":
            turned = angles[label] + 0.5
            scores[label] = math.cos(turned) if turned <= math.pi else scores[label] - 0.5 * math.sin(0.5)
        scores = [SETTINGS[loss]["scale"] * score for score in scores]
        want = math.log(sum(math.exp(score - max(scores)) for score in scores)) + max(scores) - scores[label]
        assert found == pytest.approx(want, rel=1e-4, abs=0.03)  # the sine is known to sqrt(1e-7)
    assert torch.equal(
        head.predict(z), functional.linear(functional.normalize(z), functional.normalize(head.weights)).argmax(1)
    )


@pytest.mark.parametrize("loss", list(SETTINGS))
def test_loss_and_gradients_are_those_of_pytorch_metric_learning(loss: str) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    head, (z, labels) = head_of(loss), batch()
    settings = SETTINGS[loss]
    if loss == "normalized":
        theirs = losses.NormalizedSoftmaxLoss(CLASSES, N, temperature=1 / settings["scale"])
    elif loss == "cosface":
        theirs = losses.CosFaceLoss(CLASSES, N, margin=settings["margin"], scale=settings["scale"])
    else:
        theirs = losses.ArcFaceLoss(CLASSES, N, margin=math.degrees(settings["margin"]), scale=settings["scale"])
    theirs.W = nn.Parameter(head.weights.detach().T.clone())
    found = []
    for loss_of, weights in (
        (lambda x: step(head, x, labels), head.layer.weight),
        (lambda x: theirs(x, labels), theirs.W),
    ):
        x = z.clone().requires_grad_()
        value = loss_of(x)
        value.backward()
        gradient = weights.grad if weights is head.layer.weight else weights.grad.T  # type: ignore[union-attr]
        found.append((value.detach(), x.grad, gradient))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("loss", ["cosface", "arcface"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_finite_at_the_own_row_at_its_opposite_and_at_zero(
    loss: str, dtype: torch.dtype
) -> None:
    head = head_of(loss)
    z = torch.cat([head.weights[:3], -head.weights[:3], torch.zeros(2, N)]).detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = step(head, z, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(torch.stack([value.detach(), z.grad.sum(), head.layer.weight.grad.sum()])).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("loss", ["softmax", "cosface"])
def test_a_step_of_partial_fc_sees_the_classes_of_its_batch_and_random_others(loss: str) -> None:
    classes, rows = 1000, 16
    head, (z, labels) = head_of(loss, classes, share=0.1, batch_size=rows), batch(classes, rows)
    seen = []
    for number in (7, 8, 7):
        head.begin_step(number, labels)
        chosen = head.sampled.clone()
        seen.append(chosen)
        assert len(chosen.unique()) == sampled_classes(classes, 0.1, rows) == 100
        assert set(labels.tolist()) <= set(chosen.tolist())
    assert torch.equal(seen[0], seen[2])
    assert len(set(seen[0].tolist()) & set(seen[1].tolist())) < 40
    value = step(head, z, labels)
    value.backward()
    with_gradient = head.layer.weight.grad.any(1).nonzero().squeeze(1)  # type: ignore[union-attr]
    assert set(with_gradient.tolist()) <= set(seen[0].tolist())
    # The same as a class layer that has only these rows.
    small = head_of(loss, 100)
    with torch.no_grad():
        for mine, whole in zip(small.layer.parameters(), head.layer.parameters(), strict=True):
            mine.copy_(whole[seen[0]])
    torch.testing.assert_close(value, step(small, z, torch.searchsorted(seen[0], labels)))
    # Evaluation is among all classes.
    torch.testing.assert_close(head.losses(z, labels), head_like(head, loss, classes).losses(z, labels))


def head_like(head: CrossEntropyHead, loss: str, classes: int) -> CrossEntropyHead:
    other = head_of(loss, classes)
    other.load_state_dict(head.state_dict())
    return other


def test_every_class_is_drawn_about_equally_often() -> None:
    head = head_of("softmax", 50, share=0.2, batch_size=2)
    counts = torch.zeros(50)
    for number in range(500):
        head.begin_step(number, torch.tensor([0, 1]))
        counts[head.sampled] += 1
    assert counts[:2].tolist() == [500, 500]
    expected = 500 * 8 / 48
    assert counts[2:].min() > 0.6 * expected
    assert counts[2:].max() < 1.4 * expected


def test_running_means_are_the_moving_average_of_the_directions() -> None:
    head = head_of("normalized", momentum=0.9)
    assert [name for name, _ in head.named_parameters()] == []
    means = [torch.zeros(N) for _ in range(CLASSES)]
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        z, labels = torch.randn(10, N, generator=generator), torch.randint(5, (10,), generator=generator)
        want = functional.cross_entropy(
            20 * functional.normalize(z) @ functional.normalize(torch.stack(means), dim=1).T, labels
        )
        torch.testing.assert_close(step(head, z, labels), want)
        for label in set(labels.tolist()):
            new = functional.normalize(z[labels == label]).mean(0)
            means[label] = 0.9 * means[label] + 0.1 * new if means[label].any() else new
        torch.testing.assert_close(head.means, torch.stack(means))
    assert not head.means[5:].any()
    torch.testing.assert_close(head.centres(torch.arange(5)), head.means[:5])


def test_the_centre_loss_pulls_to_centres_that_follow_their_classes() -> None:
    head, (z, labels) = head_of("softmax", center_weight=0.25), batch()
    plain = head_like_plain(head)
    centers = torch.zeros(CLASSES, N)
    for _ in range(2):
        x = z.clone().requires_grad_()
        value = step(head, x, labels)
        want = step(plain, x, labels) + 0.25 * (x - centers[labels]).square().sum(1).mean()
        torch.testing.assert_close(value, want)
        torch.testing.assert_close(*(torch.autograd.grad(each, x)[0] for each in (value, want)))
        for label in labels.unique().tolist():
            own = z[labels == label]
            centers[label] -= 0.5 * (centers[label] - own).sum(0) / (1 + len(own))
        torch.testing.assert_close(head.centers, centers)


def head_like_plain(head: CrossEntropyHead) -> CrossEntropyHead:
    plain = head_of("softmax")
    plain.load_state_dict({name: tensor for name, tensor in head.state_dict().items() if name != "centers"})
    return plain
