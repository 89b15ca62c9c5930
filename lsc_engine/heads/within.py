"""Losses on the distribution within classes, added to that of LSC (arXiv:2510.04090, Sec. 6.4).

The paper names two, "matching the mean and standard deviation of [the] current distribution with a target one" and the
Kullback-Leibler divergence, and prints neither formula nor target. Ours, for the residuals r = z - c of a batch from
their centres, pooled over the classes so that the number of classes does not matter, with mean mu_k and variance v_k of
coordinate k and the target N(0, sigma^2 I):

    kld       mean_k [ log(sigma / sqrt(v_k)) + (v_k + mu_k^2) / (2 sigma^2) - 1/2 ], the divergence of N(mu_k, v_k)
    gaussian  mean_k [ mu_k^2 + (sqrt(v_k) - sigma)^2 ] / sigma^2
"""

from __future__ import annotations

import math

from torch import Tensor

KINDS = ("kld", "gaussian")
# Smallest variance, in parts of sigma^2: of a coordinate that does not vary the logarithm would be infinite.
_LEAST = 1e-6


def within_loss(kind: str, residuals: Tensor, sigma: float) -> Tensor:
    """The loss of residuals [B, n], a scalar; 0 where they are distributed as N(0, sigma^2 I)."""
    mean = residuals.mean(0) / sigma
    variance = (residuals.var(0, correction=0) / sigma**2).clamp(min=_LEAST)
    if kind == "kld":
        return (0.5 * (variance + mean.square() - 1 - variance.log())).mean()
    return (mean.square() + (variance.sqrt() - 1).square()).mean()


def target_sigma(n: int, *, max_cosine: float, length: float, cluster_radius: float) -> float:
    """The sigma whose typical distance from the centre, sigma sqrt(n), is the cluster radius or, without one, half the
    distance from a centre of `length` within which the label is guaranteed (half the smallest angle)."""
    if cluster_radius > 0:
        return cluster_radius / math.sqrt(n)
    smallest = math.acos(max(-1.0, min(1.0, max_cosine)))
    return length * math.sin(smallest / 4) / math.sqrt(n)
