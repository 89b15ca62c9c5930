"""All small presets of the papers: trained, reported into docs/results, and summed up in one table of claims.

    python -m benchmarks.papers --runs-dir runs [--readme README.md] [NAME …]

Each report keeps beside it what it was made of (made.json): a hash of its preset and one of the code that trains and
one of the code that reports. What has not changed since is skipped, so a second call costs nothing and a change
retrains only what it touches. Hashes are taken of syntax trees without docstrings: comments and layout change nothing.

Writes below --out (docs/results): FOLDER/STEM/ with report.md, its figures (SVG), values.csv, which its verdicts are
computed from, and made.json; index.md, every claim; claims.md, one line a preset, which --readme puts between its
marks; and presets/times.json, the minutes that `lsc-engine presets` shows.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lsc_engine.analysis.claims import ClaimVerdict, held
from lsc_engine.analysis.compare import levels_against, spread_text
from lsc_engine.analysis.study_values import VALUES, StudyValues, from_csv
from lsc_engine.analysis.verdict import chosen
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import number_of
from lsc_engine.config.load import PresetInfo, shipped_presets
from lsc_engine.config.tuning import level_purpose
from lsc_engine.report.page import cell
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.studies import Study, find_study, tries_of

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "": "Digits",
    "lsc-2025": "arXiv:2510.04090",
    "vector-systems-2025": "arXiv:2512.07509",
    "etf-2024": "arXiv:2412.00884",
    "beyond": "Beyond the sources",
}
SUFFIX, OWN = "-mini", ("demo", "digits-unique")
# TRIED is written by hand.
MADE, REPORT, TRIED = "made.json", "report.md", "tried.md"
START, END = "<!-- claims -->", "<!-- /claims -->"
# The study whose table stands between marks of its own in the README.
OPENING, LEVELS = "digits-unique", {"accuracy": ("train/accuracy", 0.9), "loss": ("train/loss", 0.75)}
OPENING_START, OPENING_END = "<!-- digits -->", "<!-- /digits -->"
# The code that decides the numbers of a run, and the code that decides how they are reported.
TRAINS = ("vectors", "data", "models", "heads", "training")
REPORTS = ("report", "analysis")
KEPT = (".md", ".svg", VALUES)
TIMES = ROOT / "presets" / "times.json"


@dataclass
class Made:
    """What a report was made of and what it has found: made.json. `trained` and `reported`: hashes of the code that
    trains and of the code that reports."""

    name: str
    title: str
    claim: str
    source: str
    preset: str
    trained: str
    reported: str
    kind: str = "train"
    data: str = ""
    seeds: int = 0
    runs: int = 0
    seconds: float = 0.0
    claims: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def page(self) -> str:
        """The report, seen from docs/results."""
        return f"{self.name}/{REPORT}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 1 where a preset could not be run or reported."""
    options = arguments(argv)
    minis = [info for info in shipped_presets() if info.folder in FOLDERS and is_small(info)]
    if unknown := [name for name in options.names if name not in {info.name for info in minis}]:
        print(f"no small preset is called {', '.join(unknown)}", file=sys.stderr)
        return 2
    chosen = [info for info in minis if not options.names or info.name in options.names]
    failed = [] if options.index_only else [info.name for info in chosen if not done(info, options)]
    write_index(options.out, [info.name for info in minis])
    write_times(options.out)
    if options.readme is not None:
        update_readme(options.readme, options.out)
    for name in failed:
        print(f"not reported: {name}", file=sys.stderr)
    return 1 if failed else 0


def is_small(info: PresetInfo) -> bool:
    """Whether a preset is made for two CPU cores and reported: the small ones of the papers, and those on digits."""
    return info.stem.endswith(SUFFIX) if info.folder else info.stem in OWN


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="only these presets, as folder/stem-mini")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="where the reports go")
    parser.add_argument("--data-dir", type=Path, help="where data sets are")
    parser.add_argument("--readme", type=Path, help=f"a file to put the table into, between {START} and {END}")
    parser.add_argument("--keep", action="store_true", help="take finished runs although the code has changed since")
    parser.add_argument("--no-train", action="store_true", help="report what runs there are, and train nothing")
    parser.add_argument("--index-only", action="store_true", help="only the tables, from the reports there are")
    return parser.parse_args(argv)


