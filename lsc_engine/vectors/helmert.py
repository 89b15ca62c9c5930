"""The Helmert isometry between n dimensions and the hyperplane "sum = 0" of n + 1 coordinates, in O(n).

Row t = 1..n of the Helmert matrix is (1, ..., 1, -t, 0, ..., 0) / sqrt(t (t + 1)) with t ones: the Gram-Schmidt basis
of e_1 - e_2, e_1 + e_2 - 2 e_3, ... It keeps all angles of A_n (arXiv:2510.04090, Fig. 2b) and places a
simplex of n + 1 vectors in n dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scales(n: int, device: torch.device, cache: dict[tuple[str, torch.device], Tensor]) -> Tensor:
    """1 / sqrt(t (t + 1)) for t = 1..n, float32 rounded from float64; made once per device and `cache`."""
    key = ("helmert", device)
    if key not in cache:
        t = torch.arange(1, n + 1, dtype=torch.float64, device=device)
        cache[key] = (t * (t + 1)).rsqrt().float()
    return cache[key]


def expand(z: Tensor, scale: Tensor) -> Tensor:
    """[B, n] -> [B, n + 1], rows of sum 0 with the same norms and inner products."""
    n = z.shape[1]
    scaled = z * scale
    t = torch.arange(1, n + 1, dtype=z.dtype, device=z.device)
    # Coordinate j of the sum of scaled rows: the rows t >= j (1-based) have a one there, row j - 1 has -(j - 1).
    ones = scaled.flip(1).cumsum(1).flip(1)
    below = -t * scaled
    return torch.nn.functional.pad(ones, (0, 1)) + torch.nn.functional.pad(below, (1, 0))


def columns(index: Tensor, scale: Tensor) -> Tensor:
    """What the unit vectors e_index of n + 1 coordinates are in n dimensions: [B, n], the matrix times e_index."""
    t = torch.arange(1, scale.shape[0] + 1, device=index.device)
    at = index.unsqueeze(-1)
    entries = (at < t).float() - (at == t).float() * t
    return entries * scale
