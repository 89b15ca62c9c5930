"""What must hold before a study trains: its images, classes, backbones, device, and the runs that it builds on.

Nothing is created before all of it has been checked. Everything raises UsageError with one sentence per problem.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.config.derived import derive, missing_data
from lsc_engine.config.load import list_presets, load_run_config
from lsc_engine.config.notes import data_notes, known_shortfall
from lsc_engine.config.references import Reference, check_reference, references
from lsc_engine.config.schema import RunConfig
from lsc_engine.data.dataset import data_set
from lsc_engine.runs.folder.classes import changed_classes, other_classes, read_classes
from lsc_engine.runs.folder.layout import CLASS_MEANS, PRESET, SEED
from lsc_engine.runs.folder.lock import Holder, holder
from lsc_engine.runs.read.run import Run, open_run
from lsc_engine.studies.plan import RunPlan

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

    def worker_arguments(self) -> list[str]:
        """The same options for a worker process; its device is chosen by the scheduler."""
        data = ["--data-dir", str(self.data_dir)] if self.data_dir else []
        return data + [part for file in self.plugins for part in ("--plugin", str(file))]


def check_processes(configs: Iterable[tuple[str, RunConfig]], options: ExecutionOptions) -> None:
    """The processes of a run can share its batches: `configs` by run id."""
    wanted, problems = options.gpus_per_run, []
    for name, config in configs:
        parts = config.train.parts or 1
        if parts % wanted:
            fitting = ", ".join(str(n) for n in range(1, parts + 1) if parts % n == 0)
            problems.append(f"--gpus-per-run: {wanted} does not divide train.parts = {parts} of {name}; take {fitting}")
    if problems:
        raise UsageError(*problems)


def check_data(configs: Iterable[RunConfig], options: ExecutionOptions, hint: str = "") -> None:
    """The images are found, and a number of steps follows. `hint`: what may help where a folder of images has moved."""
    configs = list(configs)
    missing = {sentence for config in configs for sentence in missing_data(config, options.data_dir)}
    if missing:
        moved = any(config.data.path is not None for config in configs)
        raise UsageError(*sorted(missing), *([hint] if hint and moved else []))
    short = {known_shortfall(config.data, options.data_dir) for config in _by_data(configs)} - {None}
    if short:
        raise UsageError(*sorted(map(str, short)))
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
        if changed:
            problems.append(other_classes(folder, data.path or data.dataset, changed))
    if problems:
        raise UsageError(*problems)


def report_notes(configs: Iterable[RunConfig], options: ExecutionOptions, message: Message) -> None:
    """Report what the folders of the data sets hold and training does not use."""
    notes = [note for config in _by_data(configs) for note in data_notes(config.data, options.data_dir)]
    for note in dict.fromkeys(notes):
        message(f"note: {note}")


def _by_data(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """One configuration of each that have the same [data]."""
    return list({repr(config.data): config for config in configs}.values())


def check_prerequisites(
    runs: Iterable[RunPlan], options: ExecutionOptions, message: Message, *, begun: bool = False
) -> None:
    """The runs that these build on are there, finished, and fit. With `options.wait`, first waits for those that other
    processes train."""
    runs = list(runs)
    configs, planned, reported = [run.config for run in runs], {run.id for run in runs}, set[str]()
    while options.wait and (held := held_prerequisites(configs, planned, options.runs_dir)):
        for name in held.keys() - reported:
            message(f"{name}: {held[name].sentence(waits=True)}; waiting for it")
            reported.add(name)
        time.sleep(_WAIT_SECONDS)
    if missing := missing_prerequisites(configs, planned, options.runs_dir, begun=begun):
        raise UsageError(*missing)


def missing_prerequisites(
    configs: Iterable[RunConfig], planned: Collection[str], runs_dir: Path, *, begun: bool = False
) -> list[str]:
    """A sentence for everything needed of runs in `runs_dir` that is not there, with the command that makes it.

    Runs of ids in `planned` are trained first and not looked for. A run that has `begun` has its weights already.
    """
    wanted = [(r, config) for config in configs for r in references(config) if r.ref not in planned]
    wanted = [(r, config) for r, config in wanted if not begun or r.key != "start_from"]
    return sorted({sentence for reference, config in wanted for sentence in _problems(reference, config, runs_dir)})


def held_prerequisites(configs: Iterable[RunConfig], planned: Collection[str], runs_dir: Path) -> dict[str, Holder]:
    """The runs needed in `runs_dir` that other processes train now, by id."""
    found: dict[str, Holder] = {}
    for name in {r.ref for config in configs for r in references(config) if r.ref not in planned}:
        with contextlib.suppress(UsageError):
            run = open_run(name, [runs_dir])
            if (held := holder(run.path)) is not None:
                found[run.id] = held
    return found


def _problems(reference: Reference, config: RunConfig, runs_dir: Path) -> Iterator[str]:
    try:
        run = open_run(reference.ref, [runs_dir])
        other = load_run_config(run.path / PRESET)
    except UsageError as error:
        yield f"{reference.key}: {error.faults[0]}; {_how_to_train(reference)}"
        return
    if not (run.path / CLASS_MEANS).is_file() if reference.of_means else run.status().state != "finished":
        yield f"{reference.key}: {_what_is_missing(run)}"
    yield from (f"{fault.key}: {fault.message}" for fault in check_reference(reference, config, other))


def _what_is_missing(run: Run) -> str:
    state = run.status().state
    if (held := holder(run.path)) is not None:
        return f"{run.id} is not finished: {held.sentence()}"
    if state != "finished":
        return f"{run.id} is {state}; finish it first: lsc-engine resume {run.id}"
    again = f"lsc-engine run {run.path / PRESET} --name NAME --set eval.class_means=true"
    return f"{run.id} has no {CLASS_MEANS}; train it again with them and take that one: {again}"


def _how_to_train(reference: Reference) -> str:
    """The command that makes a run of that id."""
    study, _, variant = reference.ref.rpartition("/seed-")[0].rpartition("/")
    if not study or not SEED.fullmatch(reference.ref.rpartition("/")[2]):
        return "train it first; lsc-engine list shows the runs there are"
    means = " --set eval.class_means=true" if reference.of_means else ""
    preset = study if study in {info.name for info in list_presets()} else f"PRESET --name {study}"
    seed = reference.ref.rpartition("/seed-")[2]
    return f"train it first: lsc-engine run {preset} --variant {variant} --seeds {seed}{means}"
