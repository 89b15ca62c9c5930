"""A database of embeddings: its bytes, the recall of its nearest neighbours, and the label by structure beside them.

The training images of a run are the database, its validation images the queries; a query is served by k neighbours
(largest cosine) if one of them has its class. With unique labels no second image of a class exists: one augmented
view of each image is the query, and its own image the answer. arXiv:2512.07509 names smaller databases as what n_min
may bring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import grouped, size
from lsc_engine.config.reporting import Claim
from lsc_engine.data.evaluation import eval_batches, fixed_subset
from lsc_engine.data.opening import open_source
from lsc_engine.data.source import ImageSource
from lsc_engine.report.markdown import md, table
from lsc_engine.report.page import Page
from lsc_engine.report.study_data import StudyData
from lsc_engine.training.trained_run import TrainedRun, open_trained

# At most this many queries, and images in the database that is searched.
QUERIES, STORED = 4096, 131_072
NEIGHBOURS = (1, 10)
# A smaller database finds as well as the baseline's if recall@1 is at most this much less.
MARGIN = 0.02
# The metric that a report adds to the values of a run.
RECALL = "database/recall_1"
_AT_ONCE = 256
_FLOAT = 4


@dataclass(frozen=True)
class Recall:
    """What the database of one run answers. Shares of the queries."""

    n: int
    images: int
    stored: int
    queries: int
    recall: dict[int, float]
    label: float


def add_database(data: StudyData, page: Page) -> None:
    """The table of all variants, the recall of each run, and the claims that smaller databases find as well."""
    rows = []
    answers: dict[str, Recall] = {}
    for row in data.rows:
        found = []
        for run in row.runs:
            try:
                trained = open_trained(run, device=torch.device("cpu"), data_dir=data.data_dir)
                found.append(recall_of(trained, data))
            except LscError as error:
                page.missing.append(f"no database of {run.id}: {error}")
            else:
                page.values[run.id][RECALL] = found[-1].recall[1]
        if found:
            answers[row.variant] = one = found[0]
            rows.append([
                md(row.label), grouped(one.n), size(_FLOAT * one.n), size(float(_FLOAT * one.n * one.images)),
                *(shares([r.recall[k] for r in found]) for k in NEIGHBOURS), shares([r.label for r in found]),
                str(len(found)),
            ])  # fmt: skip
    if not answers:
        return
    one = next(reversed(answers.values()))
    head = ["variant", "n", "an embedding", f"{grouped(one.images)} embeddings"]
    head += [f"recall@{k} %" for k in NEIGHBOURS] + ["label by the head %", "seeds"]
    note = (
        f"{grouped(one.queries)} queries in {grouped(one.stored)} of {grouped(one.images)} embeddings (float32), "
        "by the largest cosine. Recall: one of the k nearest has the query's class."
    )
    page.add("Database of embeddings", table(head, rows, "lrrrrrrr"), note)
    base = data.baseline.variant if data.baseline is not None else ""
    page.claims += [
        smaller(name, found.n, base, answers[base].n)
        for name, found in answers.items()
        if base in answers and found.n < answers[base].n
    ]


def smaller(variant: str, n: int, base: str, larger: int) -> Claim:
    """That a smaller database finds as well as that of the baseline."""
    claim = {"text": f"a database {larger / n:.3g} times smaller finds as well", "variant": variant, "against": base}
    whose = "ours: what a smaller database finds is not measured in the papers"
    return Claim.model_validate({**claim, "is": "similar", "metric": RECALL, "margin": MARGIN, "source": whose})


def shares(values: Sequence[float]) -> str:
    """Mean and standard deviation of shares, in per cent."""
    found = torch.tensor(values, dtype=torch.float64) * 100
    deviation = f" ± {found.std().item():.1f}" if len(values) > 1 else ""
    return f"{found.mean().item():.1f}{deviation}"


def recall_of(trained: TrainedRun, data: StudyData) -> Recall:
    """Search the database of one run. LscError if its images are not there."""
    images = trained.config.data
    source = trained.with_own_labels(open_source(images, split="train", data_dir=data.data_dir))
    other = open_source(images, split="val", data_dir=data.data_dir)
    index = fixed_subset(source.images, STORED)
    stored, labels = embedded(trained, source, index)
    if other is not None:
        queries, wanted = embedded(trained, trained.with_own_labels(other), fixed_subset(other.images, QUERIES))
    else:
        chosen = index[fixed_subset(len(index), QUERIES)]
        queries, wanted = embedded(trained, source, chosen, views=(0, "image"))
    recall = dict(zip(NEIGHBOURS, search(stored, labels, queries, wanted), strict=True))
    predicted = torch.cat([trained.head.predict(part) for part in queries.split(_AT_ONCE)])
    right = (predicted == wanted).double().mean().item()
    return Recall(trained.dim, source.images, len(stored), len(queries), recall, right)


def embedded(
    trained: TrainedRun, source: ImageSource, index: Tensor, views: tuple[int, str] | None = None
) -> tuple[Tensor, Tensor]:
    """Embeddings [M, n] and labels [M] of the images numbered `index`."""
    parts = [(trained.embed(b.images), b.labels) for b in eval_batches(source, index, _AT_ONCE, views=views)]
    return torch.cat([z for z, _ in parts]), torch.cat([labels for _, labels in parts])


def search(stored: Tensor, labels: Tensor, queries: Tensor, wanted: Tensor) -> list[float]:
    """Per k in NEIGHBOURS the share of queries [Q, n] with an embedding of their class among the k nearest."""
    unit = F.normalize(stored)
    most = min(max(NEIGHBOURS), len(stored))
    near = torch.cat([labels[(F.normalize(q) @ unit.T).topk(most).indices] for q in queries.split(_AT_ONCE)])
    hits = (near == wanted.unsqueeze(1)).cummax(dim=1).values
    return [hits[:, min(k, most) - 1].double().mean().item() for k in NEIGHBOURS]
