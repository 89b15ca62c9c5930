"""How studies stand: `python -m lsc_engine.report.claims RUNS_DIR STUDY…`, a JSON line each.

    {"study": "lsc-2025/fig9", "word": "holds", "claims": [{"claim": "…", "verdict": "holds"}]}

A study whose preset makes claims has their verdicts, as in its report, once its runs have ended. The word for any other
sums up analysis.verdict. Judging claims loads torch (the loss of the best constant answer is searched for), and metrics
are read whole, so viewers run it in another process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lsc_engine.common.errors import LscError
from lsc_engine.common.safe_io import UnreadableError, read_toml
from lsc_engine.runs.folder.layout import METRICS
from lsc_engine.runs.read.run import Run, list_runs
from lsc_engine.runs.read.studies import STUDIES, find_study, tries_beside

# Of a study with more bytes of metrics than this no word is worked out.
MOST_BYTES = 32 << 20
OPEN = "verdict open"
_ENDED = ("finished", "failed", "diverged", "stopped", "lost")


def short_verdicts(runs_dir: Path, name: str) -> list[dict[str, str]]:
    """The claims of a study with their verdicts, as its report has them. LscError if there is no such study."""
    from lsc_engine.analysis.claims import judge
    from lsc_engine.report.study_data import collect, read_back, values_of

    values, _ = read_back(values_of(collect(find_study(name, [runs_dir]))))
    return [{"claim": one.text, "verdict": one.short} for one in judge(values)]


def makes_claims(folder: Path, study: str) -> bool:
    """Whether the preset that a study was started from makes claims of its own."""
    try:
        return bool(read_toml(folder / STUDIES / f"{study}.toml").get("claims"))
    except UnreadableError:
        return False


def word_of(verdicts: Sequence[str]) -> str:
    """The verdicts of all claims in few words: `holds`, `does not hold`, `2 of 3 claims hold`."""
    bare = [re.sub(r"^by (accuracy|loss): ", "", verdict) for verdict in verdicts]
    held = bare.count("holds")
    if all(verdict == "open" for verdict in verdicts):
        return OPEN if verdicts else ""
    if len(bare) == 1:
        return bare[0] if bare[0] in ("holds", "does not hold") else "holds in part"
    return f"all {held} claims hold" if held == len(bare) else f"{held} of {len(bare)} claims hold"


def standing(runs: Sequence[Run]) -> str:
    """`verdict open`, `holds`, `fails`, `verdicts differ`; "" where nothing can be compared. Never raises for what a
    folder holds."""
    from lsc_engine.analysis.compare import compare
    from lsc_engine.analysis.verdict import verdicts

    if len(runs) < 2:
        return ""
    try:
        results = {verdict.result for verdict in verdicts(compare(runs, tries=tries_beside(runs))) if not verdict.note}
    except Exception:
        return ""
    if results <= {"open"}:
        return OPEN if results else ""
    return results.pop() if len(results) == 1 else "verdicts differ"


def main(argv: list[str]) -> None:
    """Print a line for each study, as soon as it is judged; one that cannot be judged has no claims."""
    with contextlib.suppress(OSError):
        # Nobody waits for it, and runs may be training.
        os.nice(10)
    folder = Path(argv[0])
    by_study: dict[str, list[Run]] = {name: [] for name in argv[1:]}
    for run in list_runs([folder], foreign=True):
        by_study.get(run.study, []).append(run)
    for name, runs in by_study.items():
        word, claims, size = "", list[dict[str, str]](), 0
        with contextlib.suppress(OSError):
            size = sum((run.path / METRICS).stat().st_size for run in runs if (run.path / METRICS).exists())
        if makes_claims(folder, name):
            word = OPEN  # until its runs have ended
            if size <= MOST_BYTES and all(run.status().shown_state in _ENDED for run in runs):
                with contextlib.suppress(LscError, ValueError, ArithmeticError, OSError):
                    claims = short_verdicts(folder, name)
                word = word_of([one["verdict"] for one in claims]) or standing(runs)
        elif size <= MOST_BYTES:
            word = standing(runs)
        print(json.dumps({"study": name, "word": word, "claims": claims}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
