"""A database of embeddings: its bytes, the recall of its nearest neighbours, and the label by structure beside them.

The training images of a run are the database, its validation images the queries; a query is served by k neighbours
(largest cosine) where one of them has its class. With unique labels no second image of a class exists: one augmented
view of each image is the query, and its own image the answer. arXiv:2512.07509 names smaller databases as what n_min
may bring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lsc_engine.config.reporting import Claim
from lsc_engine.data import ImageSource, eval_batches, fixed_subset, open_source
from lsc_engine.errors import LscError
from lsc_engine.report.material import Material
from lsc_engine.report.text import grouped, md, size, table
from lsc_engine.runs.read.run import Run
from lsc_engine.training.trained import Trained, open_trained

# At most so many queries, and so many images in the database that is searched.
QUERIES, STORED = 4096, 131_072
NEIGHBOURS = (1, 10)
# A smaller database finds as well as the baseline's where recall@1 is at most this much less.
MARGIN = 0.02
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


# The metric that a report adds to the values of a run.
RECALL = "database/recall_1"


def database_section(material: Material) -> tuple[str, dict[str, dict[str, float]], list[Claim], list[str]]:
    """The table of all variants as Markdown, the recall of each run by its id, the claims that smaller databases find
    as well, and what is missing."""
    rows, missing = [], []
    facts: Recall | None = None
    answers: dict[str, list[Recall]] = {}
    values: dict[str, dict[str, float]] = {}
    for row in material.rows:
        by_run, sentences = recalls(row.runs, material)
        missing += sentences
        if not by_run:
            continue
        found = list(by_run.values())
        facts, answers[row.runs[0].variant] = found[0], found
        values |= {name: {RECALL: one.recall[1]} for name, one in by_run.items()}
        rows.append([
            md(row.label), grouped(facts.n), size(_FLOAT * facts.n), size(float(_FLOAT * facts.n * facts.images)),
            *(spread([one.recall[k] for one in found]) for k in NEIGHBOURS), spread([one.label for one in found]),
            str(len(found)),
        ])  # fmt: skip
    if facts is None:
        return "", {}, [], missing
    head = ["variant", "n", "an embedding", f"{grouped(facts.images)} embeddings"]
    head += [f"recall@{k} %" for k in NEIGHBOURS] + ["label by the head %", "seeds"]
    words = (
        f"{grouped(facts.queries)} queries in {grouped(facts.stored)} of {grouped(facts.images)} embeddings (float32), "
        "by the largest cosine. Recall: one of the k nearest has the query's class."
    )
    base = material.baseline.runs[0].variant if material.baseline is not None else ""
    claims = [
        smaller(name, found[0].n, base, answers[base][0].n)
        for name, found in answers.items()
        if base in answers and found[0].n < answers[base][0].n
    ]
    return "\n\n".join([table(head, rows, "lrrrrrrr"), words]), values, claims, missing


def smaller(variant: str, n: int, base: str, larger: int) -> Claim:
    """That a smaller database finds as well as that of the baseline."""
    told = {"text": f"a database {larger / n:.3g} times smaller finds as well", "variant": variant, "against": base}
    whose = "ours: what a smaller database finds is not measured in the papers"
    return Claim.model_validate({**told, "is": "similar", "metric": RECALL, "margin": MARGIN, "source": whose})


def spread(shares: Sequence[float]) -> str:
    """Mean and standard deviation of shares in per cent."""
    values = torch.tensor(shares, dtype=torch.float64) * 100
    deviation = f" ± {values.std().item():.1f}" if len(shares) > 1 else ""
    return f"{values.mean().item():.1f}{deviation}"


def recalls(runs: Sequence[Run], material: Material) -> tuple[dict[str, Recall], list[str]]:
    """What the finished seeds of a variant answer, by run id, and why others do not."""
    found: dict[str, Recall] = {}
    missing = []
    for run in runs:
        try:
            trained = open_trained(run, device=torch.device("cpu"), data_dir=material.data_dir)
            found[run.id] = recall_of(trained, material)
        except LscError as error:
            missing.append(f"no database of {run.id}: {error}")
    return found, missing


def recall_of(trained: Trained, material: Material) -> Recall:
    """Search the database of one run. LscError where its images are not there."""
    data = trained.config.data
    source = trained.named(open_source(data, split="train", data_dir=material.data_dir))
    other = open_source(data, split="val", data_dir=material.data_dir)
    other = None if other is None else trained.named(other)
    index = fixed_subset(source.images, STORED)
    stored, labels = embedded(trained, source, index)
    if other is not None:
        queries, wanted = embedded(trained, other, fixed_subset(other.images, QUERIES))
    else:
        chosen = index[fixed_subset(len(index), QUERIES)]
        queries, wanted = embedded(trained, source, chosen, views=(0, "image"))
    recall = dict(zip(NEIGHBOURS, search(stored, labels, queries, wanted), strict=True))
    told = torch.cat([trained.head.predict(part) for part in queries.split(_AT_ONCE)])
    right = (told == wanted).double().mean().item()
    return Recall(trained.dim, source.images, len(stored), len(queries), recall, right)


def embedded(
    trained: Trained, source: ImageSource, index: Tensor, views: tuple[int, str] | None = None
) -> tuple[Tensor, Tensor]:
    """Embeddings [M, n] and labels [M] of the images numbered `index`."""
    parts = [(trained.embed(b.images), b.labels) for b in eval_batches(source, index, _AT_ONCE, views=views)]
    return torch.cat([z for z, _ in parts]), torch.cat([labels for _, labels in parts])


def search(stored: Tensor, labels: Tensor, queries: Tensor, wanted: Tensor) -> list[float]:
    """Per number in NEIGHBOURS the share of queries [Q, n] with an embedding of their class among so many nearest."""
    unit = F.normalize(stored)
    most = min(max(NEIGHBOURS), len(stored))
    near = torch.cat([labels[(F.normalize(q) @ unit.T).topk(most).indices] for q in queries.split(_AT_ONCE)])
    hits = (near == wanted.unsqueeze(1)).cummax(dim=1).values
    return [hits[:, min(k, most) - 1].double().mean().item() for k in NEIGHBOURS]
