"""SVG files as matplotlib writes them, made small: coordinates to a hundredth of a point, a path on one line, one font
name, and no style on a marker that has it already."""

from __future__ import annotations

import re
from pathlib import Path

# Attributes that hold coordinates, in points; texts are left as they are.
_PLACED = re.compile(r'(?<=\s)(d|x|y|x1|x2|y1|y2|cx|cy|points|transform|width|height)="([^"]*)"')
_NUMBER = re.compile(r"-?\d+\.\d+")
_FAMILY = re.compile(r"font-family: 'DejaVu Sans'(, [^;\"]*)?, sans-serif")
_UPRIGHT = re.compile(r' transform="rotate\(-?0 [^"]*\)"')
# A line to (nearly) where it began, which round ends make a dot.
_DOT = re.compile(r"M (\S+) (\S+) L (\S+) \2(?: (?=M)|$)")
_MARKER = re.compile(r'<path id="(\w+)" d="[^"]*" style="([^"]*)"/>')
_USE = re.compile(r'(<use xlink:href="#(\w+)"[^>]*?) style="([^"]*)"/>')


def tidy(path: Path) -> None:
    """Rewrite the SVG file at `path` in place."""
    text = _PLACED.sub(_attribute, path.read_text(encoding="utf-8"))
    text = _UPRIGHT.sub("", _FAMILY.sub("font-family: 'DejaVu Sans', sans-serif", text))
    styles = dict(_MARKER.findall(text))
    text = _USE.sub(lambda one: f"{one[1]}/>" if styles.get(one[2]) == one[3] else one[0], text)
    path.write_text(re.sub(r"\n +", "\n", text), encoding="utf-8")


def _attribute(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    if name == "transform" and "scale" in value:
        # A scale multiplies what it holds: a hundredth may be much.
        return found[0]
    value = " ".join(_NUMBER.sub(_rounded, value).split())
    return f'{name}="{_DOT.sub(_dot, value) if name == "d" else value}"'


def _dot(found: re.Match[str]) -> str:
    if abs(float(found[1]) - float(found[3])) >= 0.02:
        return found[0]
    return f"M {float(found[1]):.1f} {float(found[2]):.1f}h0"


def _rounded(found: re.Match[str]) -> str:
    text = f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
