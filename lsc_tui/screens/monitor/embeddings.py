"""Monitor's view of embeddings as lines: plane, sphere or angles at the left, classes or epochs at the right.

Pure functions of a snapshot and of how it is looked at (the figures 3, 4, 6 and 7 of arXiv:2510.04090).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from lsc_engine.charts.scatter import Camera
from lsc_engine.common.formatting import grouped, percent
from lsc_engine.common.settings import lookup
from lsc_engine.runs.read.embeddings import Angles, Points, Snapshot, class_colours, kind_of, snapshot_rows
from lsc_tui.data.run_view import EmbeddingHistory, RunView
from lsc_tui.lines import Line, clean, fit, over, pad, wrap
from lsc_tui.widgets.chart import style_name
from lsc_tui.widgets.panel import Sheet

TURN, TILT, NEARER = 15.0, 10.0, 1.5
_LEAST_ZOOM, _MOST_ZOOM = 0.5, 64.0


@dataclass
class EmbeddingLook:
    """How embeddings are looked at: the step that is shown (None: the newest, whatever comes) and the camera."""

    step: int | None = None
    camera: Camera = field(default_factory=Camera)

    def index(self, kept: EmbeddingHistory) -> int:
        """The number of the snapshot shown, the newest at or before the step; -1 if the run has none."""
        if self.step is None:
            return len(kept.shots) - 1
        return max(sum(shot.step <= self.step for shot in kept.shots) - 1, 0) if kept.shots else -1

    def shot(self, kept: EmbeddingHistory | None) -> Snapshot | None:
        """The snapshot shown, or None if the run has none."""
        return kept.shots[self.index(kept)] if kept is not None and kept.shots else None

    def move(self, kept: EmbeddingHistory, by: int) -> None:
        """Some snapshots on or back; at the last one the newest is followed again."""
        at = self.index(kept) + by
        self.step = None if at >= len(kept.shots) - 1 else kept.shots[max(0, at)].step

    def why_not(self, name: str, kept: EmbeddingHistory | None) -> str:
        """Why a key that moves through time or the picture changes nothing now, or ""."""
        shot = self.shot(kept)
        if kept is None or shot is None:
            return "there are no embeddings yet"
        angles = kind_of(shot) == "angles"
        if name.startswith("tilt") and angles:
            return "angles have one axis only"
        if name == "cursor_left" and self.index(kept) == 0:
            return "this is the first evaluation"
        if name == "cursor_right" and self.step is None:
            return "this is the newest evaluation"
        nearer = self.camera.zoom > (1.0 if angles else _LEAST_ZOOM)
        whole = self == EmbeddingLook() if name == "zoom_whole" else not nearer
        movable = name in ("zoom_whole", "zoom_out") or (angles and name.startswith("pan"))
        return "the whole picture is shown, + goes nearer" if movable and whole else ""

    def turn(self, right: float, up: float, flat: bool) -> None:
        """Turn the sphere by steps; in the plane and over angles move instead."""
        c = self.camera
        if flat:
            self.camera = replace(c, x=c.x + 0.25 * right / c.zoom, y=c.y + 0.25 * up / c.zoom)
        else:
            tilted = max(-90.0, min(90.0, c.elevation + TILT * up))
            self.camera = replace(c, azimuth=(c.azimuth + TURN * right) % 360, elevation=tilted)

    def zoom(self, factor: float) -> None:
        self.camera = replace(self.camera, zoom=max(_LEAST_ZOOM, min(_MOST_ZOOM, self.camera.zoom * factor)))


def why_none(view: RunView, kept: EmbeddingHistory | None) -> list[str]:
    """Sentences that stand where there is no snapshot: why, and what would change it."""
    if kept is None:
        return ["reading …"]
    if kept.problem:
        return [kept.problem]
    wanted = lookup(view.config, "eval.embeddings")
    on = 'F goes on from a checkpoint with eval.embeddings = "on", N copies the settings'
    if wanted == "off":
        return ['turned off: eval.embeddings = "off" in this run', on]
    if wanted is None:
        return ["this run was made before embeddings were kept", "N copies its settings"]
    if not view.status.active and view.state != "queued":
        classes, n = lookup(view.config, "data.classes"), lookup(view.config, "model.dim")
        if wanted == "auto" and isinstance(classes, int) and classes > 10_000 and isinstance(n, int) and n > 3:
            return [f"none kept: the angles of {grouped(classes)} classes are looked at only on request", on]
        return ["none kept: no evaluation came to its end, or the method has no centres"]
    every = lookup(view.config, "eval.every")
    return ["none yet: they are kept at each evaluation", f"eval.every = {every}" if isinstance(every, str) else ""]


def picture(
    view: RunView, kept: EmbeddingHistory | None, look: EmbeddingLook, width: int, height: int, *, mode: str
) -> Sheet:
    """The embeddings of one evaluation as points around the centres, or why there are none."""
    if kept is None or (shot := look.shot(kept)) is None:
        lines = [line for text in why_none(view, kept) for line in wrap(text, max(8, width - 4))]
        return "embeddings", "", [[], *([(f"  {line}", "dim")] for line in lines)]
    title = f"embeddings · {kind_of(shot)} · epoch {shot.epoch:.1f}"
    right = f"{look.index(kept) + 1} of {len(kept.shots)}" if look.step is not None else ""
    if len(title) + len(right) + 6 > width:
        title = title.removeprefix("embeddings · ")
    rows = snapshot_rows(shot, width, height, camera=look.camera, mode=mode, shots=kept.shots)  # type: ignore[arg-type]
    return title, right, [[(run.text, style_name(run.style)) for run in row] for row in rows]


def table(view: RunView, kept: EmbeddingHistory | None, look: EmbeddingLook, width: int, height: int) -> Sheet:
    """The panel at the right: classes of the snapshot, or angles by epoch."""
    if kept is None or (shot := look.shot(kept)) is None:
        return "by class", "", []
    if isinstance(shot, Angles):
        return "by epoch, medians", "", _by_epoch(kept, shot, width, height)
    return "by class", "", _by_class(kept, shot, width, height, start_words(view))


def _share(value: float | None) -> str:
    return f"{'-' if value is None else f'{100 * value:.0f}%':>7}"


def start_words(view: RunView) -> str:
    """What the column of the run that this one started from is called: after its variant."""
    start = view.config.get("start_from")
    parts = start.split("/") if isinstance(start, str) else []
    return fit(clean(f"AT {parts[-2].upper()}" if len(parts) > 2 else "BEFORE"), 10, ">")


def _by_class(kept: EmbeddingHistory, shot: Points, width: int, height: int, start: str) -> list[Line]:
    rows = shot.by_class()
    before = _before(kept)
    colours = class_colours(shot)
    foot = _points_foot(kept, shot, before)
    room = height - 3 - len(foot)
    shown = rows
    if len(rows) > room:
        # The worst ones are what is looked for.
        shown = sorted(rows, key=lambda row: (row[2], row[3] if row[3] is not None else 1.0))[: max(0, room - 1)]
    head = f" {'CLASS':>6} {'IMAGES':>6} {'ACC%':>5}{f' {start}' if before else ''} {'INSIDE':>7}"
    body: list[Line] = [[(fit(head, width), "dim")]]
    for label, count, right, inside in shown:
        old = f" {percent(before[label]) if label in before else 'new':>10}" if before else ""
        body.append(
            [
                (f" {label:>6}", f"series-{colours[label]}"),
                (f" {count:>6} {percent(right):>5}{old} {_share(inside)}", ""),
            ]
        )
    if len(shown) < len(rows):
        body.append([(f" the lowest of {len(rows)}", "dim")])
    if shot.label.size:
        right_all = percent(float((shot.predicted == shot.label).mean()))
        inside_all = _share(None if shot.inside is None else float(shot.inside.mean()))
        gap = 11 * " " if before else ""
        body.append([(f" {'all':>6} {shot.label.size:>6} {right_all:>5}{gap} {inside_all}", "bold")])
    body += [[], *([(fit(f" {text}", width - 1), "dim")] for text in foot)]
    return body


def _points_foot(kept: EmbeddingHistory, shot: Points, before: dict[int, float]) -> list[str]:
    foot = []
    if before:
        old = _accuracy(shot, before)
        track = [(value, one.epoch) for one in kept.shots if (value := _accuracy(one, before)) is not None]
        lowest = min(track) if track else (0.0, 0.0)
        foot.append(f"old {percent(old)}  lowest {percent(lowest[0])} at ep {lowest[1]:.0f}")
        foot.append(f"new {percent(_accuracy(shot, before, new=True))}")
    if shot.radius is not None:
        foot.append(f"inside: closer than the radius {shot.radius:.3g}".replace(" 0.", " ."))
    elif shot.min_angle is not None:
        foot.append(f"inside: closer than half of {shot.min_angle:.1f}°")
    if not shot.centre_label.size:
        foot.append("this method has no centres")
    if shot.classes > np.union1d(shot.label, shot.centre_label).size:
        foot.append(f"{np.unique(shot.label).size} of {grouped(shot.classes)} classes are shown")
    return [*foot, *([kept.problem] if kept.problem else [])]


def _before(kept: EmbeddingHistory) -> dict[int, float]:
    """Accuracy by class at the end of the run that this one started from."""
    last = kept.before
    return {label: right for label, _, right, _ in last.by_class()} if isinstance(last, Points) else {}


def _accuracy(shot: Snapshot, before: dict[int, float], *, new: bool = False) -> float | None:
    """The share labelled right of the images whose class the run before knew, or did not know."""
    if not isinstance(shot, Points):
        return None
    rows = np.isin(shot.label, list(before), invert=new)
    return float((shot.predicted == shot.label)[rows].mean()) if rows.any() else None


def _by_epoch(kept: EmbeddingHistory, shown: Angles, width: int, height: int) -> list[Line]:
    shots = [shot for shot in kept.shots if isinstance(shot, Angles)]
    inside = "" if shown.min_angle is None else f"inside: closer than half of {shown.min_angle:.1f}°"
    counts = f"{shown.images} images, {grouped(shown.classes)} classes, n = {shown.n}"
    words = ("angles to own and nearest other centre", inside, "wrong: closer to another centre", counts, kept.problem)
    foot = [text for text in words if text]
    room = max(1, height - 2 - len(foot))
    here = shots.index(shown)
    first = max(0, min(here - room // 2, len(shots) - room))
    body: list[Line] = [
        [(" EPOCH ", "dim"), ("    OWN", "series-0"), ("   OTHER", "series-1"), ("  INSIDE  WRONG", "dim")]
    ]
    for number in range(first, min(len(shots), first + room)):
        shot = shots[number]
        own, other = (Angles.quantile(angles, 0.5) for angles in (shot.own, shot.other))
        text = f" {shot.epoch:>6.1f}{own:>6.1f}°{other:>7.1f}°{_share(shot.inside)} {_share(shot.wrong)}"
        line: Line = pad([(text, "")], width)
        body.append(over(line, "cursor") if number == here else line)
    return [*body, [], *([(fit(f" {text}", width - 1), "dim")] for text in foot)]