# ---------------------------------------------------------------------------------------------------------------------
# one preset


def done(info: PresetInfo, options: argparse.Namespace) -> bool:
    """Train and report one preset, or skip what is there already. False where it failed."""
    folder = options.out / info.name
    before = read_made(folder)
    preset, trained, reported = digest(info.path.read_bytes()), fingerprint(TRAINS), fingerprint(REPORTS)
    same = before is not None and (before.preset, before.trained) == (preset, trained)
    if same and before is not None and before.reported == reported and (folder / REPORT).exists():
        print(f"{info.name}: as it was")
        return True
    if not options.no_train and not (same and study_of(info, options.runs_dir)):
        if not options.keep:
            to_trash(info, options.runs_dir)
        print(f"{info.name}: training", flush=True)
        code = train(info, options)
        if code != 0:
            print(f"{info.name}: lsc-engine run ended with {code}", file=sys.stderr)
            return False
    study = study_of(info, options.runs_dir)
    if study is None:
        print(f"{info.name}: no runs in {options.runs_dir}", file=sys.stderr)
        return False
    made = Made(info.name, info.title, info.claim, info.source, preset, trained, reported, info.kind)
    made.seconds = trained_seconds(study) if info.kind == "train" else command_seconds(info, options.runs_dir)
    if not made.seconds and before is not None and same:
        made.seconds = before.seconds
    try:
        write_page(study, folder, made, options.data_dir)
    except LscError as error:
        print(f"{info.name}: {error}", file=sys.stderr)
        return False
    (folder / MADE).write_text(json.dumps(asdict(made), indent=1, ensure_ascii=False) + "\n")
    print(f"{info.name}: {folder / REPORT}", flush=True)
    return True


def train(info: PresetInfo, options: argparse.Namespace) -> int:
    """`lsc-engine run` in a process of its own, its words in a log beside the runs; the exit code."""
    options.runs_dir.mkdir(parents=True, exist_ok=True)
    command = python_command("-m", "lsc_engine", "run", info.name, "--runs-dir", str(options.runs_dir.resolve()))
    if info.kind == "train":
        command += ["--device", "cpu"]
    if options.data_dir is not None:
        command += ["--data-dir", str(options.data_dir.resolve())]
    before = processor_seconds()
    with beside(info, options.runs_dir, "log").open("wb") as log:
        code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode
    if info.kind != "train" and not options.keep:
        beside(info, options.runs_dir, "seconds").write_text(f"{processor_seconds() - before:.1f}\n")
    return code


def beside(info: PresetInfo, runs_dir: Path, ending: str) -> Path:
    """A file of ours in the runs folder."""
    return runs_dir / f"{info.name.replace('/', '_')}.{ending}"


def processor_seconds() -> float:
    """Time that processes started and ended from here have spent on a processor: on idle cores, and for one thread,
    the time they took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_page(study: Study, folder: Path, made: Made, data_dir: Path | None) -> None:
    """Write the report of a study into `folder`, and what it has found into `made`."""
    from lsc_engine.report.report import write_report

    written = write_report(study, folder, data_dir)
    for path in folder.iterdir():
        # Also what an earlier report drew and this one does not.
        if path.name != MADE and (path not in written.files or not path.name.endswith(KEPT)):
            path.unlink()
    made.data, made.seeds, made.runs, made.missing = written.data, written.seeds, len(study.runs), written.missing
    made.claims = claims_document(written.verdicts)


def study_of(info: PresetInfo, runs_dir: Path) -> Study | None:
    """The study of a preset in the runs folder, None if it has none."""
    try:
        return find_study(info.name, [runs_dir])
    except UsageError:
        return None


def to_trash(info: PresetInfo, runs_dir: Path) -> None:
    """Move what an earlier state of the preset or of the code has trained out of the way."""
    from lsc_engine.runs.read.notes import move_to_trash

    for measured in (runs_dir / info.name).glob("bench-*.json"):
        measured.unlink()
    study = study_of(info, runs_dir)
    if study is None:
        return
    for run in (*study.runs, *tries_of(study)):
        if run.root is not None:
            move_to_trash(run.root, run.id, run.path)


def trained_seconds(study: Study) -> float:
    """Processor time of all runs of a study and its tries, whenever each trained: the seconds that it took in its one
    thread, less the share that this thread waited for a processor."""
    runs = [*study.runs, *tries_of(study)]
    waited = [number_of((run.load or {}).get("waited")) or 0.0 for run in runs]
    return round(sum(run.status().seconds * (1 - share) for run, share in zip(runs, waited, strict=True)), 1)


def command_seconds(info: PresetInfo, runs_dir: Path) -> float:
    """Processor time of a preset that trains nothing, 0 where it was not measured."""
    try:
        return float(beside(info, runs_dir, "seconds").read_text())
    except (OSError, ValueError):
        return 0.0


# ---------------------------------------------------------------------------------------------------------------------
# hashes


def digest(data: bytes) -> str:
    """Sixteen hex digits."""
    return hashlib.sha256(data).hexdigest()[:16]


def fingerprint(parts: Iterable[str]) -> str:
    """A hash of the code below lsc_engine/PART that comments, docstrings and layout leave as it is."""
    whole = hashlib.sha256()
    for part in parts:
        place = ROOT / "lsc_engine" / part
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            whole.update(f"{file.relative_to(ROOT).as_posix()}\n{bare(file.read_text())}\n".encode())
    return whole.hexdigest()[:16]


def bare(source: str) -> str:
    """The syntax tree of a module as text, without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:]
    return ast.dump(tree)


