"""Systems: vectors computed from their index against rows of a dense table, and the loss path without rows.

The table of 1 281 167 vectors of V21 at n = 138 takes 707 MB; computing needs a row of Pascal's triangle, n integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.vectors import n_min, system
from lsc_engine.vectors.order import Order

from . import baselines
from .measure import Timed, alternate, megabytes, milliseconds, peak_bytes, same


def run(
    *, quick: bool = False, name: str = "V21", classes: int = 1_281_167, rounds: int = 15, device: str = "cpu"
) -> Result:
    """`name` at the smallest n for `classes`."""
    sizes, many = (256, 1024, 4096, 65536), 65536
    if quick:
        classes, rounds, sizes, many = 5_000, 3, (16, 64), 64
    n = n_min(name, classes)
    made = system(name, n)
    table = baselines.table_of(made, Order.make("sequential", made, 0), classes).to(device)
    rows, losses = Rows(), Rows()
    for size in sizes:
        index = torch.randint(classes, (size,), generator=torch.Generator().manual_seed(size)).to(device)
        z = torch.randn(size, n, generator=torch.Generator().manual_seed(1)).to(device)
        same(f"{size} vectors", made.vectors(index), table[index])
        same(f"{size} cosines", made.cosine(z, index), _dense(z, table, index), tolerance=2e-6)
        timed = alternate(
            {"computed": lambda i=index: made.vectors(i), "gather": lambda i=index: table[i]},  # type: ignore[misc]
            rounds=rounds,
        )
        rows.append(_row(size, timed, "gather"))
        with torch.no_grad():
            timed = alternate(
                {
                    "computed": lambda z=z, i=index: made.cosine(z, i),  # type: ignore[misc]
                    "gather + cosine": lambda z=z, i=index: _dense(z, table, i),  # type: ignore[misc]
                },
                rounds=rounds,
            )
        trained = alternate(_trained(made, z, table, index), rounds=rounds)
        row = _row(size, timed, "gather + cosine")
        row["with gradient, computed / dense"] = trained.ratio("computed", "gather + cosine")
        losses.append(row)

    peaks = [peak_bytes(lambda k=k: made.vectors(torch.arange(k - many, k, device=device)), device)
             for k in (many, classes, made.count)]  # fmt: skip
    most = rows[-1]["computed / dense"]
    slower = max(row["computed / dense"] for row in losses if row["rows"] >= min(1024, max(sizes)))
    few_ms = 1000 * losses[0]["seconds"]
    checks = [
        Check(f"vectors at {many:,} rows, against the gather", f"x {most:.2f} its time", "at most x 1.5",
              None if quick else most <= 1.5),
        Check("loss path from 1 024 rows, against gather + cosine", f"x {slower:.2f} its time at most", "below x 1",
              None if quick else slower < 1),
        Check(f"loss path at {sizes[0]} rows", f"{few_ms:.3f} ms", "at most 0.2 ms", None if quick else few_ms <= 0.2),
        Check("memory at the first, the last used and the last index", f"{megabytes(max(peaks) - min(peaks))} apart",
              "independent of the count", max(peaks) - min(peaks) < 1e4),
    ]  # fmt: skip
    for row in (*rows, *losses):
        del row["seconds"]
    notes = [
        f"{name} at n = {n}, {classes:,} classes, indices at random; the table takes {megabytes(table.nbytes)}, the "
        f"peak of computing {many:,} vectors is {megabytes(max(peaks))}, {megabytes(4.0 * many * n)} of it the result. "
        "Both sides give equal vectors bit by bit, and cosines within 2e-6."
    ]
    tables = [Table("vectors(index) against table[index]", rows),
              Table("loss path against gather + cosine", losses)]  # fmt: skip
    return Result("systems", checks, tables, notes)


def _dense(z: Tensor, table: Tensor, index: Tensor) -> Tensor:
    return torch.cosine_similarity(z, table[index])


def _trained(made: Any, z: Tensor, table: Tensor, index: Tensor) -> dict[str, Callable[[], Any]]:
    """Loss and gradient of both sides."""
    z = z.clone().requires_grad_()

    def computed() -> None:
        torch.autograd.grad(1 - made.cosine(z, index).mean(), z)

    def dense() -> None:
        torch.autograd.grad(1 - _dense(z, table, index).mean(), z)

    return {"computed": computed, "gather + cosine": dense}


def _row(size: int, timed: Timed, other: str) -> dict[str, Any]:
    return {
        "rows": size, "computed": milliseconds(timed.median("computed")), other: milliseconds(timed.median(other)),
        "computed / dense": timed.ratio("computed", other), "seconds": timed.median("computed"),
    }  # fmt: skip
