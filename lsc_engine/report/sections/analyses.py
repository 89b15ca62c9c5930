"""What [analysis] measures on trained networks: a database of their embeddings, classes that training held out, and how
often labels are right beside their probability. Database (arXiv:2512.07509): training images are stored, validation
images are the queries; one of k neighbours by the largest cosine should have the query's class. With unique labels an
augmented view is the query, its image the answer. New classes (a remark of arXiv:2604.00779): an embedding whose
nearest vector of the whole system has no class is new. Two scores beside it: 1 - cosine to the nearest centre in use,
and how much nearer the nearest vector of all is. Calibration (training/calibration.py): one scale fitted on half of the
validation images, judged on the other half."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lsc_engine.analysis.compare import Row
from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import grouped, size
from lsc_engine.config.preset import Claim
from lsc_engine.data.batches import eval_batches, fixed_subset
from lsc_engine.data.dataset import open_source
from lsc_engine.data.source import ImageSource
from lsc_engine.heads.lsc import LscHead
from lsc_engine.report.figures import draw_roc
from lsc_engine.report.page import Page, md, table
from lsc_engine.report.study_data import StudyData
from lsc_engine.training.calibration import fit_scale, probability
from lsc_engine.training.embedding_metrics import auroc, calibration_error
from lsc_engine.training.trained_run import TrainedRun, open_trained

# At most this many queries, images in the database that is searched, and images of known and of held-out classes.
QUERIES, STORED, IMAGES = 4096, 131_072, 4096
NEIGHBOURS = (1, 10)
# A smaller database finds as well as the baseline's if recall@1 is at most this much less.
MARGIN = 0.02
# Unused vectors flag new classes if at least this share of the new and at most that of the known images is flagged.
LEAST_NEW, MOST_KNOWN = 0.5, 0.05
SCORES = ("distance", "margin")
# The metrics that a report adds to the values of a run.
RECALL, FLAGGED_NEW, FLAGGED_KNOWN = "database/recall_1", "novelty/flagged_new", "novelty/flagged_known"
CALIBRATED_LOSS, CALIBRATION_ERROR = "calibration/loss", "calibration/error"
_AT_ONCE = 256
_FLOAT = 4
Found = TypeVar("Found")


def _measured(
    data: StudyData, page: Page, what: str, measure: Callable[[TrainedRun, StudyData], Found]
) -> Iterator[tuple[Row, list[tuple[str, Found]]]]:
    """What is measured of the runs of each row, by run id; a run of which it cannot be is a sentence of the page."""
    for row in data.rows:
        found = []
        for run in row.runs:
            try:
                trained = open_trained(run, device=torch.device("cpu"))
                found.append((run.id, measure(trained, data)))
            except LscError as error:
                page.missing.append(f"no {what} {run.id}: {error}")
        if found:
            yield row, found


def _shares(values: Sequence[float]) -> str:
    found = torch.tensor(values, dtype=torch.float64) * 100
    deviation = f" ± {found.std().item():.1f}" if len(values) > 1 else ""
    return f"{found.mean().item():.1f}{deviation}"


def embedded(
    trained: TrainedRun, source: ImageSource, index: Tensor, views: tuple[int, str] | None = None
) -> tuple[Tensor, Tensor]:
    """Embeddings [M, n] and labels [M] of the images numbered `index`."""
    parts = [(trained.embed(b.images), b.labels) for b in eval_batches(source, index, _AT_ONCE, views=views)]
    return torch.cat([z for z, _ in parts]), torch.cat([labels for _, labels in parts])


class Recall(NamedTuple):
    """What is found in the database of one run, as shares of the queries; `label`: of those with the right label."""

    n: int
    images: int
    stored: int
    queries: int
    recall: list[float]
    label: float


def add_database(data: StudyData, page: Page) -> None:
    """The table of all variants, the recall of each run, and the claims that smaller databases find as well."""
    rows = []
    answers: dict[str, Recall] = {}
    for row, measured in _measured(data, page, "database of", _recall_of):
        for name, one in measured:
            page.values[name][RECALL] = one.recall[0]
        found = [one for _, one in measured]
        answers[row.variant] = one = found[0]
        cells = [md(row.label), grouped(one.n), size(_FLOAT * one.n), size(float(_FLOAT * one.n * one.images))]
        cells += [_shares([r.recall[place] for r in found]) for place in range(len(NEIGHBOURS))]
        rows.append([*cells, _shares([r.label for r in found]), str(len(found))])
    if not answers:
        return
    head = ["variant", "n", "an embedding", f"{grouped(one.images)} embeddings"]
    head += [f"recall@{k} %" for k in NEIGHBOURS] + ["label by the head %", "seeds"]
    note = (
        f"{grouped(one.queries)} queries in {grouped(one.stored)} of {grouped(one.images)} embeddings (float32), "
        "by the largest cosine. Recall: one of the k nearest has the query's class."
    )
    page.add("Database of embeddings", table(head, rows, "lrrrrrrr"), note)
    base = data.baseline.variant if data.baseline is not None else ""
    largest = answers[base].n if base in answers else 0
    page.claims += [smaller(name, one.n, base, largest) for name, one in answers.items() if one.n < largest]


def smaller(variant: str, n: int, base: str, larger: int) -> Claim:
    """That a smaller database finds as well as that of the baseline."""
    claim = {"text": f"a database {larger / n:.3g} times smaller finds as well", "variant": variant, "against": base}
    whose = "ours: what a smaller database finds is not measured in the papers"
    return Claim.model_validate({**claim, "is": "similar", "metric": RECALL, "margin": MARGIN, "source": whose})


def _recall_of(trained: TrainedRun, data: StudyData) -> Recall:
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
    predicted = torch.cat([trained.head.predict(part) for part in queries.split(_AT_ONCE)])
    right = (predicted == wanted).double().mean().item()
    recall = search(stored, labels, queries, wanted)
    return Recall(trained.dim, source.images, len(stored), len(queries), recall, right)


def search(stored: Tensor, labels: Tensor, queries: Tensor, wanted: Tensor) -> list[float]:
    """Per k in NEIGHBOURS the share of queries [Q, n] with an embedding of their class among the k nearest."""
    unit = F.normalize(stored)
    most = min(max(NEIGHBOURS), len(stored))
    near = torch.cat([labels[(F.normalize(q) @ unit.T).topk(most).indices] for q in queries.split(_AT_ONCE)])
    hits = (near == wanted.unsqueeze(1)).cummax(dim=1).values
    return [hits[:, min(k, most) - 1].double().mean().item() for k in NEIGHBOURS]


class Novelty(NamedTuple):
    """One run on known and held-out classes. `flagged`: the shares that look new, of the known and of the new."""

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
    for row, measured in _measured(data, page, "held-out classes for", _novelty_of):
        for name, one in measured:
            page.values[name] |= dict(zip((FLAGGED_KNOWN, FLAGGED_NEW), one.flagged, strict=True))
        found = [one for _, one in measured]
        facts = found[0]
        curves.append((row.label, (facts.curve[0].numpy(), facts.curve[1].numpy()), facts.flagged))
        page.claims += flags(row.variant)
        cells = [md(row.label), f"{100 * facts.unused:.1f}"]
        cells += [_shares([one.flagged[place] for one in found]) for place in (1, 0)]
        rows.append([*cells, *(_shares([one.areas[s] for one in found]) for s in SCORES), str(len(found))])
    if facts is None:
        return
    note = (
        f"{grouped(facts.known)} new images of known classes, {grouped(facts.new)} of classes held out. Flagged: the "
        "nearest vector of the whole system is no class's. Distance: 1 - cosine to the nearest centre in use. "
        "Margin: how much larger the largest cosine over all vectors is."
    )
    head = ["variant", "vectors unused %", "new flagged %", "known flagged %"]
    page.add("New classes", table([*head, *(f"ROC area of the {s} %" for s in SCORES), "seeds"], rows, "lrrrrrr"), note)
    title = "Share of new classes flagged against share of known ones, by the distance; dots: unused vectors"
    page.add_figure("New classes", title, draw_roc(curves, page.folder))


def flags(variant: str) -> list[Claim]:
    """That unused vectors flag new classes, and leave known ones alone."""
    both = (
        ("unused vectors flag classes that were held out", "works", LEAST_NEW, FLAGGED_NEW),
        ("and hardly any images of known classes", "fails", MOST_KNOWN, FLAGGED_KNOWN),
    )
    keys = ("text", "is", "threshold", "metric", "variant", "source")
    return [Claim.model_validate(dict(zip(keys, (*each, variant, "ours"), strict=True))) for each in both]


@torch.no_grad()
def _novelty_of(trained: TrainedRun, data: StudyData) -> Novelty:
    head = trained.head
    if not isinstance(head, LscHead):
        raise LscError("it has a class layer and no vectors")
    whole = trained.config.data.model_copy(update={"classes": None})
    every = open_source(whole, split="val", data_dir=data.data_dir)
    if every is None:
        raise LscError("with unique labels there are no images of known classes that were not trained on")
    every = trained.with_own_labels(every, keep=True)
    index = torch.arange(every.images)
    new = every.labels(index) >= head.classes
    if not new.any():
        raise LscError("all classes of the data set are trained")
    parts = [embedded(trained, every, own[fixed_subset(len(own), IMAGES)])[0] for own in (index[~new], index[new])]
    # How new each embedding looks: larger is newer.
    used = [head.system.cosine(z, head.order.index(head.predict(z))) for z in parts]
    best = [head.system.cosine(z, head.system.nearest(z)) for z in parts]
    known_scores, new_scores = ({"distance": 1 - u, "margin": b - u} for u, b in zip(used, best, strict=True))
    known_flagged, new_flagged = ((head.predict(z, unused="new") < 0).double().mean().item() for z in parts)
    areas = {name: auroc(new_scores[name], known_scores[name]) for name in SCORES}
    curve = roc(known_scores["distance"], new_scores["distance"])
    unused = 1 - head.classes / head.system.count
    return Novelty(len(parts[0]), len(parts[1]), unused, (known_flagged, new_flagged), areas, curve)


class Calibrated(NamedTuple):
    """One run on images that the scale was not fitted on: the scale and their number; for the scale of the training,
    where there is one, and the fitted one: nats an image, mean probability and calibration error; the share right."""

    scale: float
    images: int
    measures: dict[float, tuple[float, float, float]]
    right: float


def add_calibration(data: StudyData, page: Page) -> None:
    """The table of all variants, and of each run the measures with the fitted scale."""
    rows, images = [], 0
    for row, measured in _measured(data, page, "probabilities of", _calibrated_of):
        for name, one in measured:
            loss, _, error = one.measures[one.scale]
            page.values[name] |= {CALIBRATED_LOSS: loss, CALIBRATION_ERROR: error}
        found, images = [one for _, one in measured], measured[0][1].images
        before = [next(iter(one.measures.values())) for one in found if len(one.measures) > 1]
        after = [one.measures[one.scale] for one in found]
        cells = [md(row.label), f"{sum(one.scale for one in found) / len(found):.3g}"]
        for place in (0, 2, 1):
            values = [[each[place] for each in part] for part in (before, after)]
            cells += [(f"{fmean(part):.3f}" if place == 0 else _shares(part)) if part else "-" for part in values]
        rows.append([*cells, _shares([one.right for one in found]), str(len(found))])
    if not rows:
        return
    note = (
        f"The scale is fitted on half of the validation images, the rest is of the other {grouped(images)}; before: "
        "with the scale of the training. The probability of a vector system is among all its vectors, whether a class "
        "has them or not, that of a class layer among the classes. Error: the expected calibration error, 15 bins."
    )
    both = [f"{what} {when}" for what in ("nats", "error %", "mean probability %") for when in ("before", "after")]
    page.add("Calibration", table(["variant", "scale", *both, "right %", "seeds"], rows, "lrrrrrrrrr"), note)


@torch.no_grad()
def _calibrated_of(trained: TrainedRun, data: StudyData) -> Calibrated:
    source, head = open_source(trained.config.data, split="val", data_dir=data.data_dir), trained.head
    if source is None:
        raise LscError("with unique labels there are no images of known classes that were not trained on")
    z, labels = embedded(trained, trained.with_own_labels(source), fixed_subset(source.images, IMAGES))
    fitted = fit_scale(head, [(z[::2], labels[::2])], step=trained.step, data="half of val")
    z, labels = z[1::2], labels[1::2]
    predicted, measures = head.predict(z), {}
    for scale in (head.scale_trained, fitted.scale):
        if scale is not None:
            sure, _, energy = probability(head, z, predicted, scale)
            nats = (-energy - scale * head.score(z, labels)).mean().item()
            measures[scale] = nats, sure.mean().item(), calibration_error(sure, predicted == labels)
    return Calibrated(fitted.scale, len(z), measures, (predicted == labels).double().mean().item())


def roc(known: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of known and of new images above every threshold, rising, from (0, 0) to (1, 1)."""
    thresholds = torch.cat([known, new]).unique(sorted=True).flip(0)
    above = [1 - torch.searchsorted(one.sort().values, thresholds).double() / len(one) for one in (known, new)]
    start = torch.zeros(1, dtype=torch.float64)
    return torch.cat([start, above[0]]), torch.cat([start, above[1]])
