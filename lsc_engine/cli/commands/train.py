"""Commands that train: run, resume, fork."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import lsc_engine.cli.options as cli
from lsc_engine.cli.output import answer, display, message, optional_stdout, print_json
from lsc_engine.common.errors import FULL
from lsc_engine.plugins import load_plugins
from lsc_engine.runs import open_run
from lsc_engine.runs.folder.layout import runs_dirs
from lsc_engine.runs.folder.process import describe_source

if TYPE_CHECKING:
    from lsc_engine.runs.read.run import Run
    from lsc_engine.studies.checks import ExecutionOptions
    from lsc_engine.studies.plan import StudyPlan
    from lsc_engine.studies.prepare import StudyRun
    from lsc_engine.studies.runner import StudyResult


@cli.command("run")
def run(
    study: cli.StudyOptions,
    place: cli.TrainingOptions,
    gpus: cli.Gpus = None,
    gpus_per_run: cli.GpusPerRun = 1,
    wait: cli.Wait = False,
    detach: cli.Detach = False,
    as_json: cli.Json = False,
) -> None:
    """Train every variant and seed of a preset; the same command again goes on where it stopped.

    Example: lsc-engine run demo --seeds 0,1,2
    """
    from lsc_engine.studies.checks import check_study
    from lsc_engine.studies.prepare import begin_study

    options = execution_options(place, gpus, wait, gpus_per_run)
    plan = plan_for(options, study)
    if plan.preset.kind != "train":
        from lsc_engine.cli.commands.report import report_without_training

        report_without_training(plan, options.runs_dir, place.data_dir, as_json=as_json)
        return
    check_study(plan, options, message, use_torch=not detach)
    source = describe_source(sys.argv)
    runs = begin_study(plan, options.runs_dir, source)
    if detach:
        _detach(plan.study, runs, options, as_json)
        return
    from lsc_engine.studies.runner import run_study

    result = run_study(plan, runs, options, message, display, source)
    with optional_stdout():
        _print_study(result, options, as_json)
    sys.exit(result.exit_code)


@cli.command("resume")
def resume(
    ref: cli.OneRun,
    place: cli.TrainingOptions,
    sets: Annotated[list[str] | None, cli.opt("--set", "data.path=DIR", "Where the same images lie now.")] = None,
    gpus_per_run: cli.GpusPerRun = 1,
    wait: cli.Wait = False,
    detach: cli.Detach = False,
    as_json: cli.Json = False,
) -> None:
    """Continue a run from its newest good checkpoint.

    Example: lsc-engine resume demo/V21-384/seed-0
    """
    from lsc_engine.studies.checks import prepare_resume
    from lsc_engine.studies.fork import resumed_config

    options = execution_options(place, wait=wait, gpus_per_run=gpus_per_run)
    found = open_run(ref, [options.runs_dir])
    options = replace(options, runs_dir=found.root or options.runs_dir)
    config = resumed_config(found, sets or ())
    if (status := found.status()).state == "finished":
        message(f"{found.id} is finished, at step {status.step}; fork it to train it further")
        _print_run(found, as_json)
        return
    this = prepare_resume(found, config, options, message, use_torch=not detach)
    _start(found.study, this, options, detach, as_json)


@cli.command("fork")
def fork(
    ref: cli.OneRun,
    place: cli.TrainingOptions,
    sets: cli.Sets = None,
    at: cli.At = None,
    name: Annotated[str | None, cli.opt("--name", "VARIANT", "The new run's variant name.")] = None,
    detach: cli.Detach = False,
    as_json: cli.Json = False,
) -> None:
    """A new run from a run's checkpoint, with changed settings; where it came from is kept.

    Example: lsc-engine fork demo/V21-384/seed-0 --at 1000 --set optimizer.lr=1e-5
    """
    from lsc_engine.studies.checks import prepare_fork
    from lsc_engine.studies.fork import fork_config

    options = execution_options(place)
    parent = open_run(ref, [options.runs_dir])
    config = fork_config(parent, sets or (), name)
    source = describe_source(sys.argv)
    this = prepare_fork(parent, config, at, options, message, source, use_torch=not detach)
    words = ["resume", this.id, "--runs-dir", str(options.runs_dir), "--device", place.device]
    _start(config.study, this, options, detach, as_json, [*words, *options.worker_arguments()])


def plan_for(options: ExecutionOptions, study: cli.StudyOptions) -> StudyPlan:
    """The study of a preset and these options, in parts that its processes can train; its warnings are printed."""
    from lsc_engine.studies.prepare import begun_parts

    plan = cli.load_plan(study)
    parts = begun_parts(options.runs_dir, plan.study) or options.gpus_per_run
    if parts > 1 and all(run.config.train.parts is None for run in plan.runs):
        plan = cli.load_plan(study, (f"train.parts={parts}",))
        message(f"note: train.parts = {parts}; as many processes as divide it can train the runs")
    for warning in plan.warnings:
        message(f"note: {warning}")
    return plan


def execution_options(
    place: cli.TrainingOptions, gpus: str | None = None, wait: bool = False, gpus_per_run: int = 1
) -> ExecutionOptions:
    """The options of a training; plugins are loaded. ModuleNotFoundError in a light installation, before anything is
    looked for or created."""
    for name in FULL:
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
    from lsc_engine.studies.checks import ExecutionOptions

    plugins = tuple(place.plugin or ())
    load_plugins(plugins)
    folder = runs_dirs([place.runs_dir] if place.runs_dir else None)[0]
    return ExecutionOptions(folder, place.data_dir, place.device, gpus, plugins, wait, gpus_per_run)


def _start(
    study: str, this: StudyRun, options: ExecutionOptions, detach: bool, as_json: bool, words: list[str] | None = None
) -> None:
    from lsc_engine.studies.runner import train

    if detach:
        _detach(study, [this], options, as_json, words)
        return
    code = train([this], options, message, display)
    _print_run(open_run(this.folder, [options.runs_dir]), as_json)
    sys.exit(code)


def _detach(
    study: str, runs: Sequence[StudyRun], options: ExecutionOptions, as_json: bool, words: list[str] | None = None
) -> None:
    """Start the same command in the background, or the command `words`, and print how to follow it."""
    from lsc_engine.studies.detach import detach_study

    words = words or [word for word in sys.argv[1:] if word not in ("--detach", "--json")]
    first, log = detach_study(words, study, runs, options.runs_dir)
    ids = [run.id for run in runs]
    text = f"{study}: {len(ids)} runs, pid {first.pid}; it goes on when this terminal is closed\n"
    text += f"  lsc-engine list   lsc-engine log {ids[0]} --follow   lsc-engine stop {ids[0]}"
    if first.code == 0:
        text = f"{study}: nothing is left to train, {log} has its table"
    answer(as_json, {"study": study, "pid": first.pid, "log": str(log), "runs": ids}, text)


def _print_run(run: Run, as_json: bool) -> None:
    from lsc_engine.cli.results import run_row
    from lsc_engine.runs.read.run import list_runs, short_ids

    if as_json:
        known = list_runs([run.root]) if run.root else []
        with optional_stdout():
            print_json(run_row(run, short_ids([*known, run])[run.id]))


def _print_study(result: StudyResult, options: ExecutionOptions, as_json: bool) -> None:
    from lsc_engine.analysis.compare import compare
    from lsc_engine.analysis.verdict import to_json
    from lsc_engine.cli.results import run_row, study_text
    from lsc_engine.runs.read.run import short_ids
    from lsc_engine.runs.read.studies import tries_beside
    from lsc_engine.studies.tune import tries_document

    plan, runs_dir = result.plan, options.runs_dir
    tries: dict[str, Any] = {}
    if result.tune is not None and as_json:
        tries = {"tries": tries_document(result.tune, runs_dir)}
    if not result.chosen:
        answer(as_json, {"study": plan.study, "runs": [], "comparison": None, **tries})
        return
    # A folder that was removed while its run was trained has nothing to show.
    runs = [open_run(run.id, [runs_dir]) for run in plan.runs if (runs_dir / run.id).is_dir()]
    if not runs:
        return
    named = plan.preset.compare.baseline
    baseline = named if named in {run.variant for run in runs} else None
    levels = {name: list(values) for name, values in plan.preset.compare.levels.items()}
    found, short = compare(runs, baseline, levels or None, tries_beside(runs)), short_ids(runs)

    def document() -> dict[str, Any]:
        rows = [run_row(run, short[run.id]) for run in runs]
        return {"study": plan.study, "runs": rows, "comparison": to_json(found), **tries}

    answer(as_json, document, lambda: study_text(plan.preset.title, found))
