"""The verdicts of reports on the claims of studies: `python -m lsc_engine.report.claims RUNS_DIR STUDY…`, a JSON line
each.

    {"study": "lsc-2025/fig9", "claims": [{"claim": "…", "verdict": "holds"}]}

Judging loads torch (the loss of the best constant answer is searched for), so viewers run it in another process."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from lsc_engine.analysis.claims import judge
from lsc_engine.common.errors import LscError
from lsc_engine.report.study_data import collect, read_back, values_of
from lsc_engine.runs.read.studies import find_study


def short_verdicts(runs_dir: Path, name: str) -> list[dict[str, str]]:
    """The claims of a study with their verdicts, as its report has them. LscError if there is no such study."""
    values, _ = read_back(values_of(collect(find_study(name, [runs_dir]))))
    return [{"claim": one.text, "verdict": one.short} for one in judge(values)]


def main(argv: list[str]) -> None:
    """Print a line for each study, as soon as it is judged; one that cannot be judged has no claims."""
    with contextlib.suppress(OSError):
        # Nobody waits for it, and runs may be training.
        os.nice(10)
    folder, *names = argv
    for name in names:
        claims: list[dict[str, str]] = []
        with contextlib.suppress(LscError, ValueError, ArithmeticError, OSError):
            claims = short_verdicts(Path(folder), name)
        print(json.dumps({"study": name, "claims": claims}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
