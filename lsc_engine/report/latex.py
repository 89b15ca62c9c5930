"""Tables for a paper: LaTeX of the package booktabs. Text from files is typeset letter by letter."""

from __future__ import annotations

from collections.abc import Sequence

_MARKS = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
          "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$",
          ">": "$>$", "<": "$<$"}  # fmt: skip


def escaped(text: str) -> str:
    """`text` as LaTeX shows it as it is; control characters are left out."""
    return "".join(_MARKS.get(c, c) for c in text if c.isprintable())


def tabular(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A booktabs tabular; `align`: one of l, c, r per column."""
    lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines += [" & ".join(escaped(cell) for cell in head) + r" \\", r"\midrule"]
    lines += [" & ".join(escaped(cell) for cell in cells) + r" \\" for cells in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
