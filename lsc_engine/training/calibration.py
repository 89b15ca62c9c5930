"""Calibration: one scale on the scores of a trained run, so that its probabilities are as often right as they say.

Temperature scaling (arXiv:1706.04599): the scale, the inverse of the temperature, is the one with the least negative
log-likelihood on held-out images. Scores are the cosines to all vectors of a system, or the logits of a class layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError, number_of, read_json, replace_json
from lsc_engine.heads.base import Head
from lsc_engine.runs.folder.layout import CALIBRATION

# The scales that are looked at, and one at which all alternatives are alike.
LEAST, MOST, _NONE = 1e-2, 1e3, 1e-6
_ROWS = 1024


@dataclass(frozen=True)
class Calibration:
    """The fitted `scale` and the checkpoint it belongs to; negative log-likelihoods in nats, with it and with the
    scale of the training; mean probability of the predicted labels and the share that is right, with it."""

    scale: float
    temperature: float
    step: int
    images: int
    data: str
    nll: float
    nll_before: float | None
    confidence: float
    accuracy: float


def fit_scale(head: Head, parts: Sequence[tuple[Tensor, Tensor]], *, step: int, data: str) -> Calibration:
    """The calibration of `head` by embeddings [B, n] with labels [B], `data` saying of which images. UsageError if
    there are none, or the head has no probabilities.

    The likelihood is concave in the scale: the best one is where the mean score under the softmax is, on average, that
    of the class.
    """
    from scipy.optimize import brentq

    images = sum(len(z) for z, _ in parts)
    if not images:
        raise UsageError("calibration: there is no image with a class that the run knows")
    parts = [(z[i : i + _ROWS], labels[i : i + _ROWS]) for z, labels in parts for i in range(0, len(z), _ROWS)]
    own = [head.score(z, labels).double() for z, labels in parts]
    # Of images that are all right the likelihood has no best scale. As in Platt's method (1999), one image of N + 2
    # counts as anything.
    share = 1 / (images + 2)
    aims = [
        (1 - share) * score + share * head.log_partition(z, _NONE)[1] for (z, _), score in zip(parts, own, strict=True)
    ]

    def excess(log_scale: float) -> float:
        scale = math.exp(log_scale)
        means = (head.log_partition(z, scale)[1].double() for z, _ in parts)
        return sum(float((mean - aim).sum()) for mean, aim in zip(means, aims, strict=True)) / images

    def nll(scale: float) -> float:
        sums = (head.log_partition(z, scale)[0].double() for z, _ in parts)
        return sum(float((total - scale * score).sum()) for total, score in zip(sums, own, strict=True)) / images

    ends = math.log(LEAST), math.log(MOST)
    if excess(ends[0]) >= 0:
        scale = LEAST
    elif excess(ends[1]) <= 0:
        scale = MOST
    else:
        scale = math.exp(brentq(excess, *ends, xtol=1e-4))
    labels = [head.predict(z) for z, _ in parts]
    certain = [probability(head, z, predicted, scale)[0] for (z, _), predicted in zip(parts, labels, strict=True)]
    right = sum(int((predicted == true).sum()) for predicted, (_, true) in zip(labels, parts, strict=True))
    before = None if head.scale_trained is None else nll(head.scale_trained)
    confidence = float(torch.cat(certain).mean())
    return Calibration(scale, 1 / scale, step, images, data, nll(scale), before, confidence, right / images)


def probability(head: Head, z: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of embeddings [B, n]: the probability of the labels [B], the entropy in nats over all alternatives, and the
    energy, minus the log of their sum (arXiv:2010.03759); [B] float64 each."""
    total, mean = (each.double() for each in head.log_partition(z, scale))
    entropy = (total - scale * mean).clamp(min=0)
    return (scale * head.score(z, labels).double() - total).exp().clamp(max=1), entropy, -total


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Into the run folder. Raises OSError."""
    replace_json(folder / CALIBRATION, asdict(calibration))


def read_scale(folder: Path) -> tuple[float, int] | None:
    """The fitted scale in the run folder and the step of its checkpoint; None without a usable one."""
    try:
        found = read_json(folder / CALIBRATION)
    except UnreadableError:
        return None
    scale, step = number_of(found.get("scale")), number_of(found.get("step"))
    return None if scale is None or not LEAST <= scale <= MOST or step is None else (scale, int(step))
