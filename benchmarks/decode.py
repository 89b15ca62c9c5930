"""Decode: the exact label of an embedding at 1.28 million classes, against an exhaustive search.

Ours follows from the structure of the system, or from a scan of the classes in use where these are few among the
vectors; the other side holds the dense table of all classes and takes the arg max of a matrix product (and of FAISS's
flat index, where FAISS is installed). Embeddings are random, which is the hard case
where vectors are unused: those of a trained network lie near a vector in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lsc_engine.bench import Check, Result, Rows, Table, machine
from lsc_engine.common.errors import LscError
from lsc_engine.heads.lsc import LscHead
from lsc_engine.vectors import n_min, system
from lsc_engine.vectors.order import Order

from . import baselines
from .measure import alternate, free_bytes, megabytes, milliseconds, peak_bytes, wait

# Numbers of classes from a thousand to ten million.
GROWTH = "1000,10000,100000,1281167,10000000"
# Rows of the table of a code whose products with a batch of 256 fit a cache: 1, 2 and 4 MB.
_BLOCKS = (1024, 2048, 4096)
# How far below the best cosine a label's may lie: float32 rounding of either side.
ROUNDING = 2e-6


def run(
    *, quick: bool = False, classes: int = 1_281_167, systems: str = "V21,V22,V33", n: int = 384,
    batches: str = "1,16,256", rounds: int = 7, images: int = 1024, growth: str = GROWTH,
    device: str = "cpu",
) -> Result:  # fmt: skip
    """`systems`, `batches`: comma-separated; `n`: where vectors are unused; `images`: of the evaluation; `growth`:
    the numbers of classes that the first system is timed at, at its n_min."""
    if quick:
        classes, systems, n, batches, rounds, images = 2_000, "V21,V22", 24, "1,64", 3, 64
        growth = "100,1000"
    sizes = [int(word) for word in str(batches).split(",")]
    rows = []
    for name in systems.split(","):
        for dim in (n_min(name, classes), n):
            rows += _case(name, dim, classes, sizes, rounds, device)
    shares = _evaluation(classes, images, quick, torch.device(device))
    words = _words(16 if quick else 64, max(sizes), rounds, device)
    grown = [_grown(systems.split(",")[0], int(word), max(sizes), rounds, device) for word in str(growth).split(",")]

    tight = min(row["faster"] for row in rows if row["of these in use"] > 0.5 and row["batch"] >= min(256, max(sizes)))
    # Every row of every table counts where something is said to hold in all cases.
    cases = [(row["faster"], f"{row['system']}, n = {row['n']}, batch {row['batch']}") for row in rows]
    cases += [(row["faster"], f"{row['classes']:,} classes") for row in grown if row["faster"] is not None]
    slowest, where = min(cases)
    figure = f"x {slowest:.3g} ({where})"
    checks = [
        Check("n_min, batch 256 and above, against the matrix product", f"x {tight:,.0f}", "at least x 1000",
              None if quick else tight >= 1000),
        Check("slowest of all cases against the matrix product", figure, "never slower",
              None if quick else slowest >= 1),
        Check("labels of another cosine than the best", "0", "0", True),
        Check("bch, all words, against the matrix product", f"x {words['against product']:.3g}", "at least x 5",
              None if quick else words["against product"] >= 5),
        Check("bch, all words, against the product in blocks", f"x {words['against blocks']:.3g}", "above x 1",
              None if quick else words["against blocks"] > 1),
        Check(
            f"{systems.split(',')[0]} at n_min: faster from",
            _first_faster(grown),
            "no bar",
            None if quick else True,
        ),
    ]  # fmt: skip
    if all(row["FAISS"] == "not installed" for row in rows):
        checks.append(Check("against FAISS flat", "-", "never slower", None))
    else:
        worst = min(float(row["against FAISS"]) for row in rows)
        checks.append(Check("against FAISS flat", f"x {worst:.3g}", "never slower", None if quick else worst >= 1))
    notes = [
        "Every label of either side has the largest cosine over all classes, in float64, within "
        f"{ROUNDING:g}; the run fails otherwise. `different`: labels that differ between the sides by such ties.",
        "The table that the exhaustive sides search is not counted in their time; it takes "
        f"{megabytes(4.0 * classes * n)} at n = {n}. `kept`: row numbers of classes that ours keeps where it scans, "
        "at most 67 MB whatever the number of classes; the first call, timed by itself, makes them.",
    ]
    tables = [Table(f"Labels of random embeddings, {classes:,} classes", rows),
              Table(f"{systems.split(',')[0]} at n_min against the number of classes, batch {max(sizes)}", grown),
              Table("Nearest of all words of a BCH code, by Hadamard transforms", [words]),
              Table("Share of an evaluation", shares)]  # fmt: skip
    return Result("decode", checks, tables, notes, machine=machine("faiss-cpu"))


def _grown(name: str, classes: int, batch: int, rounds: int, device: str) -> dict[str, Any]:
    """One number of classes: ours at n_min, the exhaustive sides where a table of all classes fits."""
    n = n_min(name, classes)
    needed = 4.0 * classes * n
    if needed * 1.3 > free_bytes(device) / 2:
        made = system(name, n)
        head = LscHead(made, Order.make("shuffled", made, 0), classes)
        z = torch.randn(batch, n, generator=torch.Generator().manual_seed(batch)).to(device)
        timed = alternate({"ours": lambda: head.predict(z)}, rounds=rounds, most=8.0)
        return {
            "classes": classes, "n": n, "ours": milliseconds(timed.median("ours")), "matrix product": "does not fit",
            "faster": None, "FAISS": "does not fit", "table of the others": megabytes(needed),
        }  # fmt: skip
    row = _case(name, n, classes, [batch], rounds, device)[0]
    return {
        "classes": classes, "n": n, **{key: row[key] for key in ("ours", "matrix product", "faster", "FAISS")},
        "table of the others": megabytes(needed),
    }  # fmt: skip


def _words(n: int, batch: int, rounds: int, device: str) -> dict[str, Any]:
    """The nearest of all words of the code `bch` against the product with the table of them, whole and in the fastest
    of three sizes of blocks that fit a cache."""
    made = system("bch", n)
    table = made.vectors(torch.arange(made.count, device=device))
    z = torch.randn(batch, n, generator=torch.Generator().manual_seed(batch)).to(device)
    _check(z, table, made.nearest(z), baselines.gemm_labels(z, table))
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: made.nearest(z),
        "product": lambda: (z @ table.T).argmax(1),
        **{f"{rows}": lambda rows=rows: baselines.gemm_labels(z, table, rows) for rows in _BLOCKS},  # type: ignore[misc]
    }
    timed = alternate(sides, rounds=rounds, most=8.0)
    blocks = min((f"{rows}" for rows in _BLOCKS), key=timed.median)
    return {
        "n": n, "words": made.count, "largest cosine": made.max_cosine, "batch": batch,
        "ours": milliseconds(timed.median("ours")), "product": milliseconds(timed.median("product")),
        "in blocks": milliseconds(timed.median(blocks)), "rows a block": int(blocks),
        "against product": timed.ratio("product", "ours"), "against blocks": timed.ratio(blocks, "ours"),
        "peak of ours": megabytes(peak_bytes(lambda: made.nearest(z), device)),
        "table of the others": megabytes(table.nbytes),
    }  # fmt: skip


def _first_faster(grown: list[dict[str, Any]]) -> str:
    """The fewest classes from which on ours is the faster side, of those that were timed."""
    slower = [row["classes"] for row in grown if row["faster"] is not None and row["faster"] < 1]
    found = [row["classes"] for row in grown if row["faster"] is not None and row["classes"] > max(slower, default=0)]
    return f"{min(found):,} classes" if found else "none of these"


def _case(name: str, n: int, classes: int, sizes: list[int], rounds: int, device: str) -> list[dict[str, Any]]:
    made = system(name, n)
    order = Order.make("shuffled", made, 0)
    head = LscHead(made, order, classes)
    if 4.0 * classes * n * 1.3 > free_bytes(device):
        raise LscError(f"the table of {classes:,} rows at n = {n} does not fit in the memory that is free")
    table = baselines.table_of(made, order, classes, device=device)
    index = baselines.faiss_flat(table)
    rows = Rows()
    for batch in sizes:
        z = torch.randn(batch, n, generator=torch.Generator().manual_seed(batch)).to(device)
        wait()
        began = time.perf_counter()
        ours = head.predict(z)
        wait()
        first = time.perf_counter() - began
        theirs = baselines.gemm_labels(z, table)
        _check(z, table, ours, theirs)
        sides: dict[str, Callable[[], Any]] = {
            "ours": lambda z=z: head.predict(z),  # type: ignore[misc]
            "gemm": lambda z=z: baselines.gemm_labels(z, table),  # type: ignore[misc]
        }
        if index is not None:
            sides["faiss"] = lambda z=z: index.search(z.cpu().numpy(), 1)  # type: ignore[misc]
        timed = alternate(sides, rounds=rounds, most=8.0)
        rows.append(
            {
                "system": name, "n": n, "vectors": made.count, "of these in use": classes / made.count, "batch": batch,
                "ours": milliseconds(timed.median("ours")), "matrix product": milliseconds(timed.median("gemm")),
                "faster": timed.ratio("gemm", "ours"),
                "FAISS": milliseconds(timed.median("faiss")) if index is not None else "not installed",
                "against FAISS": timed.ratio("faiss", "ours") if index is not None else None,
                "different": int((ours != theirs).sum()), "first call": milliseconds(first),
                "kept": megabytes(_kept(head)),
            }
        )  # fmt: skip
    return rows


def _kept(head: LscHead) -> int:
    """Bytes that the head's scan keeps."""
    return sum(part.nbytes for parts in head._scan._kept.values() for part in parts)


