"""Unseen classes flagged by unused vectors: rates and ROC on classes that the training held out.

An embedding whose nearest vector of the whole system has no class is said to be new (a remark of arXiv:2604.00779);
this costs nothing beyond the label. Beside that one point of the ROC stand two scores: 1 - cosine to the nearest centre
in use, and how much nearer the nearest vector of the whole system is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from lsc_engine.config.reporting import Claim
from lsc_engine.data import ImageSource, fixed_subset, open_source
from lsc_engine.errors import LscError
from lsc_engine.heads.lsc import LscHead
from lsc_engine.report.curves import COLOURS, escaped
from lsc_engine.report.database import embedded, spread
from lsc_engine.report.drawing import STYLE, save
from lsc_engine.report.material import Material
from lsc_engine.report.text import grouped, md, plain, table
from lsc_engine.training.trained import Trained, open_trained

# At most so many images of known and of held-out classes.
IMAGES = 4096
SCORES = ("distance", "margin")
# Unused vectors flag new classes where at least this share of the new and at most that of the known images is flagged.
LEAST_NEW, MOST_KNOWN = 0.5, 0.05


@dataclass(frozen=True)
class Novelty:
    """One run on known and held-out classes. `flagged`: the shares said to be new, of the known and of the new."""

    known: int
    new: int
    unused: float
    flagged: tuple[float, float]
    areas: dict[str, float]
    curve: tuple[Tensor, Tensor]


# The metrics that a report adds to the values of a run: the shares of images that are flagged.
FLAGGED_NEW, FLAGGED_KNOWN = "novelty/flagged_new", "novelty/flagged_known"


@dataclass(frozen=True)
class NoveltyReport:
    """Texts and files of the section, the shares flagged by run id, the claims on them, and what is missing."""

    texts: list[str]
    files: list[Path]
    values: dict[str, dict[str, float]]
    claims: list[Claim]
    missing: list[str]


def novelty_section(material: Material, folder: Path) -> NoveltyReport:
    """Table and figure as Markdown, and whether each variant is said to flag new classes."""
    rows, missing, drawn, claims = [], [], [], []
    values: dict[str, dict[str, float]] = {}
    facts: Novelty | None = None
    for row in material.rows:
        found = []
        for run in row.runs:
            try:
                trained = open_trained(run, device=torch.device("cpu"), data_dir=material.data_dir)
                found.append(novelty_of(trained, material))
                values[run.id] = dict(zip((FLAGGED_KNOWN, FLAGGED_NEW), found[-1].flagged, strict=True))
            except LscError as error:
                missing.append(f"no held-out classes for {run.id}: {error}")
        if not found:
            continue
        facts = found[0]
        drawn.append((row.label, facts))
        claims += flags(row.runs[0].variant)
        rows.append([
            md(row.label), f"{100 * facts.unused:.1f}", spread([one.flagged[1] for one in found]),
            spread([one.flagged[0] for one in found]), *(spread([one.areas[s] for one in found]) for s in SCORES),
            str(len(found)),
        ])  # fmt: skip
    if facts is None:
        return NoveltyReport([], [], {}, [], missing)
    head = ["variant", "vectors unused %", "new flagged %", "known flagged %", "ROC area of the distance %",
            "ROC area of the margin %", "seeds"]  # fmt: skip
    words = (
        f"{grouped(facts.known)} new images of known classes, {grouped(facts.new)} of classes held out. Flagged: the "
        "nearest vector of the whole system is no class's. Distance: 1 - cosine to the nearest centre in use. "
        "Margin: how much larger the largest cosine over all vectors is."
    )
    title = "Share of new classes flagged against share of known ones, by the distance; dots: unused vectors"
    texts = [table(head, rows, "lrrrrrr"), words, f"![{md(title)}](novelty.svg)\n\n{md(title)}."]
    return NoveltyReport(texts, draw(drawn, folder), values, claims, missing)


def flags(variant: str) -> list[Claim]:
    """That unused vectors flag new classes, and leave known ones alone."""
    new = {"text": "unused vectors flag classes that were held out", "is": "works", "threshold": LEAST_NEW}
    known = {"text": "and hardly any images of known classes", "is": "fails", "threshold": MOST_KNOWN}
    both = ((new, FLAGGED_NEW), (known, FLAGGED_KNOWN))
    return [
        Claim.model_validate({**told, "variant": variant, "metric": metric, "source": "ours"}) for told, metric in both
    ]


def novelty_of(trained: Trained, material: Material) -> Novelty:
    """Embed known and held-out images of one run. LscError where there are none, or no vectors."""
    head, data = trained.head, trained.config.data
    if not isinstance(head, LscHead):
        raise LscError("it has a class layer and no vectors")
    whole = data.model_copy(update={"classes": None})
    every = open_source(whole, split="val", data_dir=material.data_dir)
    if every is None:
        raise LscError("with unique labels there are no images of known classes that were not trained on")
    every = trained.named(every, keep=True)
    of_known, new = images_by_class(every, head.classes)
    if not len(new):
        raise LscError("all classes of the data set are trained")
    z_known, _ = embedded(trained, every, of_known[fixed_subset(len(of_known), IMAGES)])
    z_new, _ = embedded(trained, every, new[fixed_subset(len(new), IMAGES)])
    scored = [scores(head, z) for z in (z_known, z_new)]
    flagged = tuple((head.predict(z, unused="new") < 0).double().mean().item() for z in (z_known, z_new))
    areas = {name: area(scored[0][name], scored[1][name]) for name in SCORES}
    return Novelty(
        len(z_known), len(z_new), 1 - head.classes / head.system.count, (flagged[0], flagged[1]), areas,
        roc(scored[0]["distance"], scored[1]["distance"]),
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
    shares = [1 - torch.searchsorted(one.sort().values, thresholds).double() / len(one) for one in (known, new)]
    start = torch.zeros(1, dtype=torch.float64)
    return torch.cat([start, shares[0]]), torch.cat([start, shares[1]])


def draw(found: Sequence[tuple[str, Novelty]], folder: Path) -> list[Path]:
    """novelty.svg and .png: the first seed of each variant."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(3.3, 2.8), layout="constrained")
        for number, (label, one) in enumerate(found):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(one.curve[0].numpy(), one.curve[1].numpy(), color=colour, label=escaped(plain(label)))
            axes.plot(*one.flagged, "o", color=colour, markersize=4, clip_on=False)
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.6)
        axes.set(xlabel="known flagged", ylabel="new flagged", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="lower right", frameon=False)
        return save(figure, folder, "novelty")
