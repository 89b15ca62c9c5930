"""Unseen classes flagged by unused vectors: rates and ROC on classes that the training held out.

An embedding whose nearest vector of the whole system has no class is said to be new (a remark of arXiv:2604.00779);
this costs nothing beyond the label. Beside that one point of the ROC stand two scores: 1 - cosine to the nearest centre
in use, and how much nearer the nearest vector of the whole system is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import grouped
from lsc_engine.config.reporting import Claim
from lsc_engine.data.evaluation import fixed_subset
from lsc_engine.data.opening import open_source
from lsc_engine.data.source import ImageSource
from lsc_engine.heads.lsc import LscHead
from lsc_engine.report.figures import draw_roc
from lsc_engine.report.markdown import md, table
from lsc_engine.report.page import Page
from lsc_engine.report.sections.database import embedded, shares
from lsc_engine.report.study_data import StudyData
from lsc_engine.training.trained_run import TrainedRun, open_trained

# At most this many images of known and of held-out classes.
IMAGES = 4096
SCORES = ("distance", "margin")
# Unused vectors flag new classes if at least this share of the new and at most that of the known images is flagged.
LEAST_NEW, MOST_KNOWN = 0.5, 0.05
# The metrics that a report adds to the values of a run: the shares of images that are flagged.
FLAGGED_NEW, FLAGGED_KNOWN = "novelty/flagged_new", "novelty/flagged_known"
_HEAD = ("variant", "vectors unused %", "new flagged %", "known flagged %", "ROC area of the distance %",
         "ROC area of the margin %", "seeds")  # fmt: skip


@dataclass(frozen=True)
class Novelty:
    """One run on known and held-out classes. `flagged`: the shares said to be new, of the known and of the new."""

    known: int
    new: int
    unused: float
    flagged: tuple[float, float]
    areas: dict[str, float]
    curve: tuple[Tensor, Tensor]


def add_novelty(data: StudyData, page: Page) -> None:
    """Table and figure, the shares flagged of each run, and the claims that each variant flags new classes."""
    rows, curves = [], []
    facts: Novelty | None = None
    for row in data.rows:
        found = []
        for run in row.runs:
            try:
                trained = open_trained(run, device=torch.device("cpu"), data_dir=data.data_dir)
                found.append(novelty_of(trained, data))
            except LscError as error:
                page.missing.append(f"no held-out classes for {run.id}: {error}")
            else:
                page.values[run.id] |= dict(zip((FLAGGED_KNOWN, FLAGGED_NEW), found[-1].flagged, strict=True))
        if not found:
            continue
        facts = found[0]
        curves.append((row.label, (facts.curve[0].numpy(), facts.curve[1].numpy()), facts.flagged))
        page.claims += flags(row.variant)
        rows.append([
            md(row.label), f"{100 * facts.unused:.1f}", shares([one.flagged[1] for one in found]),
            shares([one.flagged[0] for one in found]), *(shares([one.areas[s] for one in found]) for s in SCORES),
            str(len(found)),
        ])  # fmt: skip
    if facts is None:
        return
    note = (
        f"{grouped(facts.known)} new images of known classes, {grouped(facts.new)} of classes held out. Flagged: the "
        "nearest vector of the whole system is no class's. Distance: 1 - cosine to the nearest centre in use. "
        "Margin: how much larger the largest cosine over all vectors is."
    )
    title = "Share of new classes flagged against share of known ones, by the distance; dots: unused vectors"
    figure = page.figure(title, draw_roc(curves, page.folder))
    page.add("New classes", table(_HEAD, rows, "lrrrrrr"), note, figure)


def flags(variant: str) -> list[Claim]:
    """That unused vectors flag new classes, and leave known ones alone."""
    new = {"text": "unused vectors flag classes that were held out", "is": "works", "threshold": LEAST_NEW}
    known = {"text": "and hardly any images of known classes", "is": "fails", "threshold": MOST_KNOWN}
    both = ((new, FLAGGED_NEW), (known, FLAGGED_KNOWN))
    return [
        Claim.model_validate({**claim, "variant": variant, "metric": metric, "source": "ours"})
        for claim, metric in both
    ]


def novelty_of(trained: TrainedRun, data: StudyData) -> Novelty:
    """Embed known and held-out images of one run. LscError if there are none, or no vectors."""
    head = trained.head
    if not isinstance(head, LscHead):
        raise LscError("it has a class layer and no vectors")
    whole = trained.config.data.model_copy(update={"classes": None})
    every = open_source(whole, split="val", data_dir=data.data_dir)
    if every is None:
        raise LscError("with unique labels there are no images of known classes that were not trained on")
    every = trained.with_own_labels(every, keep=True)
    of_known, new = images_by_class(every, head.classes)
    if not len(new):
        raise LscError("all classes of the data set are trained")
    z_known, _ = embedded(trained, every, of_known[fixed_subset(len(of_known), IMAGES)])
    z_new, _ = embedded(trained, every, new[fixed_subset(len(new), IMAGES)])
    known_scores, new_scores = scores(head, z_known), scores(head, z_new)
    flagged = [(head.predict(z, unused="new") < 0).double().mean().item() for z in (z_known, z_new)]
    areas = {name: area(known_scores[name], new_scores[name]) for name in SCORES}
    return Novelty(
        len(z_known), len(z_new), 1 - head.classes / head.system.count, (flagged[0], flagged[1]), areas,
        roc(known_scores["distance"], new_scores["distance"]),
    )  # fmt: skip


def images_by_class(source: ImageSource, first: int) -> tuple[Tensor, Tensor]:
    """The numbers of the images of classes below `first`, and of those of class `first` or above."""
    index = torch.arange(source.images)
    above = source.labels(index) >= first
    return index[~above], index[above]


@torch.no_grad()
def scores(head: LscHead, z: Tensor) -> dict[str, Tensor]:
    """How new each embedding [B, n] looks: larger is newer."""
    used = head.system.cosine(z, head.order.index(head.predict(z)))
    best = head.system.cosine(z, head.system.nearest(z))
    return {"distance": 1 - used, "margin": best - used}


def area(known: Tensor, new: Tensor) -> float:
    """Area under the ROC: how often a new image scores higher than a known one, ties counted half."""
    ranked = known.double().sort().values
    value = new.double()
    below, upto = torch.searchsorted(ranked, value), torch.searchsorted(ranked, value, right=True)
    return ((below + upto).double() / 2).mean().item() / len(ranked)


def roc(known: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of known and of new images above every threshold, rising, from (0, 0) to (1, 1)."""
    thresholds = torch.cat([known, new]).unique(sorted=True).flip(0)
    above = [1 - torch.searchsorted(one.sort().values, thresholds).double() / len(one) for one in (known, new)]
    start = torch.zeros(1, dtype=torch.float64)
    return torch.cat([start, above[0]]), torch.cat([start, above[1]])
