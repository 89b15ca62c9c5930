"""Runs that others build on: are they there, finished, and do they fit? Looked at before anything is created."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from lsc_engine.config import RunConfig
from lsc_engine.config.load import list_presets
from lsc_engine.config.references import Reference, check_reference, references
from lsc_engine.errors import UsageError
from lsc_engine.runs.folder.layout import CLASS_MEANS, PRESET, SEED
from lsc_engine.runs.folder.lock import Holder, holder
from lsc_engine.runs.read.run import Run, open_run


def missing_runs(
    configs: Iterable[RunConfig], planned: Collection[str], runs_dir: Path, *, begun: bool = False
) -> list[str]:
    """A sentence for everything that is wanted of runs in `runs_dir` and is not there, with the command that makes it.

    Runs of ids in `planned` are trained first and not looked for. A run that has `begun` has its weights already.
    """
    wanted = [(r, config) for config in configs for r in references(config) if r.ref not in planned]
    wanted = [(r, config) for r, config in wanted if not begun or r.key != "start_from"]
    return sorted({sentence for reference, config in wanted for sentence in _faults(reference, config, runs_dir)})


def held_runs(configs: Iterable[RunConfig], planned: Collection[str], runs_dir: Path) -> dict[str, Holder]:
    """The runs wanted in `runs_dir` that other processes train now, by id."""
    found: dict[str, Holder] = {}
    for name in {r.ref for config in configs for r in references(config) if r.ref not in planned}:
        with contextlib.suppress(UsageError):
            run = open_run(name, [runs_dir])
            if (held := holder(run.path)) is not None:
                found[run.id] = held
    return found


def _faults(reference: Reference, config: RunConfig, runs_dir: Path) -> Iterator[str]:
    try:
        run = open_run(reference.ref, [runs_dir])
        other = RunConfig.from_toml(run.path / PRESET)
    except UsageError as error:
        yield f"{reference.key}: {error.faults[0]}; {_how(reference)}"
        return
    if not (run.path / CLASS_MEANS).is_file() if reference.of_means else run.status().state != "finished":
        yield f"{reference.key}: {_lacking(reference, run)}"
    yield from (f"{fault.key}: {fault.message}" for fault in check_reference(reference, config, other))


def _lacking(reference: Reference, run: Run) -> str:
    state = run.status().state
    if (held := holder(run.path)) is not None:
        return f"{run.id} is not finished: {held.sentence()}"
    if state != "finished":
        return f"{run.id} is {state}; finish it first: lsc-engine resume {run.id}"
    again = f"lsc-engine run {run.path / PRESET} --name NAME --set eval.class_means=true"
    return f"{run.id} has no {CLASS_MEANS}; train it again with them and take that one: {again}"


def _how(reference: Reference) -> str:
    """The command that makes a run of that id."""
    study, _, rest = reference.ref.rpartition("/seed-")[0].rpartition("/")
    if not study or not SEED.fullmatch(reference.ref.rpartition("/")[2]):
        return "train it first; lsc-engine list shows the runs there are"
    means = " --set eval.class_means=true" if reference.of_means else ""
    named = study in {info.name for info in list_presets()}
    preset = study if named else f"PRESET --name {study}"
    seed = reference.ref.rpartition("/seed-")[2]
    return f"train it first: lsc-engine run {preset} --variant {rest} --seeds {seed}{means}"
