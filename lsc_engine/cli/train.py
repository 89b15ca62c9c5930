"""Commands that train: run, fork, resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsc_engine.cli.options import (
    At,
    DataDir,
    Detach,
    Device,
    Gpus,
    Json,
    OneRun,
    Plugins,
    Preset,
    RunsDir,
    Seeds,
    Sets,
    StudyName,
    Sweeps,
    Variants,
    Wait,
)

if TYPE_CHECKING:
    from lsc_engine.cli.launching import Place


def register(app: typer.Typer) -> None:
    """Add run, resume and fork."""
    app.command("run")(run)
    app.command("resume")(resume)
    app.command("fork")(fork)


def run(
    preset: Preset,
    variant: Variants = None,
    sets: Sets = None,
    sweep: Sweeps = None,
    seeds: Seeds = None,
    name: StudyName = None,
    runs_dir: RunsDir = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    gpus: Gpus = None,
    plugin: Plugins = None,
    wait: Wait = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Train every variant and seed of a preset; the same command again goes on where it stopped.

    Example: lsc-engine run demo --seeds 0,1,2
    """
    from lsc_engine.cli.launching import run_preset
    from lsc_engine.config import plan_study
    from lsc_engine.config.typed import parse_seeds
    from lsc_engine.plugins import load_plugins

    load_plugins(plugin or [])
    plan = plan_study(
        preset,
        name=name,
        variants=tuple(variant or ()),
        sets=tuple(sets or ()),
        sweeps=tuple(sweep or ()),
        seeds=None if seeds is None else parse_seeds(seeds, "--seeds"),
    )
    place = _place(runs_dir, data_dir, device, gpus, plugin, wait)
    run_preset(plan, place, detach=detach, as_json=as_json)


def resume(
    ref: OneRun,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="data.path=DIR", help="Where the same images lie now, if they have moved."),
    ] = None,
    runs_dir: RunsDir = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugin: Plugins = None,
    wait: Wait = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Continue a run from its newest good checkpoint.

    Example: lsc-engine resume demo/V21-384/seed-0
    """
    from lsc_engine.cli.launching import resume_run
    from lsc_engine.plugins import load_plugins

    load_plugins(plugin or [])
    place = _place(runs_dir, data_dir, device, None, plugin, wait)
    resume_run(ref, tuple(sets or ()), place, detach=detach, as_json=as_json)


def fork(
    ref: OneRun,
    sets: Sets = None,
    at: At = None,
    name: Annotated[str | None, typer.Option("--name", metavar="VARIANT", help="The new run's variant name.")] = None,
    runs_dir: RunsDir = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugin: Plugins = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """A new run from a run's checkpoint, with changed settings; where it came from is kept.

    Example: lsc-engine fork demo/V21-384/seed-0 --at 1000 --set optimizer.lr=1e-5
    """
    from lsc_engine.cli.launching import fork_run
    from lsc_engine.plugins import load_plugins

    load_plugins(plugin or [])
    place = _place(runs_dir, data_dir, device, None, plugin)
    fork_run(ref, tuple(sets or ()), at, name, place, detach=detach, as_json=as_json)


def _place(
    runs_dir: Path | None,
    data_dir: Path | None,
    device: str,
    gpus: str | None,
    plugin: list[Path] | None,
    wait: bool = False,
) -> Place:
    from lsc_engine.cli.launching import Place
    from lsc_engine.runs.folder.layout import runs_dirs

    folder = runs_dirs([runs_dir] if runs_dir else None)[0]
    return Place(folder, data_dir, device, gpus, tuple(plugin or ()), wait)
