"""A figure of curves for a paper: `python -m lsc_engine.report.curves OUT.svg < curves.json`.

The viewer writes its figures through this process, so that it never loads matplotlib itself. The document has
x_label, y_label, x_range, log_x, log_y, levels [{y, label, colour}], series [{label, colour, x, y, low, high}] and
marks [x], upright lines; null stands for a value that is not finite, a level without colour is grey. The ending of OUT
chooses SVG, PDF or PNG; `width` is in inches (default 3.3), `dpi` that of a PNG (default 300).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from lsc_engine.report.svg import tidy
from lsc_engine.runs.files import whole_file

# After Okabe and Ito 2008: apart for the common colour-vision deficiencies, and in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6d31", "#333333")
# With more names than these the legend stands below the axes, where it covers no curve.
MOST_INSIDE = 6
STYLES = ("-", "--", "-.", ":")


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def escaped(text: str) -> str:
    """`text` as matplotlib shows it letter by letter: no part of it is mathematics."""
    return text.replace("$", r"\$")


def _name(one: dict[str, Any]) -> str:
    """A series' label in the legend; "_" keeps one out that has none, or nothing to show."""
    shown = any(value is not None and np.isfinite(value) for value in one["y"])
    return escaped(one["label"]) or "_" if shown else "_"


def draw(document: dict[str, Any], *files: Path) -> None:
    """Write the figure to each of `files`."""
    width = float(document.get("width", 3.3))
    settings: Any = {
        "font.size": 8, "axes.linewidth": 0.6, "lines.linewidth": 1.0, "legend.fontsize": 7, "svg.fonttype": "none",
        "pdf.fonttype": 42, "svg.hashsalt": "lsc", "axes.spines.top": False,
        "axes.spines.right": False,
    }  # fmt: skip
    named = sum(1 for one in document["series"] if _name(one) != "_")
    beside = 0 < named <= MOST_INSIDE
    columns = 2 if width > 5 else 1
    below = 0.0 if beside or not named else 0.14 * -(-named // columns) + 0.1
    with plt.rc_context(settings):
        figure, axes = plt.subplots(figsize=(width, width * 0.68 + below), layout="constrained")
        for one in document["series"]:
            number = int(one["colour"])
            colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
            x = _array(one["x"])
            if "low" in one:
                axes.fill_between(x, _array(one["low"]), _array(one["high"]), color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, _array(one["y"]), style, color=colour, label=_name(one))
        for level in document["levels"]:
            own = level.get("colour")
            grey_or_own = "0.6" if own is None else COLOURS[own % len(COLOURS)]
            axes.axhline(level["y"], color=grey_or_own, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
        for place in document.get("marks", ()):
            axes.axvline(place, color="0.4", linewidth=0.6, zorder=0)
        axes.set_xlabel(escaped(document["x_label"]))
        axes.set_ylabel(escaped(document["y_label"]))
        if document["log_x"]:
            axes.set_xscale("log")
        if document["log_y"]:
            axes.set_yscale("log")
        low, high = document.get("x_range", (None, None))
        axes.set_xlim(low, high)
        if beside:
            axes.legend(frameon=False)
        elif named:
            figure.legend(frameon=False, loc="outside lower center", ncols=columns)
        for out in files:
            dated = {".svg": "Date", ".pdf": "CreationDate"}.get(out.suffix)
            with whole_file(out) as part:
                figure.savefig(part, dpi=document.get("dpi", 300), metadata={dated: None} if dated else None)
                if out.suffix == ".svg":
                    tidy(part)
            # Laid out once: a second file is the same picture.
            figure.set_layout_engine("none")
        plt.close(figure)


if __name__ == "__main__":
    draw(json.load(sys.stdin), Path(sys.argv[1]))
