"""Figures of many points stay small, and their dots are seen in SVG and PNG."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lsc_engine.report.figures import draw_angles, draw_points
from lsc_engine.runs.read.embeddings import Angles, Points


@pytest.mark.parametrize("n", [2, 3])
def test_many_embeddings_and_many_histograms_stay_small(tmp_path: Path, n: int) -> None:
    rows = np.random.default_rng(0).normal(size=(512 + 64, n)).astype(np.float32)
    labels = np.arange(512) % 64
    shots = [
        Points(e, float(e), 64, 10.0, n == 3, None, rows[:512], labels, labels, np.arange(64), rows[512:])
        for e in (1, 2, 3)
    ]  # fmt: skip
    counts = np.random.default_rng(1).integers(0, 50, 180)
    angles = [(f"variant {i}", Angles(1, 1.0, 9, 48.2, 48, counts, counts, 0.5, 0.1)) for i in range(8)]
    for file in (*draw_points(shots, "many", tmp_path, "points"), *draw_angles(angles, tmp_path)):
        assert file.suffix == ".png" or file.stat().st_size < 150_000, (file.name, file.stat().st_size)


def test_dots_are_seen_in_both_formats(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, (301, 2)).astype(np.float32)
    labels = np.zeros(300, dtype=int)
    shot = Points(1, 1.0, 1, None, False, None, rows[:300], labels, labels, np.arange(0), rows[:0])
    svg, png = draw_points([shot], "one class", tmp_path, "dots")
    assert len(re.findall(r"M \S+ \S+ \nL ", svg.read_text())) > 290
    image = plt.imread(png)[..., :3]
    coloured = image.max(-1) - image.min(-1) > 0.3
    # Three hundred dots of about ten pixels each, where they do not overlap; the diamond of the mean has some hundred.
    assert coloured.sum() > 1500
