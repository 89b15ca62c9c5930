"""The comparison of embeddings with every class as one Triton kernel; imported where a label is looked for on CUDA."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Classes of one program, classes compared at once, and embeddings.
_SHARE, _CLASSES, _ROWS = 4096, 32, 64


@triton.jit
def _kernel(
    numbers_at,
    rows_at,
    value_at,
    label_at,
    classes,
    count,
    EACH: tl.constexpr,
    SHARE: tl.constexpr,
    CLASSES: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The best of SHARE classes for ROWS embeddings: value and label."""
    part = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    known = row < count
    best = tl.full((ROWS,), float("-inf"), tl.float32)
    label = tl.zeros((ROWS,), tl.int64)
    for step in range(SHARE // CLASSES):
        one = part * SHARE + step * CLASSES + tl.arange(0, CLASSES)
        inside = one < classes
        scores = tl.zeros((CLASSES, ROWS), tl.float32)
        for place in range(EACH):
            number = tl.load(numbers_at + one * EACH + place, mask=inside, other=0).to(tl.int64)
            at = rows_at + number[:, None] * count + row[None, :]
            scores += tl.load(at, mask=inside[:, None] & known[None, :], other=0.0)
        scores = tl.where(inside[:, None], scores, float("-inf"))
        value, at_best = tl.max(scores, axis=0, return_indices=True)
        better = value > best
        label = tl.where(better, part * SHARE + step * CLASSES + at_best, label)
        best = tl.where(better, value, best)
    tl.store(value_at + part * count + row, best, mask=known)
    tl.store(label_at + part * count + row, label, mask=known)


def best(numbers: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """For each of the B columns of `rows` [R, B] float32, the largest sum of the rows that a class of `numbers`
    [classes, k] int32 names, and that class: [B] float32, [B] int64. No score of a class is ever in memory."""
    numbers, rows = numbers.contiguous(), rows.contiguous()
    (classes, each), count = numbers.shape, rows.shape[1]
    parts = triton.cdiv(classes, _SHARE)
    values = torch.empty((parts, count), device=rows.device)
    labels = torch.empty((parts, count), dtype=torch.int64, device=rows.device)
    sizes = {"EACH": each, "SHARE": _SHARE, "CLASSES": _CLASSES, "ROWS": _ROWS}
    with torch.cuda.device_of(rows):
        _kernel[(parts, triton.cdiv(count, _ROWS))](numbers, rows, values, labels, classes, count, **sizes)
    value, part = values.max(0)
    return value, labels.gather(0, part.unsqueeze(0)).squeeze(0)


def trial() -> None:
    """Build the kernel and run it once. Whatever Triton raises where that fails."""
    best(torch.zeros((1, 1), dtype=torch.int32, device="cuda"), torch.zeros((1, 1), device="cuda"))
    torch.cuda.synchronize()
