"""Commands that train: run, resume, fork, submit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import lsc_engine.cli.options as cli
from lsc_engine.cli.commands.runs import find_runs
from lsc_engine.cli.output import answer, display, message, optional_stdout, print_json
from lsc_engine.common.errors import FULL, LscError, UsageError, did_you_mean
from lsc_engine.common.formatting import counted
from lsc_engine.plugins import load_plugins
from lsc_engine.runs import open_run
from lsc_engine.runs.folder import slurm
from lsc_engine.runs.folder.layout import runs_dirs
from lsc_engine.runs.folder.process import describe_source

if TYPE_CHECKING:
    from lsc_engine.runs.read.run import Run
    from lsc_engine.studies.checks import ExecutionOptions
    from lsc_engine.studies.plan import StudyPlan, TunePlan
    from lsc_engine.studies.prepare import StudyRun


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

    code, plan, tries = run_study(plan, runs, options, message, display, source)
    with optional_stdout():
        _print_study(plan, tries, options, as_json)
    sys.exit(code)


@cli.command("resume")
def resume(
    ref: cli.RunOrStudy,
    place: cli.TrainingOptions,
    sets: Annotated[list[str] | None, cli.opt("--set", "data.path=DIR", "Where the same images lie now.")] = None,
    gpus_per_run: cli.GpusPerRun = 1,
    wait: cli.Wait = False,
    detach: cli.Detach = False,
    as_json: cli.Json = False,
) -> None:
    """Continue a run, or what is left of a study, from the newest good checkpoints.

    Example: lsc-engine resume demo/V21-384/seed-0
    """
    from lsc_engine.runs.folder.checkpoints import newest_good
    from lsc_engine.runs.read.run import no_checkpoint
    from lsc_engine.studies.checks import prepare_resume
    from lsc_engine.studies.fork import resumed_config

    options = execution_options(place, wait=wait, gpus_per_run=gpus_per_run)
    chosen = find_runs([ref], [options.runs_dir], foreign=False)
    options = replace(options, runs_dir=chosen[0].root or options.runs_dir)
    configs = [resumed_config(run, sets or ()) for run in chosen]
    left = []
    for run, config in zip(chosen, configs, strict=True):
        if (status := run.status()).state == "finished":
            further = f"{run.id} is finished, at step {status.step}; fork it to train it further"
            message(further if newest_good(run.path)[0] is not None else no_checkpoint(run))
        elif status.state == "diverged" and len(chosen) > 1:
            message(f"{run.id} diverged, as it would again; lsc-engine resume {run.id} trains it all the same")
        else:
            left.append((run, config))
    if not left:
        _print_runs(chosen, as_json)
        return
    these = prepare_resume(left, options, message, use_torch=not detach)
    _start(these, options, detach, as_json, shown=[run.path for run in chosen])


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
    config, source = fork_config(parent, sets or (), name), describe_source(sys.argv)
    this = prepare_fork(parent, config, at, options, message, source, use_torch=not detach)
    _start([this], options, detach, as_json, ["resume", this.id, *options.words()], shown=[this.folder])


@cli.command("submit")
def submit(
    study: cli.StudyOptions,
    place: cli.TrainingOptions,
    to: Annotated[str, cli.opt("--to", "WHERE", "slurm, or skypilot: writes its YAML.")] = "slurm",
    time: Annotated[str | None, cli.opt("--time", "TIME", "Limit of a task, as in 4h; it is requeued then.")] = None,
    partition: Annotated[str | None, cli.opt("--partition", "NAME", "The partition of the jobs.")] = None,
    gpus_per_run: Annotated[int, cli.num("--gpus-per-run", "N", "GPUs of a run on each node.", min=1)] = 1,
    nodes_per_run: Annotated[int, cli.num("--nodes-per-run", "M", "Nodes of a run.", min=1)] = 1,
    at_once: Annotated[int, cli.num("--at-once", "N", "Runs of a stage that train at once.", min=1)] = 16,
    sbatch: Annotated[list[str] | None, cli.opt("--sbatch", "OPTION", 'As in "--account=x"; may be repeated.')] = None,
    dry_run: Annotated[bool, cli.opt("--dry-run", None, "Print what would be submitted; create nothing.")] = False,
    as_json: cli.Json = False,
) -> None:
    """Train a study on Slurm, a task for each run; the same command again submits what is left.

    Lines for every job (account, modules) come from $LSC_SLURM, else from ~/.config/lsc/slurm.sh.

    Example: lsc-engine submit fig9 --time 4h --partition gpu
    """
    from lsc_engine.studies import submit as jobs
    from lsc_engine.studies.checks import check_study

    if to not in ("slurm", "skypilot"):
        raise UsageError(f'--to: "{to}" is not a scheduler; {did_you_mean(to, ["slurm", "skypilot"])}')
    chosen = {"--time": time, "--partition": partition, "--sbatch": sbatch, "--nodes-per-run": nodes_per_run > 1}
    if to == "skypilot" and (of_slurm := [name for name, value in chosen.items() if value]):
        raise UsageError(f"--to skypilot: {', '.join(of_slurm)} is for Slurm; one machine trains all runs")
    if to == "slurm" and not dry_run and not slurm.installed():
        raise LscError(jobs.NO_SLURM)
    # Jobs may begin in another folder.
    data_dir, plugin = place.data_dir and place.data_dir.absolute(), [file.absolute() for file in place.plugin or ()]
    place = replace(place, data_dir=data_dir, plugin=plugin)
    options = execution_options(place, gpus_per_run=gpus_per_run * nodes_per_run)
    resources = jobs.Resources(time, partition, gpus_per_run, nodes_per_run, at_once, tuple(sbatch or ()))
    plan = plan_for(options, study)
    if plan.preset.kind != "train":
        raise UsageError(f"{plan.study} trains nothing, it makes its report at once: lsc-engine run {study.preset}")
    if to == "skypilot":
        text, file = jobs.skypilot(plan, options, resources, dry_run=dry_run)
        command = f"sky jobs launch {file}"
        document = {"study": plan.study, "file": None if dry_run else str(file), "yaml": text, "command": command}
        written = f"{file} is written. Replace the bucket in it by one of yours, then: {command}"
        answer(as_json, document, text.rstrip("\n") if dry_run else written)
        return
    check_study(plan, options, message, use_torch=False, here=False)
    if dry_run:
        found = jobs.arrays(plan, options, resources, slurm.query() if slurm.installed() else None)
    else:
        found = jobs.submit(plan, options, resources, describe_source(sys.argv))
    if as_json:
        print_json({"study": plan.study, "jobs": found.documents(), "left": found.left})
        return
    for run, why in found.left.items():
        message(f"{run}: {why}")
    if not found.stages:
        has = any(why.startswith(jobs.IN_SLURM) for why in found.left.values())
        again = f"; lsc-engine stop {plan.study} comes before a submit with other options" if has else ""
        print(f"{plan.study}: nothing is left to submit{again}")
    elif dry_run:
        for stage in found.stages:
            print(f"# {stage.name}.sbatch" + (f", after {', '.join(stage.after)}" if stage.after else ""))
            print(stage.text)
    else:
        arrays = "; ".join(f"{stage.name} ({len(stage.tasks)}) as job {stage.job}" for stage in found.stages)
        print(f"{plan.study}: submitted {arrays}")
        print(f"  lsc-engine list {plan.study}   lsc-engine stop {plan.study}")


def plan_for(options: ExecutionOptions, study: cli.StudyOptions) -> StudyPlan:
    """The study of a preset and these options, in parts that its processes can train; its warnings are printed."""
    from lsc_engine.studies.prepare import begun_parts

    plan = cli.load_plan(study)
    parts = begun_parts(options.runs_dir, plan.study) or options.gpus_per_run
    if parts > 1 and all(run.config.train.parts is None for run in plan.runs):
        plan = cli.load_plan(study, (f"train.parts={parts}",))
        message(f"note: train.parts = {parts}; as many processes as divide it can train the runs")
    for warning in plan.preset.warnings:
        message(f"note: {warning}")
    return plan


def execution_options(
    place: cli.TrainingOptions, gpus: str | None = None, wait: bool = False, gpus_per_run: int = 1
) -> ExecutionOptions:
    """The options of a training; plugins are loaded. ModuleNotFoundError in a light installation."""
    for name in FULL:
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
    from lsc_engine.studies.checks import ExecutionOptions

    plugins = tuple(place.plugin or ())
    load_plugins(plugins)
    folder = runs_dirs([place.runs_dir] if place.runs_dir else None)[0]
    return ExecutionOptions(folder, place.data_dir, place.device, gpus, plugins, wait, gpus_per_run)


def _start(
    runs: Sequence[StudyRun],
    options: ExecutionOptions,
    detach: bool,
    as_json: bool,
    words: list[str] | None = None,
    *,
    shown: Sequence[Path],
) -> None:
    from lsc_engine.studies.runner import train

    if detach:
        _detach(runs[0].config.study, runs, options, as_json, words)
        return
    code = train(runs, options, message, display)
    _print_runs([open_run(folder, [options.runs_dir]) for folder in shown], as_json)
    sys.exit(code)


def _detach(
    study: str, runs: Sequence[StudyRun], options: ExecutionOptions, as_json: bool, words: list[str] | None = None
) -> None:
    """Start the same command in the background, or the command `words`, and print how to follow it."""
    from lsc_engine.studies.detach import detach_study

    words = words or [word for word in sys.argv[1:] if word not in ("--detach", "--json")]
    first, log = detach_study(words, study, runs, options.runs_dir)
    ids = [run.id for run in runs]
    text = f"{study}: {counted(len(ids), 'run')}, pid {first.pid}; it goes on when this terminal is closed\n"
    text += f"  lsc-engine list   lsc-engine log {ids[0]} --follow   lsc-engine stop {ids[0]}"
    if first.returncode == 0:
        text = f"{study}: nothing is left to train, {log} has its table"
    answer(as_json, {"study": study, "pid": first.pid, "log": str(log), "runs": ids}, text)


def _print_runs(runs: Sequence[Run], as_json: bool) -> None:
    """For JSON: of one run an object, of several a list."""
    from lsc_engine.cli.results import run_row
    from lsc_engine.runs.read.run import list_runs, short_ids

    if as_json:
        root = runs[0].root
        short = short_ids([*(list_runs([root]) if root else []), *runs])
        rows = [run_row(run, short[run.id]) for run in runs]
        with optional_stdout():
            print_json(rows if len(rows) > 1 else rows[0])


def _print_study(plan: StudyPlan, tries: TunePlan | None, options: ExecutionOptions, as_json: bool) -> None:
    from lsc_engine.analysis.compare import compare
    from lsc_engine.analysis.verdict import to_json
    from lsc_engine.cli.results import run_row, study_text, tries_document
    from lsc_engine.runs.read.run import short_ids
    from lsc_engine.runs.read.studies import tries_beside

    runs_dir = options.runs_dir
    tried: dict[str, Any] = {}
    if tries is not None and as_json:
        tried = {"tries": tries_document(tries, runs_dir)}
    if plan.tune is not None:
        answer(as_json, {"study": plan.study, "runs": [], "comparison": None, **tried})
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
        return {"study": plan.study, "runs": rows, "comparison": to_json(found), **tried}

    answer(as_json, document, lambda: study_text(plan.preset.title, found))
