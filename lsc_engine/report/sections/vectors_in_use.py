"""The section of a report on the vector systems that its runs trained on, and the loss under which labels are sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lsc_engine.analysis.compare import Row
from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import NOTHING, grouped, significant
from lsc_engine.config.derived import is_table, summary
from lsc_engine.config.schema import RunConfig
from lsc_engine.report.markdown import md, table
from lsc_engine.report.sections.results import spread
from lsc_engine.report.study_data import StudyData

# Rows of a table whose cosines are all compared.
_MOST_ROWS = 8192
_HEAD = ("variant", "system", "n", "vectors", "in use", "smallest angle", "classes so near", "sure below", "train loss",
         "exact label")  # fmt: skip
_NOTE = (
    "Classes so near: how many classes in use lie at the smallest angle from one class, expected. Sure below: "
    "1 − cos of half the smallest angle; an image whose own cosine loss is under it has the right label whatever "
    "the others do. With few near classes labels come right while the loss is still above it."
)


def vector_table(data: StudyData) -> str:
    """Per variant: the system, its vectors and the share in use, the smallest angle, the classes in use there, and the
    loss under which an image's label is sure. They say why loss and accuracy can disagree."""
    rows = []
    for row in data.rows:
        config = data.configs.get(row.key)
        if config is None or config.target.method != "lsc":
            continue
        known = _facts(config, row, data)
        near, sure, angle, share = (known.get(key) for key in ("near_in_use", "sure_below", "min_angle_deg", "in_use"))
        rows.append([
            md(row.label), md(str(row.settings.get("target.system"))), grouped(known.get("n")),
            grouped(known.get("count")), f"{100 * share:.3g} %" if share is not None else NOTHING,
            f"{angle:.1f}°" if angle is not None else NOTHING, _range(near) if near else NOTHING,
            significant(sure) if row.kind == "c" else NOTHING, spread(row.last.get("train/loss")),
            md(known.get("decode") or NOTHING),
        ])  # fmt: skip
    return f"{table(_HEAD, rows, 'llrrrrrrr')}\n\n{_NOTE}" if rows else ""


def guaranteed_losses(data: StudyData) -> dict[str, float]:
    """Row key -> the cosine loss under which a label is sure."""
    found = {}
    for row in data.rows:
        config = data.configs.get(row.key)
        if config is not None and row.kind == "c":
            sure = _facts(config, row, data).get("sure_below")
            if sure is not None and math.isfinite(sure):
                found[row.key] = float(sure)
    return found


def _facts(config: RunConfig, row: Row, data: StudyData) -> dict[str, Any]:
    """What is known of the vectors of a row; angle and sure loss of a table of vectors are measured on its rows (of
    the first seed's, where they differ)."""
    known, classes = summary(config, data.data_dir), config.data.classes or 0
    if not is_table(config.system) or not 2 <= classes <= _MOST_ROWS:
        return known
    import torch

    from lsc_engine.training.trained_run import build_untrained_head

    try:
        head = build_untrained_head(config, row.runs[0], classes=classes, dim=None)
    except (LscError, OSError):
        return known
    rows = head.centres(torch.arange(classes))
    assert rows is not None
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-1.0)
    largest = min(1.0, float(cosines.max()))
    near = (cosines >= largest - 1e-6).sum(1)
    return known | {
        "sure_below": 1 - math.sqrt((1 + largest) / 2),
        "min_angle_deg": math.degrees(math.acos(largest)),
        "near_in_use": [int(near.min()), int(near.max())],
    }


def _range(pair: Sequence[float]) -> str:
    low, high = (f"{x:.3g}" if x < 1000 else grouped(round(x)) for x in pair)
    return low if low == high else f"{low} to {high}"
