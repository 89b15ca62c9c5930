"""What the commands share: how one is registered, and the options and arguments that several have, worded once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsc_engine import __version__

if TYPE_CHECKING:
    from lsc_engine.studies.plan import StudyPlan

app = typer.Typer(
    name="lsc-engine",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# @command("name") makes a function of a file in the folder `commands` the command of that name.
command = app.command


def opt(flag: str, metavar: str | None, help: str, **more: Any) -> Any:
    """An option; one without a `metavar` is a switch. `flag` may name a short form, as in "--follow -f"."""
    return typer.Option(*flag.split(), metavar=metavar, help=help, **more)


def arg(metavar: str, help: str, **more: Any) -> Any:
    """A positional argument; `more` goes to typer."""
    return typer.Argument(metavar=metavar, help=help, **more)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"lsc-engine {__version__}")
        raise typer.Exit


@app.callback()
def _version(
    version: Annotated[
        bool, opt("--version", None, "Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Train networks on predefined vector systems, from a preset to a run folder."""


Preset = Annotated[str, arg("PRESET", "A preset file, or the name of a shipped preset.")]
OneRun = Annotated[str, arg("RUN", "Run id, a unique part of one, short id or path.")]
ManyRuns = Annotated[list[str], arg("RUN", "Runs, or a study for all of its runs.")]
At = Annotated[int | None, opt("--at", "STEP", "The checkpoint's step. Default: the newest good one.")]
Baseline = Annotated[str | None, opt("--baseline", "VARIANT", "Variant to compare with.")]
Metrics = Annotated[list[str] | None, opt("--metric", "NAME", "Draw this metric; may be repeated.")]

Variants = Annotated[list[str] | None, opt("--variant", "NAME", "Only this variant; may be repeated.")]
Sets = Annotated[list[str] | None, opt("--set", "KEY=VALUE", "Change a setting: a.b=value; may be repeated.")]
Sweeps = Annotated[list[str] | None, opt("--sweep", "KEY=X,Y", "Every variant at each value: a.b=x,y.")]
Seeds = Annotated[str | None, opt("--seeds", "LIST", "Seeds, as in 0,1,2 or 0-4.")]
StudyName = Annotated[str | None, opt("--name", "STUDY", "The study's name. Default: the preset's.")]

_RUNS_DIR = "Default: $LSC_RUNS, else ./runs."
RunsDir = Annotated[Path | None, opt("--runs-dir", "DIR", f"Where run folders are kept. {_RUNS_DIR}")]
RunsDirs = Annotated[
    list[Path] | None, opt("--runs-dir", "DIR", f"A runs folder; may be given several times. {_RUNS_DIR}")
]
DataDir = Annotated[
    Path | None, opt("--data-dir", "DIR", "Where data sets are. Default: $LSC_DATA, else ~/.cache/lsc.")
]
ImageDir = Annotated[str | None, opt("--path", "DIR", "The folder of the images; required for folder.")]
Device = Annotated[str, opt("--device", "DEVICE", "auto, cpu, cuda or cuda:1.")]
Gpus = Annotated[str | None, opt("--gpus", "LIST", "GPUs to use: auto (all idle ones) or a list such as 0,1.")]
GpusPerRun = Annotated[
    int, opt("--gpus-per-run", "N", "Train each run with N processes, one per GPU, or all on the CPU.", min=1)
]
Plugins = Annotated[
    list[Path] | None,
    opt("--plugin", "FILE.py", "A Python file with own models, systems, losses or data sets; may be repeated."),
]
Wait = Annotated[
    bool, opt("--wait", None, "Wait for what other processes train, until it is finished or free; then go on.")
]
Detach = Annotated[bool, opt("--detach", None, "Run in the background.")]
Force = Annotated[bool, opt("--force", None, "Overwrite existing output.")]
Json = Annotated[bool, opt("--json", None, "One JSON document on stdout, and nothing else there.")]


def load_plan(preset: str, name: str | None, seeds: str | None, *changes: list[str] | None) -> StudyPlan:
    """The study that a preset and these options make; `changes`: --variant, --set and --sweep. UsageError with all
    problems at once."""
    from lsc_engine.config.typed import parse_seeds
    from lsc_engine.studies.plan import plan_study

    variants, sets, sweeps = (change or () for change in changes)
    numbers = None if seeds is None else parse_seeds(seeds, "--seeds")
    return plan_study(preset, name=name, variants=variants, sets=sets, sweeps=sweeps, seeds=numbers)
