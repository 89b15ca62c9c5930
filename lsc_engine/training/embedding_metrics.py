"""What frozen embeddings are worth beyond the accuracy of their head: neighbours, a linear probe, retrieval,
calibration, and images of other classes.

Embeddings are compared by their direction. `measure` gives the metrics that `eval.also` names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lsc_engine.common.errors import UsageError
from lsc_engine.heads.base import Head
from lsc_engine.training.calibration import fit_scale, probability

# Of DINO (arXiv:2104.14294), and of kNN for images of other classes (arXiv:2204.06507).
VOTERS, DISTANT = 20, 50
BINS = 15
# Training images whose embeddings are kept for neighbours and the probe.
MOST_IMAGES = 20_000
_AT_ONCE, _ROWS = 2**24, 1024
_PROBE_ITERATIONS = 200


@dataclass(frozen=True)
class Embedded:
    """Embeddings [N, n] float32 of images and their labels [N] int64."""

    z: Tensor
    labels: Tensor


def nearest(z: Tensor, others: Tensor, k: int, *, itself: bool = False) -> tuple[Tensor, Tensor]:
    """Cosines and numbers [B, k] of the `k` rows of `others` nearest to each of `z` by cosine, the nearest first; with
    `itself` both are the same rows, and a row is none of its own neighbours."""
    z, others = functional.normalize(z.float(), dim=1), functional.normalize(others.float(), dim=1)
    found = []
    start = 0
    for part in z.split(max(1, _AT_ONCE // len(others))):
        cosines = part @ others.T
        if itself:
            rows = torch.arange(len(part), device=z.device)
            cosines[rows, rows + start] = -torch.inf
        found.append(cosines.topk(k, dim=1))
        start += len(part)
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def knn_accuracy(train: Embedded, val: Embedded, k: int = VOTERS) -> float:
    """The share of `val` whose label most of the `k` nearest training images have; of equally many the least label."""
    votes = train.labels[nearest(val.z, train.z, min(k, len(train.z)))[1]]
    counts = torch.stack([(votes == vote.unsqueeze(1)).sum(1) for vote in votes.T], 1)
    best = counts == counts.max(1, keepdim=True).values
    chosen = votes.masked_fill(~best, torch.iinfo(torch.int64).max).min(1).values
    return float((chosen == val.labels).double().mean())


def probe_accuracy(train: Embedded, val: Embedded) -> float:
    """The share of `val` that a linear probe gets right: multinomial logistic regression on the directions of the
    training embeddings, each coordinate standardised, with the penalty |W|²/2 on the summed loss."""
    classes, labels = train.labels.unique(return_inverse=True)
    x, y = (functional.normalize(each.z.double(), dim=1) for each in (train, val))
    mean, deviation = x.mean(0), x.std(0, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    x, y = (x - mean) / deviation, (y - mean) / deviation
    weight = torch.zeros(x.shape[1], len(classes), dtype=torch.float64, device=x.device, requires_grad=True)
    bias = torch.zeros(len(classes), dtype=torch.float64, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        (weight, bias), max_iter=_PROBE_ITERATIONS, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    parts = [part.split(max(1, _AT_ONCE // len(classes))) for part in (x, labels)]

    def closure() -> float:
        optimizer.zero_grad()
        penalty = weight.square().sum() / (2 * len(x))
        penalty.backward()
        total = penalty.item()
        for rows, own in zip(*parts, strict=True):
            loss = functional.cross_entropy(rows @ weight + bias, own, reduction="sum") / len(x)
            loss.backward()
            total += loss.item()
        return total

    with torch.enable_grad():
        optimizer.step(closure)
    return float((classes[(y @ weight + bias).argmax(1)] == val.labels).double().mean())


def retrieval(val: Embedded, *, at: Sequence[int] = (1, 10), mean_precision: bool = True) -> dict[str, float]:
    """Each image looked for among the others: "recall@k", whether one of its class is among the k nearest, and "map@r",
    the mean average precision at R, the number of others of its class (arXiv:2003.08505, 3.1). Means over the images
    whose class has another one; empty if there are none."""
    _, place, counts = val.labels.unique(return_inverse=True, return_counts=True)
    r = counts[place] - 1
    judged = r > 0
    if not judged.any():
        return {}
    most = min(max([*at, *([int(r.max())] if mean_precision else [])]), len(val.z) - 1)
    _, found = nearest(val.z, val.z, most, itself=True)
    right = (val.labels[found] == val.labels.unsqueeze(1))[judged]
    r = r[judged]
    values = {f"recall@{k}": float(right[:, :k].any(1).double().mean()) for k in at}
    if mean_precision:
        rank = torch.arange(1, most + 1, device=right.device)
        precision = right.cumsum(1) / rank * right * (rank <= r.unsqueeze(1))
        values["map@r"] = float((precision.double().sum(1) / r).mean())
    return values


def calibration_error(confidence: Tensor, right: Tensor, bins: int = BINS) -> float:
    """The expected calibration error (arXiv:1706.04599, 2): probabilities [N] in `bins` of equal width, the difference
    of their mean from the share that is `right` [N], weighted by the images of a bin."""
    confidence = confidence.double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gap.index_add_(0, place, confidence - right.double())
    return float(gap.abs().sum() / len(confidence))


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The probability that a score of `inside` is above one of `outside`, equal ones counted half."""
    edges = outside.double().sort().values
    scores = inside.double()
    below, above = torch.searchsorted(edges, scores), torch.searchsorted(edges, scores, right=True)
    return float((below + above).double().mean() / (2 * len(edges)))


