"""Which rows the list of studies and runs has, from views: sorted, filtered, folded (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import ACCURACY, RunView, finite
from lsc_tui.lines import STATES

SORTS = ("started", "state", "run", "seed", "done", "eta", "loss", "best", "acc", "where")


@dataclass(frozen=True)
class Row:
    """A line of the list: a study (its runs in `views`), a run, or the folded seeds of a variant."""

    key: str
    kind: str  # study | run | fold | report (no runs)
    views: tuple[RunView, ...]
    closed: bool = False
    other: str = ""  # the folder's name where it is another's
    done: tuple[int, int] = (0, 0)  # of a study: finished runs and runs, those hidden by a filter included
    report: Report | None = None

    @property
    def study(self) -> str:
        """The study's name."""
        return self.report.study if self.report is not None else self.views[0].study


@dataclass
class Order:
    """How the list is ordered and what is folded."""

    sort: str = "started"
    inverted: bool = False
    folded: bool = False
    closed: set[str] = field(default_factory=set)
    accuracy: str = ACCURACY  # the metric in the column of accuracies, the same for all runs


def study_key(view: RunView) -> str:
    """A study of one folder."""
    return f"study:{view.root}:{view.study}"


def _sort_value(view: RunView, order: Order) -> tuple[object, ...]:
    """What a run is sorted by inside its study; losses of different kinds stay apart, what is missing comes last."""
    number: float | None
    sort = order.sort
    if sort in ("loss", "best"):
        number = finite(view.loss if sort == "loss" else view.best_loss)
        return (view.loss_group, number is None, number or 0.0)
    if sort in ("acc", "eta"):
        number = finite(view.last(order.accuracy) if sort == "acc" else view.status.eta)
        return (number is None, number or 0.0)
    if sort == "done":
        return (view.done,)
    if sort == "state":
        return (list(STATES).index(view.state) if view.state in STATES else 99,)
    if sort == "where":
        return (view.status.host, view.status.device)
    return (view.seed,) if sort == "seed" else ()


def build_rows(
    views: Iterable[RunView], order: Order, names: Callable[[int], str] = lambda root: "",
    every: Iterable[RunView] | None = None, reports: Iterable[Report] = (),
) -> list[Row]:  # fmt: skip
    """Studies, newest first, each with its runs below it unless it is closed. `every`: all runs, if `views` are few.
    `reports`: the studies without runs, a row each among the others."""
    views = list(views)
    counts: dict[str, tuple[int, int]] = {}
    for view in views if every is None else every:
        finished, total = counts.get(study_key(view), (0, 0))
        counts[study_key(view)] = (finished + (view.state == "finished"), total + 1)
    studies: dict[str, list[RunView]] = {}
    for view in views:
        studies.setdefault(study_key(view), []).append(view)
    newest = {key: max(v.status.started or v.status.changed or 0.0 for v in group) for key, group in studies.items()}
    told = {report.key: report for report in reports}
    newest |= {key: max(report.begun, report.made or 0.0) for key, report in told.items()}
    by_name = order.sort == "run"
    keys = sorted((*studies, *told), key=lambda k: (k.partition(":")[2],) if by_name else (-newest[k], k))
    if order.inverted and order.sort in ("started", "run"):
        keys.reverse()
    rows: list[Row] = []
    for key in keys:
        if key in told:
            rows.append(Row(key, "report", (), other=names(told[key].root), report=told[key]))
            continue
        group = sorted(studies[key], key=lambda v: (v.variant, v.seed))
        if order.sort not in ("started", "run"):
            group.sort(key=lambda v: _sort_value(v, order), reverse=order.inverted)
        closed = key in order.closed
        rows.append(Row(key, "study", tuple(group), closed, names(group[0].root), counts.get(key, (0, 0))))
        if closed:
            continue
        if order.folded:
            variants: dict[str, list[RunView]] = {}
            for view in group:
                variants.setdefault(view.variant, []).append(view)
            for variant, members in variants.items():
                if len(members) > 1:
                    rows.append(Row(f"fold:{key}:{variant}", "fold", tuple(members)))
                else:
                    rows.append(Row(members[0].key, "run", tuple(members)))
        else:
            rows += [Row(view.key, "run", (view,)) for view in group]
    return rows
