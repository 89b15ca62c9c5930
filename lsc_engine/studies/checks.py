"""All that must hold before `run`, `resume`, `fork` and `submit` train: images, classes, backbones, device, other runs.
Nothing is created before all of it has been checked. Everything raises UsageError with one sentence per problem. torch
is imported only by checks that need it."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.common.settings import Table
from lsc_engine.config.derived import data_notes, derive, known_shortfall, missing_data, standardized
from lsc_engine.config.load import list_presets, load_run_config
from lsc_engine.config.references import check_reference
from lsc_engine.config.schema import Reference, RunConfig
from lsc_engine.data.dataset import data_set
from lsc_engine.mirrors.supervise import check_tools
from lsc_engine.registry import MODELS
from lsc_engine.runs.folder.classes import changed_classes, other_classes, read_classes
from lsc_engine.runs.folder.layout import CLASS_MEANS, PRESET, SEED
from lsc_engine.runs.folder.lock import Holder, holder
from lsc_engine.runs.read.run import Run, moved_from, open_run
from lsc_engine.studies.fork import create_fork
from lsc_engine.studies.gpus import gpu_slots
from lsc_engine.studies.plan import RunPlan, StudyPlan
from lsc_engine.studies.prepare import StudyRun, first_actions

Message = Callable[[str], None]
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class ExecutionOptions:
    """Where a study trains: runs folder, data folder, device or GPUs, and plugin files; `wait`: whether it waits for
    what other processes train; `gpus_per_run`: the processes that train one run together, each on a GPU, or all on the
    CPU."""

    runs_dir: Path
    data_dir: Path | None = None
    device: str = "auto"
    gpus: str | None = None
    plugins: tuple[Path, ...] = ()
    wait: bool = False
    gpus_per_run: int = 1

    def words(self) -> list[str]:
        """The options of a command line that trains in the same place."""
        words = ["--runs-dir", str(self.runs_dir), "--device", self.device]
        words += ["--data-dir", str(self.data_dir)] if self.data_dir else []
        return words + [part for file in self.plugins for part in ("--plugin", str(file))]


def check_study(
    plan: StudyPlan, options: ExecutionOptions, message: Message, *, use_torch: bool, here: bool = True
) -> None:
    """All checks of a study to be trained `here` or by Slurm. `use_torch`: whether devices are looked for."""
    configs = [run.config for run in plan.runs]
    check_processes(((run.id, run.config) for run in plan.runs), options)
    check_data(configs, options)
    check_prerequisites([*plan.runs, *(plan.tune.runs if plan.tune else ())], options, message)
    actions = first_actions(plan, options.runs_dir)
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
    check_tools([tool for config in configs for tool in config.log.also or ()])
    report_notes(configs, options, message)


def prepare_resume(
    runs: Sequence[tuple[Run, RunConfig]], options: ExecutionOptions, message: Message, *, use_torch: bool
) -> list[StudyRun]:
    """The runs to train further, each after those that it needs. UsageError if another process trains one, or a check
    fails."""
    held = ((run, holder(run.path)) for run, _ in runs if not options.wait)
    _refuse(f"{run.id}: {who.sentence()}" for run, who in held if who is not None)
    configs, ids = [config for _, config in runs], {run.id for run, _ in runs}
    check_not_waiting(run.path for run, _ in runs)
    check_processes(((run.id, config) for run, config in runs), options)
    check_data(configs, options, f"if it lies elsewhere now: lsc-engine resume {runs[0][0].id} --set data.path=DIR")
    begun = {run.id for run, _ in runs if run.checkpoints()}
    check_classes(((config, run.path) for run, config in runs if run.id in begun), options)
    plans = [RunPlan(run.id, config, tuple(r.ref for r in config.references if r.ref in ids)) for run, config in runs]
    check_prerequisites(plans, options, message, begun=begun)
    check_device(options, use_torch=use_torch)
    check_tools([tool for config in configs for tool in config.log.also or ()])
    report_notes(configs, options, message)
    return [
        StudyRun(run.id, run.path, config, plan.needs, "resume", run.status(), moved_from(run.path, config.data.path))
        for (run, config), plan in zip(runs, plans, strict=True)
    ]


def prepare_fork(
    parent: Run,
    config: RunConfig,
    at: int | None,
    options: ExecutionOptions,
    message: Message,
    source: Table,
    *,
    use_torch: bool,
) -> StudyRun:
    """The fork with its folder, after all checks; `at` and errors as in `create_fork`."""
    check_data([config], options)
    check_classes([(config, parent.path)], options)
    check_prerequisites([RunPlan(config.run_id, config)], options, message, begun={config.run_id})
    check_models([config], options)
    check_device(options, use_torch=use_torch)
    check_tools(config.log.also or ())
    if moved_from(parent.path, config.data.path) is not None:
        from lsc_engine.training.run_images import check_moved

        check_moved(parent.path, config, options.data_dir, message)
    total_steps = derive(config, options.data_dir).total_steps
    folder = create_fork(parent, config, at, total_steps, options.runs_dir, source)
    return StudyRun(config.run_id, folder, config, (), "resume")


def _refuse(problems: Iterable[str]) -> None:
    if problems := list(dict.fromkeys(problems)):
        raise UsageError(*problems)


def check_not_waiting(folders: Iterable[Path]) -> None:
    """UsageError for runs that wait in Slurm: their jobs would train them too."""
    found = [(run.id, run.scheduled_status().scheduler) for run in map(open_run, folders)]
    _refuse(
        f"{name} waits in Slurm as {str(job).removeprefix('Slurm ')}; lsc-engine stop cancels that"
        for name, job in found
        if job is not None and job.waits
    )


def check_processes(configs: Iterable[tuple[str, RunConfig]], options: ExecutionOptions) -> None:
    """The processes of a run can share its batches: `configs` by run id."""
    wanted, problems = options.gpus_per_run, []
    for name, config in configs:
        parts = config.train.parts or 1
        if parts % wanted:
            fitting = ", ".join(str(n) for n in range(1, parts + 1) if parts % n == 0)
            problems.append(f"--gpus-per-run: {wanted} does not divide train.parts = {parts} of {name}; take {fitting}")
    _refuse(problems)


def check_data(configs: Iterable[RunConfig], options: ExecutionOptions, hint: str = "") -> None:
    """The images are found, and a number of steps follows. `hint`: what may help where a folder of images has moved."""
    configs = list(configs)
    missing = {sentence for config in configs for sentence in missing_data(config, options.data_dir)}
    if missing:
        moved = any(config.data.path is not None for config in configs)
        raise UsageError(*sorted(missing), *([hint] if hint and moved else []))
    short = (known_shortfall(config.data, options.data_dir) for config in _by_data(configs))
    _refuse(sorted(sentence for sentence in short if sentence is not None))
    for config in configs:
        derive(config, options.data_dir)


def check_classes(begun: Iterable[tuple[RunConfig, Path]], options: ExecutionOptions) -> None:
    """The classes that a run folder was trained on are those that its images have now."""
    problems = []
    for config, folder in begun:
        try:
            known = read_classes(folder)
        except UnreadableError:
            continue
        data = config.data
        now = data_set(data.dataset).class_names(options.data_dir, data.path)
        changed = changed_classes(known, now, data.classes) if known and now and data.labels == "class" else None
        problems += [other_classes(folder, data.path or data.dataset, changed)] if changed else []
    _refuse(problems)


def report_notes(configs: Iterable[RunConfig], options: ExecutionOptions, message: Message) -> None:
    """Report what the folders of the data sets hold and training does not use."""
    notes = [note for config in _by_data(configs) for note in data_notes(config.data, options.data_dir)]
    for note in dict.fromkeys(notes):
        message(f"note: {note}")


def _by_data(configs: Iterable[RunConfig]) -> list[RunConfig]:
    return list({repr(config.data): config for config in configs}.values())


def check_device(options: ExecutionOptions, *, use_torch: bool) -> None:
    """The runs folder, and the device or GPUs; without `use_torch` only how the device is written."""
    if options.runs_dir.exists() and not options.runs_dir.is_dir():
        raise UsageError(f"--runs-dir: {options.runs_dir} is a file, not a folder")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise UsageError(f'--device: "{options.device}" is not a device. Allowed: auto, cpu, cuda, cuda:0, cuda:1, …')
    if use_torch and options.gpus is not None:
        gpu_slots(options.gpus, options.gpus_per_run)
    elif use_torch and options.device not in ("auto", "cpu"):
        from lsc_engine.training.devices import pick_device

        pick_device(options.device)


def check_models(configs: Iterable[RunConfig], options: ExecutionOptions) -> None:
    """Backbones can be built. Those of timm and plugins are built as shapes, which imports torch, and so are
    those whose last layer is rescaled; others are fixed."""
    distinct = {}
    for config in configs:
        backbone = MODELS.built_in.get(config.model.name)
        if backbone is None or backbone.model_config["extra"] == "allow" or standardized(config):
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
    _refuse(problems)


def check_prerequisites(
    runs: Iterable[RunPlan], options: ExecutionOptions, message: Message, *, begun: Collection[str] = ()
) -> None:
    """The runs that these build on are finished and fit; with `options.wait` waits for them."""
    runs = list(runs)
    needed, reported = {r.ref for r, _ in _outside(runs)}, set[str]()
    while options.wait:
        held: dict[str, Holder] = {}
        for name in needed:
            with contextlib.suppress(UsageError):
                run = open_run(name, [options.runs_dir])
                if (who := holder(run.path)) is not None:
                    held[run.id] = who
        if not held:
            break
        for name in held.keys() - reported:
            message(f"{name}: {held[name].sentence(waits=True)}; waiting for it")
            reported.add(name)
        time.sleep(_WAIT_SECONDS)
    _refuse(missing_prerequisites(runs, options.runs_dir, begun=begun))


def missing_prerequisites(runs: Sequence[RunPlan], runs_dir: Path, *, begun: Collection[str] = ()) -> list[str]:
    """A sentence for everything needed of other runs in `runs_dir` that is not there, with the command that makes it.
    Those of `runs` are trained first; one that has `begun` has its weights already."""
    wanted = [(r, run.config) for r, run in _outside(runs) if r.key != "start_from" or run.id not in begun]
    return sorted({sentence for reference, config in wanted for sentence in _problems(reference, config, runs_dir)})


def _outside(runs: Sequence[RunPlan]) -> list[tuple[Reference, RunPlan]]:
    """What runs take from others than themselves."""
    planned = {run.id for run in runs}
    return [(r, run) for run in runs for r in run.config.references if r.ref not in planned]


def _problems(reference: Reference, config: RunConfig, runs_dir: Path) -> Iterator[str]:
    try:
        run = open_run(reference.ref, [runs_dir])
        other = load_run_config(run.path / PRESET)
    except UsageError as error:
        yield f"{reference.key}: {error.faults[0]}; {_how_to_train(reference)}"
        return
    state, there = run.status().state, (run.path / CLASS_MEANS).is_file()
    if not there if reference.of_means else state != "finished":
        again = f"lsc-engine run {run.path / PRESET} --name NAME --set eval.class_means=true"
        lacks = f"{run.id} has no {CLASS_MEANS}; train it again with them and take that one: {again}"
        if (held := holder(run.path)) is not None:
            lacks = f"{run.id} is not finished: {held.sentence()}"
        elif state != "finished":
            lacks = f"{run.id} is {state}; finish it first: lsc-engine resume {run.id}"
        yield f"{reference.key}: {lacks}"
    yield from (f"{fault.key}: {fault.message}" for fault in check_reference(reference, config, other))


def _how_to_train(reference: Reference) -> str:
    study, _, variant = reference.ref.rpartition("/seed-")[0].rpartition("/")
    if not study or not SEED.fullmatch(reference.ref.rpartition("/")[2]):
        return "train it first; lsc-engine list shows the runs there are"
    means = " --set eval.class_means=true" if reference.of_means else ""
    preset = study if study in {info.name for info in list_presets()} else f"PRESET --name {study}"
    seed = reference.ref.rpartition("/seed-")[2]
    return f"train it first: lsc-engine run {preset} --variant {variant} --seeds {seed}{means}"
