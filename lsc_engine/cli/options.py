"""Options and arguments that several commands have, each worded once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lsc_engine.studies.plan import StudyPlan

# ----------------------------------------------------------------------------------------------------- What it is about
Preset = Annotated[str, typer.Argument(metavar="PRESET", help="A preset file, or the name of a shipped preset.")]
OneRun = Annotated[str, typer.Argument(metavar="RUN", help="Run id, a unique part of one, short id or path.")]
ManyRuns = Annotated[list[str], typer.Argument(metavar="RUN", help="Runs, or a study for all of its runs.")]
At = Annotated[
    int | None, typer.Option("--at", metavar="STEP", help="The checkpoint's step. Default: the newest good one.")
]

# -------------------------------------------------------------------------------------------------- How a study is made
Variants = Annotated[
    list[str] | None, typer.Option("--variant", metavar="NAME", help="Only this variant; may be repeated.")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: a.b=value; may be repeated.")
]
Sweeps = Annotated[
    list[str] | None, typer.Option("--sweep", metavar="KEY=X,Y", help="Every variant at each value: a.b=x,y.")
]
Seeds = Annotated[str | None, typer.Option("--seeds", metavar="LIST", help="Seeds, as in 0,1,2 or 0-4.")]
StudyName = Annotated[
    str | None, typer.Option("--name", metavar="STUDY", help="The study's name. Default: the preset's.")
]

# ----------------------------------------------------------------------------------------------- Where, and on what
RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", metavar="DIR", help="Where run folders are kept. Default: $LSC_RUNS, else ./runs."),
]
RunsDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--runs-dir", metavar="DIR", help="A runs folder; may be given several times. Default: $LSC_RUNS, else ./runs."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Where data sets are. Default: $LSC_DATA, else ~/.cache/lsc."),
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")]
Gpus = Annotated[
    str | None, typer.Option("--gpus", metavar="LIST", help="GPUs to use: auto (all idle ones) or a list such as 0,1.")
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="A Python file with own models, systems, losses or data sets; may be repeated.",
    ),
]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Wait for what other processes train, until it is finished or free; then go on."),
]
Detach = Annotated[bool, typer.Option("--detach", help="Run in the background.")]

# ------------------------------------------------------------------------------------------------------- What comes out
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing output.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]


def load_plan(
    preset: str,
    variants: list[str] | None,
    sets: list[str] | None,
    sweeps: list[str] | None,
    seeds: str | None,
    name: str | None,
    plugins: list[Path] | None,
) -> StudyPlan:
    """The study that these options make of a preset. UsageError with all problems at once."""
    from lsc_engine.config.typed import parse_seeds
    from lsc_engine.plugins import load_plugins
    from lsc_engine.studies.plan import plan_study

    load_plugins(plugins or [])
    numbers = None if seeds is None else parse_seeds(seeds, "--seeds")
    return plan_study(preset, name=name, variants=variants or (), sets=sets or (), sweeps=sweeps or (), seeds=numbers)
