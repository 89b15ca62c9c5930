"""Assign: what `order = "nearest:init"` costs, and how near the optimal assignment its ways for many classes come.

Class means are those of a run: embeddings of `spectrum` images by an untrained perceptron, standardised, every image
its own class.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.config.schema import Data, Model
from lsc_engine.data.dataset import open_source
from lsc_engine.data.source import normalise
from lsc_engine.models.build import build_model
from lsc_engine.vectors import choice, n_min, system
from lsc_engine.vectors.choice import cost, way

from .measure import megabytes

SIZE, MATCHED = 8, 1797
# Mean cosine against the optimal one, and seconds of one core at 1 281 167 classes.
NEAR, MINUTES = 0.98, 600.0


def run(*, quick: bool = False, name: str = "V21", classes: int = 1_281_167) -> Result:
    """`name` at the smallest n for `classes`, in one thread; the ways against the optimum at 1 797 classes."""
    matched, many = (60, (90, 600)) if quick else (MATCHED, (20_000, classes))
    with one_thread():
        against = [against_optimum(name, n, matched, found) for n, found in (
            (n_min(name, matched), "exchange"), (4 * n_min(name, matched), "proposals"))]  # fmt: skip
        rows = Rows()
        for count in many:
            rows.append(measured(name, count))
    worst = min(row["of the optimum"] for row in against)
    last = rows[-1]
    spent, peak, stated = (last.pop(key) for key in ("seconds", "bytes", "stated"))
    for row in rows[:-1]:
        del row["seconds"], row["bytes"], row["stated"]
    checks = [
        Check("mean cosine, of the optimal one", f"{worst:.1%} at least", f"at least {NEAR:.0%}", worst >= NEAR),
        Check(f"{many[-1]:,} classes on one core", f"{spent / 60:.1f} minutes", f"at most {MINUTES / 60:.0f} minutes",
              None if quick else spent <= MINUTES),
        Check("memory with the embeddings, against what `check` states", f"{megabytes(peak)} of {megabytes(stated)}",
              "at most that", None if quick else peak <= stated),
    ]  # fmt: skip
    notes = [
        f"`spectrum` at {SIZE} px, every image its own class, {name}. Optimum: the dense assignment problem by scipy "
        "for n_min, the sparse matching beyond. At most: the mean cosine if classes could share vectors. Seconds are "
        "those of a processor; memory is the largest of the process beyond what it held before the embeddings."
    ]
    return Result("assign", checks, [Table(f"Against the optimum, {matched:,} classes", against),
                                     Table("Many classes at n_min", rows)], notes)  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def class_means(classes: int, n: int) -> Tensor:
    """[classes, n]: what an untrained perceptron makes of each image, standardised over all."""
    source = open_source(Data(dataset="spectrum", labels="unique", classes=classes, image_size=SIZE),
                         split="train", device=torch.device("cpu"))  # fmt: skip
    model = build_model(Model(name="mlp", width=0.25), channels=3, size=SIZE, dim=n, seed=0).eval()
    z = torch.empty(classes, n)
    for part in torch.arange(classes).split(4096):
        z[part] = model(normalise(source.fetch(part)))
    return z.sub_(z.mean(0)).div_(z.std(0))


def against_optimum(name: str, n: int, classes: int, found: str) -> dict[str, Any]:
    made, means = system(name, n), normalize(class_means(classes, n), dim=1)
    ways = {"exchange": choice._exchanged, "proposals": choice._proposed}
    chosen = ways[found](made, means, lambda: None)
    if found == "exchange":
        row, column = linear_sum_assignment((means @ made.vectors(torch.arange(made.count)).T).numpy(), maximize=True)
        best = torch.empty(classes, dtype=torch.long)
        best[torch.from_numpy(row)] = torch.from_numpy(column)
    else:
        best = choice._matched(made, means, lambda: None)
    cosine, most = (float(made.cosine(means, index).mean()) for index in (chosen, best))
    return {"n": n, "vectors": made.count, "way": found, "mean cosine": cosine, "optimum": most,
            "of the optimum": cosine / most}  # fmt: skip


def measured(name: str, classes: int) -> dict[str, Any]:
    """Time and memory of the choice for `classes` of `name` at n_min, beside what `check` states."""
    made, before = system(name, n_min(name, classes)), psutil.Process().memory_info().rss
    began = time.process_time()
    means = class_means(classes, made.n)
    passed = time.process_time()
    chosen = choice.assign_nearest(made, means)
    ended = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    guessed, stated = cost(made, classes)
    parts = zip(means.split(65_536), chosen.split(65_536), strict=True)
    cosines = [(made.cosine(z, index).sum(), made.cosine(z, made.nearest(z)).sum()) for z, index in parts]
    reached, most = (float(sum(column)) / classes for column in zip(*cosines, strict=True))
    return {
        "classes": classes, "n": made.n, "vectors": made.count, "way": way(made, classes),
        "embeddings": f"{passed - began:.1f} s", "assignment": f"{ended - passed:.1f} s",
        "`check` states": f"{guessed} s", "mean cosine": reached, "at most": most,
        "seconds": ended - passed, "bytes": peak, "stated": stated,
    }  # fmt: skip
