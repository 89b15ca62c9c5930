"""The command `export`: metrics, weights, figures and tables of runs in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from lsc_engine.cli.options import Baseline, Force, Json, ManyRuns, Metrics, RunsDirs, command, opt
from lsc_engine.cli.output import print_json
from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.userpaths import user_path


@command("export")
def export(
    runs: ManyRuns,
    to: Annotated[str, opt("--to", "FORMAT", "csv, parquet, tensorboard, safetensors, png, svg, pdf or latex.")],
    out: Annotated[
        Path | None, opt("--out", "PATH", "File, or folder where there are several. Default: a name of its own.")
    ] = None,
    metric: Metrics = None,
    baseline: Baseline = None,
    at: Annotated[
        int | None, opt("--at", "STEP", "Step of the checkpoint (safetensors). Default: the best one.")
    ] = None,
    force: Force = False,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Write runs for other tools: metrics, the weights of the best checkpoint, curves, or a table of a comparison.

    Example: lsc-engine export fig9 --to svg --metric train/loss --out loss.svg
    """
    from lsc_engine.cli.commands.runs import find_runs
    from lsc_engine.report.exports import FIGURES, FORMATS
    from lsc_engine.report.exports import export as write

    if to not in FORMATS:
        raise UsageError(f"--to {to}: there is no such format; {did_you_mean(to, FORMATS)}")
    for option, argument, fits in (
        ("--metric", metric, FIGURES),
        ("--at", at, ("safetensors",)),
        ("--baseline", baseline, ("latex", *FIGURES)),
    ):
        if argument and to not in fits:
            raise UsageError(f"{option} does not go with --to {to}, but with {', '.join(fits)}")
    chosen = find_runs(runs, runs_dir)
    place = user_path(out) if out is not None else None
    files = write(chosen, to, place, force=force, metrics=metric, baseline=baseline, at=at)
    if as_json:
        print_json({"to": to, "runs": [run.id for run in chosen], "files": [str(file) for file in files]})
    else:
        print(*files, sep="\n")
