"""The section of a report on what frozen embeddings are worth: the metrics of `eval.also` and of images of other data.
Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from lsc_engine.analysis.compare import Row
from lsc_engine.report.page import bullets, md, table
from lsc_engine.report.sections.results import spread

# What the metrics are; the numbers are those of training/embedding_metrics.py.
_RECALL = "eval/recall@k: whether one of the k nearest other validation images has the same class."
_OOD = (
    "ood/: images of {ood} against validation images. auroc: how often a validation image scores higher; fpr95: the "
    "share of the others that pass a threshold which 95 % of validation images pass, less is better. Scores: the "
    "largest cosine, of cross-entropy the largest logit (arXiv:1911.11132); \\_energy: the log of the softmax's sum "
    "(arXiv:2010.03759); \\_knn: the cosine of the 50th nearest training image (arXiv:2204.06507)."
)
METRICS = {
    "eval/knn": "eval/knn: the label that most of the 20 nearest training images have is right.",
    "eval/probe": "eval/probe: logistic regression on the frozen embeddings of training images is right.",
    "eval/recall@1": _RECALL,
    "eval/recall@10": _RECALL,
    "eval/map@r": "eval/map@r: mean average precision among the R nearest, R the number of other validation images of "
    "the class (arXiv:2003.08505).",
    "eval/ece": "eval/ece: expected calibration error, 15 bins (arXiv:1706.04599); less is better.",
    **{f"ood/{name}{score}": _OOD for name in ("auroc", "fpr95") for score in ("", "_energy", "_knn")},
}


def evaluation_table(rows: Sequence[Row]) -> str:
    """Variants against metrics of frozen embeddings in per cent, mean ± standard deviation over seeds, and what they
    are; "" where no run has any."""
    names = [name for name in METRICS if any(name in row.last for row in rows)]
    measured = [row for row in rows if any(name in row.last for name in names)]
    cells = [[md(row.label), *(spread(row.last.get(name), 100) for name in names)] for row in measured]
    text = table(("variant", *(f"{md(name)} %" for name in names)), cells, "l" + "r" * len(names))
    others = ", ".join(dict.fromkeys(str(row.settings.get("eval.ood") or "other data") for row in measured))
    notes = dict.fromkeys(METRICS[name] for name in names)
    return "\n\n".join(filter(None, (text, bullets(note.format(ood=md(others)) for note in notes))))
