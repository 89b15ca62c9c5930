"""All that is checked before `run`, `resume` and `fork` train, devices and backbones included.

torch is imported only by checks that need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lsc_engine.common.errors import UsageError
from lsc_engine.config.derived import derive, standardized
from lsc_engine.config.schema import RunConfig
from lsc_engine.registry import MODELS
from lsc_engine.runs.folder.lock import holder
from lsc_engine.runs.read.run import Run, moved_from, open_run
from lsc_engine.studies import control
from lsc_engine.studies.checks import (
    ExecutionOptions,
    Message,
    check_classes,
    check_data,
    check_prerequisites,
    check_processes,
    report_notes,
)
from lsc_engine.studies.fork import create_fork
from lsc_engine.studies.plan import RunPlan, StudyPlan
from lsc_engine.studies.prepare import StudyRun, plan_actions


def check_study(
    plan: StudyPlan, options: ExecutionOptions, message: Message, *, use_torch: bool, here: bool = True
) -> None:
    """All checks of a study that is to be trained, `here` or by jobs of Slurm. `use_torch`: whether devices may be
    looked for now."""
    check_processes(((run.id, run.config) for run in plan.runs), options)
    check_data((run.config for run in plan.runs), options)
    check_prerequisites([*plan.runs, *(plan.tune.runs if plan.tune else ())], options, message)
    actions = plan_actions(plan.tune or plan, options.runs_dir)
    if here:
        check_not_waiting(run.folder for run in actions if run.action == "resume")
    new = [run for run in actions if run.action == "new"]
    check_models((run.config for run in new), options)
    begun = [run for run in actions if run.action == "resume" and open_run(run.folder).checkpoints()]
    check_classes(((run.config, run.folder) for run in begun), options)
    check_classes(((run.config, run.like) for run in new if run.like is not None), options)
    for run in actions:
        if run.action == "done" and run.moved_from is not None:
            message(f"note: {run.id} was trained on the images in {run.moved_from}; its results are shown as they are")
    check_device(options, use_torch=use_torch)
    report_notes((run.config for run in plan.runs), options, message)


def prepare_resume(
    run: Run, config: RunConfig, options: ExecutionOptions, message: Message, *, use_torch: bool
) -> StudyRun:
    """The run to train further, after all  UsageError if another process trains it, or a check fails."""
    if not options.wait and (held := holder(run.path)) is not None:
        raise UsageError(f"{run.id}: {held.sentence()}")
    check_not_waiting([run.path])
    check_processes([(run.id, config)], options)
    hint = f"if it lies elsewhere now: lsc-engine resume {run.id} --set data.path=DIR"
    check_data([config], options, hint)
    begun = bool(run.checkpoints())
    if begun:
        check_classes([(config, run.path)], options)
    check_prerequisites([RunPlan(run.id, config)], options, message, begun=begun)
    check_device(options, use_torch=use_torch)
    report_notes([config], options, message)
    moved = moved_from(run.path, config.data.path)
    return StudyRun(run.id, run.path, config, (), "resume", run.status(), moved)


def prepare_fork(
    parent: Run,
    config: RunConfig,
    at: int | None,
    options: ExecutionOptions,
    message: Message,
    source: Mapping[str, Any],
    *,
    use_torch: bool,
) -> StudyRun:
    """The fork with its folder, after all checks; `at` and errors as in `create_fork`."""
    check_data([config], options)
    check_classes([(config, parent.path)], options)
    check_prerequisites([RunPlan(config.run_id, config)], options, message, begun=True)
    check_models([config], options)
    check_device(options, use_torch=use_torch)
    if moved_from(parent.path, config.data.path) is not None:
        from lsc_engine.training.run_images import check_moved

        check_moved(parent.path, config, options.data_dir, message)
    total_steps = derive(config, options.data_dir).total_steps
    folder = create_fork(parent, config, at, total_steps, options.runs_dir, source)
    return StudyRun(config.run_id, folder, config, (), "resume")


def check_not_waiting(folders: Iterable[Path]) -> None:
    """UsageError for runs that wait in Slurm: their jobs would train them too."""
    found = [(run.id, control.pending_job(run.scheduled_status())) for run in map(open_run, folders)]
    if waiting := [f"{name} {why}" for name, why in found if why is not None]:
        raise UsageError(*waiting)


def check_device(options: ExecutionOptions, *, use_torch: bool) -> None:
    """The runs folder, and the device or GPUs; without `use_torch` only how the device is written."""
    if options.runs_dir.exists() and not options.runs_dir.is_dir():
        raise UsageError(f"--runs-dir: {options.runs_dir} is a file, not a folder")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise UsageError(f'--device: "{options.device}" is not a device. Allowed: auto, cpu, cuda, cuda:0, cuda:1, …')
    if use_torch and options.gpus is not None:
        from lsc_engine.studies.gpus import gpu_slots

        gpu_slots(options.gpus, options.gpus_per_run)
    elif use_torch and options.device not in ("auto", "cpu"):
        from lsc_engine.training.devices import pick_device

        pick_device(options.device)


def check_models(configs: Iterable[RunConfig], options: ExecutionOptions) -> None:
    """Backbones can be built. Those of timm and plugins are built as shapes, which imports torch, and so are
    those whose last layer is rescaled; others are fixed."""
    distinct = {}
    for config in configs:
        if (
            config.model.name not in MODELS.built_in
            or MODELS.built_in[config.model.name].model_config["extra"] == "allow"
            or standardized(config)
        ):
            d = derive(config, options.data_dir)
            distinct[(repr(config.model), repr(config.target), d.channels, d.image_size, d.n, d.classes)] = (config, d)
    if not distinct:
        return
    from lsc_engine.heads.model_sizes import model_sizes

    problems: list[str] = []
    for config, d in distinct.values():
        try:
            model_sizes(config, channels=d.channels, size=d.image_size, dim=d.n, classes=d.classes)
        except UsageError as error:
            problems += error.faults
    if problems:
        raise UsageError(*dict.fromkeys(problems))