def fpr95(inside: Tensor, outside: Tensor) -> float:
    """The share of `outside` whose score is at least the highest threshold that 95 % of `inside` reach."""
    ordered = inside.double().sort(descending=True).values
    threshold = ordered[-(-95 * len(ordered) // 100) - 1]
    return float((outside.double() >= threshold).double().mean())


@torch.no_grad()
def measure(
    head: Head,
    also: Collection[str],
    train: Embedded,
    val: Embedded,
    *,
    ood: Tensor | None = None,
    scale: float | None = None,
) -> tuple[dict[str, float], list[str]]:
    """The metrics that `also` names, and a sentence for each that there is none of.

    `ood`: embeddings of images of other classes. `scale`: of the head's probabilities; None for that of the training,
    or, if it has none, one fitted on every second image of `val`, and judged on the others.
    """
    values: dict[str, float] = {}
    notes: list[str] = []
    if "knn" in also:
        values["eval/knn"] = knn_accuracy(train, val)
    if "probe" in also:
        values["eval/probe"] = probe_accuracy(train, val)
    if {"recall", "map"} & set(also):
        found = retrieval(val, at=(1, 10) if "recall" in also else (), mean_precision="map" in also)
        values |= {f"eval/{name}": value for name, value in found.items()}
        if not found:
            notes.append("recall, map: no class has two validation images")
    judged = val
    fitted = head.scale_trained if scale is None else scale
    try:
        if fitted is None and {"ece", "ood"} & set(also):
            fitted = fit_scale(head, [(val.z[::2], val.labels[::2])], step=0, data="").scale
            judged = Embedded(val.z[1::2], val.labels[1::2])
        if "ece" in also and fitted is not None:
            labels = head.predict(judged.z)
            used = fitted
            certain = _in_parts(judged.z, labels, lambda z, y: probability(head, z, y, used)[0])
            values["eval/ece"] = calibration_error(certain, labels == judged.labels)
    except UsageError as error:
        fitted = None
        if "ece" in also:
            notes.append(f"ece: {error}")
    if "ood" in also and ood is not None:
        for name, (inside, outside) in _novelty(head, train, val.z, ood, fitted).items():
            values |= {f"ood/auroc{name}": auroc(inside, outside), f"ood/fpr95{name}": fpr95(inside, outside)}
    return values, notes


def _in_parts(z: Tensor, labels: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return torch.cat([score(*part) for part in zip(z.split(_ROWS), labels.split(_ROWS), strict=True)])


def _novelty(
    head: Head, train: Embedded, val: Tensor, ood: Tensor, scale: float | None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Scores of `val` and of `ood`, high for what is known: "" the largest cosine to a centre, or the largest logit of
    a class layer (arXiv:1911.11132); "_knn" the cosine of the 50th nearest training image (arXiv:2204.06507);
    "_energy" the log of the head's softmax sum (arXiv:2010.03759)."""

    def largest(z: Tensor) -> Tensor:
        return _in_parts(z, head.predict(z), head.score)

    def energy(z: Tensor) -> Tensor:
        return _in_parts(z, z, lambda part, _: head.log_partition(part, scale or 1.0)[0])

    scores = {"_knn": lambda z: nearest(z, train.z, min(DISTANT, len(train.z)))[0][:, -1]}
    scores |= {"": largest} if head.learns_labels else {}
    scores |= {"_energy": energy} if scale is not None else {}
    return {name: (score(val), score(ood)) for name, score in scores.items()}
