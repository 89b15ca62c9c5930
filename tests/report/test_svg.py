"""SVG files are made small without being drawn otherwise."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lsc_engine.report.figures import draw_angles, draw_points, tidy
from lsc_engine.runs.read.embeddings import Angles, Points

NAME = "{http://www.w3.org/2000/svg}"


def test_coordinates_are_rounded_and_texts_are_not(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    file.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">\n'
        '  <path id="m1" d="M 0 3 \nL 1.23456 -0.001 \n" style="stroke: #000"/>\n'
        '  <use xlink:href="#m1" x="10.123456" y="2.0" style="stroke: #000"/>\n'
        '  <use xlink:href="#m1" x="1" y="2" style="stroke: #fff"/>\n'
        '  <path d="M 5.04 7.06 \nL 5.05 7.06 \nM 8 9 \nL 8.2 9"/>\n'
        '  <g transform="translate(1.23456 2) scale(0.1234 -0.1)"/>\n'
        '  <text x="1.555555" transform="rotate(-0 1.5 2)">0.123456</text>\n</svg>\n'
    )
    tidy(file)
    root = ET.parse(file).getroot()
    paths, uses = root.findall(f"{NAME}path"), root.findall(f"{NAME}use")
    assert [path.get("d") for path in paths] == ["M 0 3 L 1.23 0", "M 5.0 7.1h0M 8 9 L 8.2 9"]
    assert [(use.get("x"), use.get("style")) for use in uses] == [("10.12", None), ("1", "stroke: #fff")]
    assert root.find(f"{NAME}g").get("transform") == "translate(1.23456 2) scale(0.1234 -0.1)"  # type: ignore[union-attr]
    text = root.find(f"{NAME}text")
    assert text is not None
    assert (text.text, text.get("x"), text.get("transform")) == ("0.123456", "1.56", None)


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
        assert file.suffix == ".png" or file.stat().st_size < 80_000, (file.name, file.stat().st_size)


def test_dots_are_seen_in_both_formats(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, (301, 2)).astype(np.float32)
    labels = np.zeros(300, dtype=int)
    shot = Points(1, 1.0, 1, None, False, None, rows[:300], labels, labels, np.arange(0), rows[:0])
    svg, png = draw_points([shot], "one class", tmp_path, "dots")
    assert svg.read_text().count("h0") > 290
    image = plt.imread(png)[..., :3]
    coloured = image.max(-1) - image.min(-1) > 0.3
    # Three hundred dots of about ten pixels each, where they do not overlap; the diamond of the mean has some hundred.
    assert coloured.sum() > 1500