def read_made(folder: Path) -> Made | None:
    """The file beside a report; None if it is missing or not readable."""
    try:
        return Made(**json.loads((folder / MADE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# tables


def reports(out: Path) -> list[Made]:
    """Everything that is reported below `out`, by paper and name."""
    found = [
        made
        for folder in FOLDERS
        for file in (sorted(out.glob(f"{folder}/*/{MADE}")) if folder else [out / stem / MADE for stem in OWN])
        if (made := read_made(file.parent))
    ]
    order = list(FOLDERS)
    return sorted(found, key=lambda made: (order.index(made.name.rpartition("/")[0]), made.name))


def write_index(out: Path, minis: Sequence[str]) -> None:
    """index.md, every claim with its verdicts, and claims.md, one line a preset."""
    out.mkdir(parents=True, exist_ok=True)
    found = reports(out)
    lines = [
        "# Results of the small presets",
        "",
        "Each preset is a row of a paper, or of ours, on data at hand and in minutes on two CPU cores: a test of the "
        "claim, not a reproduction of the figure. A verdict stands on all seeds, after one grid of learning rates for "
        "every method, and is judged by accuracy and by loss separately. A claim that does not hold stands here as "
        "such. Minutes are those of one processor core, of all runs and tries of the grid; each study trained in one "
        "thread, except the benchmarks, which take two.",
    ]
    for folder, title in FOLDERS.items():
        rows = [made for made in found if made.name.rpartition("/")[0] == folder]
        if rows:
            lines += ["", f"## {title}", "", *claim_table(rows)]
    if waiting := [name for name in minis if name not in {made.name for made in found}]:
        lines += ["", "## Not run yet", "", ", ".join(f"`{name}`" for name in waiting)]
    if (out / TRIED).exists():
        lines += ["", f"What was tried before the settings were fixed: [{TRIED}]({TRIED})."]
    (out / "index.md").write_text("\n".join(lines) + "\n")
    (out / "claims.md").write_text("\n".join(short_table(found, "")) + "\n")


def claims_document(verdicts: Sequence[ClaimVerdict]) -> list[dict[str, Any]]:
    """The verdicts as made.json keeps them."""
    keys = ("text", "source", "accuracy", "loss")
    return [{key: getattr(one, key) for key in keys} | {"details": list(one.details)} for one in verdicts]


def claim_row(one: dict[str, Any]) -> str:
    """A claim, whose it is, and its verdicts as they stand in the rows of an index."""
    whose = str(one.get("source", "")).partition(":")[0]
    text = one["text"] + (f" ({whose})" if whose else "")
    return f"| {cell(text)} | {cell(one.get('accuracy', ''))} | {cell(one.get('loss', ''))} |"


def claim_table(found: Iterable[Made]) -> list[str]:
    """All claims of some reports as a Markdown table."""
    rows = ["| preset | claim | by accuracy | by loss | data | minutes |", "| --- | --- | --- | --- | --- | ---: |"]
    for made in found:
        first = [f"[{made.name.split('/')[-1]}]({made.page})", cell(made.data), minutes(made)]
        nothing = {"text": made.claim, "accuracy": "a report without a verdict", "loss": ""}
        for claim in made.claims or [nothing]:
            rows.append(f"| {first[0]} {claim_row(claim)} {first[1]} | {first[2]} |")
            first = ["", "", ""]
    return rows


def short_table(found: Iterable[Made], below: str) -> list[str]:
    """One line a preset: its claim, and how many of its sentences hold. `below`: where docs/results is, seen from the
    file the table goes into."""
    rows = ["| row | claim | by accuracy | by loss |", "| --- | --- | --- | --- |"]
    for made in found:
        paper, _, stem = made.name.rpartition("/")
        name = f"[{FOLDERS[paper].removeprefix('arXiv:')} {stem.removesuffix(SUFFIX)}]({below}{made.page})"
        by = [held([claim.get(key, "") for claim in made.claims]) for key in ("accuracy", "loss")]
        if not made.claims:
            by = ["reported", ""]
        rows.append(f"| {name} | {cell(made.claim)} | {by[0]} | {by[1]} |")
    return rows


def minutes(made: Made) -> str:
    """Minutes to one digit, "-" where they were not measured."""
    return f"{made.seconds / 60:.1f}" if made.seconds else "-"


def write_times(out: Path) -> None:
    """presets/times.json: preset -> minutes, of those that were measured."""
    times = {made.name: round(made.seconds / 60, 1) for made in reports(out) if made.seconds}
    if times:
        TIMES.write_text(json.dumps(times, indent=1) + "\n")


def opening_table(values: StudyValues) -> list[str]:
    """The methods of the opening study, each at the rate that brings it to a level first: the rate, steps to the level,
    and the speed-up against the baseline with its range over seeds; then the final accuracy, mean ± std."""
    comparison = values.comparison
    assert comparison is not None
    base = values.key(values.name(comparison.baseline.runs[0]))
    head = "| | n | rate | steps to 90 % | faster | rate | steps to loss .75 | faster | accuracy at the end |"
    rows = [head, "|---|" + "---:|" * 8]
    for name in values.variants:
        key = values.key(name)
        cells, ended, size = [], "", ""
        for kind, (metric, level) in LEVELS.items():
            aim = level_purpose(values.levels, kind)
            assert aim is not None
            (row, best), (other, _) = chosen(comparison, key, aim), chosen(comparison, base, aim)
            assert row is not None
            assert other is not None
            reached = levels_against(row, other, {metric: [level]})[0]
            rate = f"{best.values['optimizer.lr']:g}" if best is not None else ""
            speed = "baseline" if row is other else str(reached.faster["steps"])
            cells += [rate, reached.text("steps"), speed] if speed != "other loss" else ["", "", speed]
            ended = ended or spread_text(row.last.get("train/accuracy"), 100) + " %"
            size = str(row.settings["model.dim"])
        rows.append(f"| {values.label(name)} | {size} | {' | '.join(cells)} | {ended} |")
    return rows


def update_readme(path: Path, out: Path) -> None:
    """Put the table of claims and that of the opening study between their marks in a Markdown file. SystemExit where
    it has none."""
    below = Path(out).resolve().relative_to(path.resolve().parent).as_posix() + "/"
    text = between_marks(path, path.read_text(), START, END, short_table(reports(out), below))
    if (values := out / OPENING / VALUES).exists():
        opening = opening_table(from_csv(values.read_text()))
        text = between_marks(path, text, OPENING_START, OPENING_END, opening)
    path.write_text(text)


def between_marks(path: Path, text: str, start: str, end: str, lines: Iterable[str]) -> str:
    """The text with other lines between two marks. SystemExit where it lacks one."""
    before, mark, rest = text.partition(start)
    _, closing, after = rest.partition(end)
    if not mark or not closing:
        raise SystemExit(f"{path}: the marks {start} and {end} are missing")
    return f"{before}{start}\n{chr(10).join(lines)}\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())
