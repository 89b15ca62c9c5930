"""Embeddings in a report, from the snapshots that a run keeps (runs/embeddings.py): in the plane or on the sphere over
training if n <= 3, else the cosines to the own and to the nearest other centre at the end."""

from __future__ import annotations

import numpy as np

from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.report import figures
from lsc_engine.report.markdown import plain
from lsc_engine.report.page import Page
from lsc_engine.report.study_data import StudyData
from lsc_engine.runs.read.embeddings import Angles, Points, Snapshot, list_snapshots, read_snapshot
from lsc_engine.runs.read.run import Run

# Moments of training shown of one variant, fewer if there are many classes to draw.
MOMENTS = 4
_MANY = 40


def snapshots_of(run: Run, most: int = MOMENTS) -> list[Snapshot]:
    """Up to `most` snapshots spread over the training, the first and the last among them; damaged ones are skipped."""
    listed = list_snapshots(run.path)
    found = []
    for place in np.unique(np.linspace(0, len(listed) - 1, min(most, len(listed))).round().astype(int)):
        try:
            found.append(read_snapshot(listed[int(place)][1]))
        except UnreadableError:
            continue
    return found


def add_embeddings(data: StudyData, page: Page) -> None:
    """Figures of every variant whose first seed kept snapshots."""
    angles: list[tuple[str, Angles]] = []
    for row in data.rows:
        shots = snapshots_of(row.runs[0])
        points = [shot for shot in shots if isinstance(shot, Points) and shot.n in (2, 3)]
        if points and points[0].classes > _MANY and len(points) > 2:
            points = [points[0], points[len(points) // 2], points[-1]]
        if points:
            name = f"embeddings-{figures.file_word(row.variant) or 'run'}"
            where = "in the plane" if points[0].n == 2 else "on the sphere"
            title = f"{row.label}: embeddings {where} over training, class means as diamonds, centres as crosses"
            files = figures.draw_points(points, plain(row.label), page.folder, name)
            page.add("Embeddings", page.figure(title, files))
        elif shots and isinstance(shots[-1], Angles):
            angles.append((plain(row.label), shots[-1]))
    if angles:
        title = "Cosines of images to their own centre and to the nearest other one, at the end"
        files = figures.draw_angles(angles, page.folder)
        page.add("Embeddings", page.figure(title, files, "; the dashed line is half the smallest angle"))
