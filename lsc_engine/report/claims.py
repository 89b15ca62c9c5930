"""What a report says of the claims of studies: `python -m lsc_engine.report.claims RUNS_DIR STUDY…`, a JSON line each.

    {"study": "lsc-2025/fig9", "claims": [{"claim": "…", "verdict": "holds"}]}

Judging loads torch (the loss of the best constant answer is searched for), so viewers ask another process for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from lsc_engine.analysis.claims import judge
from lsc_engine.errors import LscError
from lsc_engine.report.material import found_in, gather, values_of
from lsc_engine.runs.read.studies import find_study


def told(runs_dir: Path, name: str) -> list[tuple[str, str]]:
    """The claims of a study with their verdicts, as its report has them. LscError where there is no such study."""
    found, _ = found_in(values_of(gather(find_study(name, [runs_dir]))))
    return [(one.text, one.short) for one in judge(found)]


def main(argv: list[str]) -> None:
    """Print a line for each study, as soon as it is judged; one that cannot be judged has no claims."""
    with contextlib.suppress(OSError):
        # Nobody waits for it, and runs may be training.
        os.nice(10)
    folder, *names = argv
    for name in names:
        try:
            found = told(Path(folder), name)
        except (LscError, ValueError, ArithmeticError, OSError):
            found = []
        claims = [{"claim": claim, "verdict": verdict} for claim, verdict in found]
        print(json.dumps({"study": name, "claims": claims}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