def _check(z: Tensor, table: Tensor, ours: Tensor, theirs: Tensor) -> None:
    """LscError unless both labels have the best cosine within rounding, computed in float64."""
    unit = torch.nn.functional.normalize(z.double())
    cosines = [(unit * table[labels].double()).sum(1) for labels in (ours, theirs)]
    worst = float((cosines[1] - cosines[0]).abs().max())
    if worst > ROUNDING:
        raise LscError(f"labels differ: their cosines are {worst:.3g} apart")


def _evaluation(classes: int, images: int, quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """The whole of `evaluate` with the label by an exhaustive search and by structure, V21 at n_min."""
    from lsc_engine.data.batches import Batch
    from lsc_engine.models.backbones.encoder import Encoder
    from lsc_engine.training.evaluator import evaluate

    n = n_min("V21", classes)
    made = system("V21", n)
    head = _TimedHead(made, Order.make("shuffled", made, 0), classes)
    table = baselines.table_of(made, head.order, classes, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Encoder().build(3, 32, n, 0.1 if quick else 1.0).to(device)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(images, 3, 32, 32, generator=generator).to(device)
    labels = torch.randint(classes, (images,), generator=generator).to(device)
    batches = [
        Batch(part, label, None, label) for part, label in zip(pixels.split(512), labels.split(512), strict=True)
    ]
    rows, values = [], []
    for side, dense in (("label by matrix product", table), ("label by structure", None)):
        shares, whole = [], []
        for _ in range(2):
            head.table, head.seconds = dense, 0.0
            began = time.perf_counter()
            values.append(evaluate(model, head, batches, device=device, dtype=None))
            whole.append(time.perf_counter() - began)
            shares.append(head.seconds / whole[-1])
        rows.append(
            {"": side, "evaluation": milliseconds(min(whole)), "share of the label": f"{100 * shares[-1]:.3g} %"}
        )
    if any(value != values[0] for value in values):
        raise LscError(f"evaluations differ: {values}")
    return rows


class _TimedHead(LscHead):
    """The head, with the time of its labels counted and, where `table` is set, labels by exhaustive search."""

    table: Tensor | None = None
    seconds = 0.0

    @torch.no_grad()
    def predict(self, z: Tensor, unused: str = "nearest") -> Tensor:
        wait()
        began = time.perf_counter()
        labels = super().predict(z, unused) if self.table is None else baselines.gemm_labels(z, self.table)
        wait()
        self.seconds += time.perf_counter() - began
        return labels
