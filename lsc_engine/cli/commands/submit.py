"""Training elsewhere: submit."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import lsc_engine.cli.options as cli
from lsc_engine.cli.output import answer, message, print_json
from lsc_engine.common.errors import LscError, UsageError, did_you_mean
from lsc_engine.runs.folder import slurm
from lsc_engine.runs.folder.process import describe_source


@cli.command("submit")
def submit(
    study: cli.StudyOptions,
    place: cli.TrainingOptions,
    to: Annotated[str, cli.opt("--to", "WHERE", "slurm, or skypilot: writes its YAML.")] = "slurm",
    time: Annotated[str | None, cli.opt("--time", "TIME", "Limit of a task, as in 4h; it is requeued then.")] = None,
    partition: Annotated[str | None, cli.opt("--partition", "NAME", "The partition of the jobs.")] = None,
    gpus_per_run: Annotated[int, cli.opt("--gpus-per-run", "N", "GPUs of a run on each node.", min=1)] = 1,
    nodes_per_run: Annotated[int, cli.opt("--nodes-per-run", "M", "Nodes of a run.", min=1)] = 1,
    at_once: Annotated[int, cli.opt("--at-once", "N", "Runs of a stage that train at once.", min=1)] = 16,
    sbatch: Annotated[list[str] | None, cli.opt("--sbatch", "OPTION", 'As in "--account=x"; may be repeated.')] = None,
    dry_run: Annotated[bool, cli.opt("--dry-run", None, "Print what would be submitted; create nothing.")] = False,
    as_json: cli.Json = False,
) -> None:
    """Train a study on Slurm, a task for each run; the same command again submits what is left.

    Lines for every job (account, modules) come from $LSC_SLURM, else from ~/.config/lsc/slurm.sh.

    Example: lsc-engine submit fig9 --time 4h --partition gpu
    """
    from lsc_engine.cli.commands.train import execution_options, plan_for
    from lsc_engine.studies import submit as jobs
    from lsc_engine.studies.checks import check_study

    if to not in ("slurm", "skypilot"):
        raise UsageError(f'--to "{to}": {did_you_mean(to, ["slurm", "skypilot"])}')
    given = {"--time": time, "--partition": partition, "--sbatch": sbatch, "--nodes-per-run": nodes_per_run > 1}
    if to == "skypilot" and (slurms := [name for name, value in given.items() if value]):
        raise UsageError(f"--to skypilot: {', '.join(slurms)} is for Slurm; one machine trains all runs")
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
        stages = [
            {
                "stage": s.name,
                "job": s.job or None,
                "script": str(found.folder / f"{s.name}.sbatch"),
                "text": s.text,
                "after": list(s.after),
                "tasks": [
                    {"job": f"{s.job}_{task}" if s.job else None, "task": task, "run": run}
                    for task, run in s.tasks.items()
                ],
            }
            for s in found.stages
        ]
        print_json({"study": plan.study, "jobs": stages, "left": found.left})
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
