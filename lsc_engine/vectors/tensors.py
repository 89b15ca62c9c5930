"""Operations on embeddings and sparse vectors that the systems share."""

from __future__ import annotations

import math
from typing import Any

from lsc_engine.common.deferred import Tensor, np, torch


def safe_length(z: Tensor) -> Tensor:
    """|z| of each row [B]. A zero embedding divides by 1: cosine 0, with a finite gradient towards the vector."""
    length = torch.linalg.vector_norm(z, dim=1)
    return length + (length == 0)


def real(z: Tensor) -> Tensor:
    """float64 as it is, every other type as float32."""
    return z if z.dtype == torch.float64 else z.float()


def log_coefficient(plus: Tensor, minus: Tensor, p: int, q: int) -> Tensor:
    """log of the coefficient [B] of x^p y^q in prod_i (1 + x exp(plus_i) + y exp(minus_i)), for plus and minus [B, n]:
    the sum of exp(sum of plus over P + sum of minus over Q) over all disjoint P of p and Q of q places, p + q <= n.

    O(n p q) time and memory, in logarithms: all terms are positive, so nothing cancels. Row [a, b] holds the
    coefficient of x^a y^b in the product of the first k factors for every k from a + b on. With the last factor chosen
    for x or for y it is a sum over the places of that factor, so each row is one cumulative sum of two others.
    """
    rows = {(0, 0): plus.new_zeros(plus.shape[0], plus.shape[1] + 1)}
    for a, b in [(a, b) for a in range(p + 1) for b in range(q + 1)][1:]:
        terms = [plus[:, a + b - 1 :] + rows[a - 1, b][:, :-1]] if a else []
        terms += [minus[:, a + b - 1 :] + rows[a, b - 1][:, :-1]] if b else []
        term = torch.logaddexp(*terms) if len(terms) == 2 else terms[0]
        rows[a, b] = term.logsumexp(1, keepdim=True) if (a, b) == (p, q) else term.logcumsumexp(1)
    return rows[p, q].squeeze(1)


def clean(z: Tensor) -> Tensor:
    """Embeddings as float32 without NaN and infinities, so that a diverged row still decodes to some valid index."""
    return torch.nan_to_num(z.detach().float(), nan=0.0)


def extremes(z: Tensor, largest: int, smallest: int) -> tuple[Tensor, Tensor]:
    """Positions of the largest values of each row, falling, and of the smallest, rising: [B, largest], [B, smallest].

    Disjoint whatever the ties, as far as n allows: the first p and the first q of them never meet where p + q <= n.
    At most n of each.
    """
    n = z.shape[1]
    if largest + smallest > n:
        falling = z.argsort(dim=1, descending=True)
        return falling[:, : min(largest, n)], falling.flip(1)[:, : min(smallest, n)]
    top = z.argmax(1, keepdim=True) if largest == 1 else z.topk(largest, dim=1).indices
    if smallest == 0:
        return top, top[:, :0]
    rest = z.scatter(1, top, math.inf) if largest else z
    if smallest == 1:
        return top, rest.argmin(1, keepdim=True)
    return top, rest.topk(smallest, dim=1, largest=False).indices


def in_chunks(z: Tensor, rows: int, columns: int, work: Any) -> Tensor:
    """`work` of `rows` embeddings [B, n] at a time, int64 [B, columns]."""
    parts = [work(part) for part in z.split(max(1, rows))] if len(z) else []
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts) if parts else torch.empty((0, columns), dtype=torch.long, device=z.device)


def rising(positions: Tensor) -> list[Tensor]:
    """Positions [..., p] in any order -> p tensors, rising."""
    p = positions.shape[-1]
    if p == 2:
        one, other = positions.unbind(-1)
        return [torch.minimum(one, other), torch.maximum(one, other)]
    return list((positions if p < 2 else positions.sort(-1).values).unbind(-1))


def largest_cosine(rows: np.ndarray) -> float:
    """Between two different unit rows [N, n] float32, at most 1."""
    best = -1.0
    for start in range(0, len(rows), 1024):
        scores = rows[start : start + 1024] @ rows[start:].T
        np.fill_diagonal(scores, -1.0)
        best = max(best, float(scores.max()))
    return min(best, 1.0)


def helmert_scales(n: int) -> Tensor:
    """1 / sqrt(t (t + 1)) for t = 1..n, float32 rounded from float64."""
    t = torch.arange(1, n + 1, dtype=torch.float64)
    return (t * (t + 1)).rsqrt().float()


def helmert_expand(z: Tensor, scales: Tensor) -> Tensor:
    """[B, n] -> [B, n + 1], rows of sum 0 with the same norms and inner products, in O(n).

    Row t = 1..n of the Helmert matrix is (1, ..., 1, -t, 0, ..., 0) / sqrt(t (t + 1)) with t ones: the Gram-Schmidt
    basis of e_1 - e_2, e_1 + e_2 - 2 e_3, ... It keeps all angles of A_n (arXiv:2510.04090, Fig. 2b) and places a
    simplex of n + 1 vectors in n dimensions. `scales`: `helmert_scales`.
    """
    scaled = z * scales
    t = torch.arange(1, len(scales) + 1, dtype=z.dtype, device=z.device)
    # Coordinate j of the sum of scaled rows: the rows t >= j (1-based) have a one there, row j - 1 has -(j - 1).
    ones = scaled.flip(1).cumsum(1).flip(1)
    return torch.nn.functional.pad(ones, (0, 1)) + torch.nn.functional.pad(-t * scaled, (1, 0))


def helmert_columns(index: Tensor, scales: Tensor) -> Tensor:
    """What the unit vectors e_index of n + 1 coordinates are in n dimensions: [B, n], the matrix times e_index."""
    t = torch.arange(1, len(scales) + 1, device=index.device)
    at = index.unsqueeze(-1)
    return ((at < t).float() - (at == t).float() * t) * scales
