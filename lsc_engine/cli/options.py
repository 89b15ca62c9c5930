"""What the commands share: how one is registered, and the options and arguments that several have, worded once."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperOption

from lsc_engine import __version__
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import quoted
from lsc_engine.common.userpaths import absent, user_path

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


class _Command(TyperCommand):
    """A command that refuses an option of one value that is given twice, instead of taking the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for one in self.params:
            if isinstance(one, TyperOption) and not (one.multiple or one.is_flag) and order.count(one) > 1:
                raise UsageError(f"{one.opts[0]} is given twice, and takes one value")
        return super().parse_args(ctx, args)


def command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: the function is the command `name`; a parameter of a group below stands for the group's options."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        groups = {key: hint for key, hint in hints.items() if hint in _GROUPS}
        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(function).parameters.values():
            group, own = groups.get(one.name), [one]
            if group is not None:
                own = list(inspect.signature(group).parameters.values())
                hints |= get_type_hints(group, include_extras=True)
            parameters += [each.replace(annotation=hints[each.name], kind=each.KEYWORD_ONLY) for each in own]

        @functools.wraps(function)
        def run(**values: Any) -> None:
            for key, group in groups.items():
                values[key] = group(**{each.name: values.pop(each.name) for each in fields(group)})
            function(**values)

        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        app.command(name, cls=_Command)(run)
        return function

    return add


def opt(flag: str, metavar: str | None, help: str, **more: Any) -> Any:
    """An option; one without a `metavar` is a switch. `flag` may name a short form, as in "--follow -f"."""
    return typer.Option(*flag.split(), metavar=metavar, help=help, **more)


def num(flag: str, metavar: str, help: str, kind: type[int | float] = int, **more: Any) -> Any:
    """An option of one number, at least `min` if `more` has it."""
    least = more.get("min")
    what = ("a whole number" if kind is int else "a number") + ("" if least is None else f" of {least} or more")

    def parse(text: str) -> int | float:
        with contextlib.suppress(ValueError):
            if least is None or kind(text) >= least:
                return kind(text)
        raise UsageError(f"{flag.split()[0]}: {quoted(text)} is not {what}")

    return opt(flag, metavar, help, parser=parse, **more)


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
RunOrStudy = Annotated[str, arg("RUN", "A run, or a study for all of its runs.")]
ManyRuns = Annotated[list[str], arg("RUN", "Runs, or a study for all of its runs.")]
At = Annotated[int | None, num("--at", "STEP", "The checkpoint's step. Default: the newest good; to export, the best.")]
Baseline = Annotated[str | None, opt("--baseline", "VARIANT", "Variant to compare with.")]
Metrics = Annotated[list[str] | None, opt("--metric", "NAME", "Draw this metric; may be repeated.")]

Variants = Annotated[list[str] | None, opt("--variant", "NAME", "Only this variant; may be repeated.")]
Sets = Annotated[list[str] | None, opt("--set", "KEY=VALUE", "Change a setting: a.b=value; may be repeated.")]
Sweeps = Annotated[list[str] | None, opt("--sweep", "KEY=X,Y", "Every variant at each value: a.b=x,y.")]
Seeds = Annotated[str | None, opt("--seeds", "LIST", "Seeds, as in 0,1,2 or 0-4.")]
StudyName = Annotated[str | None, opt("--name", "STUDY", "The study's name. Default: the preset's.")]

_RUNS_DIR = "Default: $LSC_RUNS, else ./runs."
RunsDir = Annotated[Path | None, opt("--runs-dir", "DIR", f"Where run folders are kept. {_RUNS_DIR}")]
RunsDirs = Annotated[list[Path] | None, opt("--runs-dir", "DIR", f"A runs folder; may be repeated. {_RUNS_DIR}")]
DataDir = Annotated[Path | None, opt("--data-dir", "DIR", "Data sets. Default: $LSC_DATA, else ~/.cache/lsc.")]
ImageDir = Annotated[str | None, opt("--path", "DIR", "The folder of the images; required for folder.")]
Device = Annotated[str, opt("--device", "DEVICE", "auto, cpu, cuda or cuda:1.")]
Gpus = Annotated[str | None, opt("--gpus", "LIST", "GPUs to use: auto (all idle ones) or a list such as 0,1.")]
GpusPerRun = Annotated[int, num("--gpus-per-run", "N", "Processes of each run, each on a GPU or all on CPU.", min=1)]
Plugins = Annotated[list[Path] | None, opt("--plugin", "FILE.py", "Own models, systems, losses or data; repeatable.")]
Wait = Annotated[bool, opt("--wait", None, "Wait until what other processes train is finished or free.")]
Detach = Annotated[bool, opt("--detach", None, "Run in the background.")]
Force = Annotated[bool, opt("--force", None, "Overwrite existing output.")]
Json = Annotated[bool, opt("--json", None, "One JSON document on stdout, and nothing else there.")]


@dataclass(frozen=True)
class StudyOptions:
    """A preset, and what is changed in it."""

    preset: Preset
    variant: Variants = None
    sets: Sets = None
    sweep: Sweeps = None
    seeds: Seeds = None
    name: StudyName = None


@dataclass(frozen=True)
class TrainingOptions:
    """Where a study trains."""

    runs_dir: RunsDir = None
    data_dir: DataDir = None
    device: Device = "auto"
    plugin: Plugins = None


@dataclass(frozen=True)
class UseOptions:
    """Which checkpoint of a run is used, and where."""

    at: At = None
    runs_dir: RunsDirs = None
    data_dir: DataDir = None
    device: Device = "auto"
    plugin: Plugins = None


_GROUPS: tuple[Any, ...] = (StudyOptions, TrainingOptions, UseOptions)


def new_file(option: str, name: str | Path, force: bool, *endings: str) -> Path:
    """The path of a file to write. UsageError for another ending, and if it exists or its folder does not."""
    file = user_path(name)
    if file.suffix not in endings:
        raise UsageError(f"{option} {file}: the name must end in {' or '.join(endings)}")
    if (why := absent(file.parent)) is not None:
        raise UsageError(f"{option} {file}: {file.parent}: {why}; make the folder first")
    if file.is_dir():
        raise UsageError(f"{option} {file}: is a folder; give a file")
    if os.path.lexists(file) and not force:
        do = "give another name, or --force to replace it"
        raise UsageError(f"{option} {file}: exists already and is not overwritten; {do}")
    return file


def load_plan(chosen: StudyOptions, further: tuple[str, ...] = ()) -> StudyPlan:
    """The study that a preset and these options make, with `further` settings. UsageError with all problems at once."""
    from lsc_engine.config.typed import parse_seeds
    from lsc_engine.studies.plan import new_study_fault, plan_study

    plan = plan_study(
        chosen.preset,
        name=chosen.name,
        variants=chosen.variant or (),
        sets=(*(chosen.sets or ()), *further),
        sweeps=chosen.sweep or (),
        seeds=None if chosen.seeds is None else parse_seeds(chosen.seeds, "--seeds"),
    )
    if (fault := new_study_fault(plan.study)) is not None:
        raise UsageError(f"--name: {fault}")
    return plan
