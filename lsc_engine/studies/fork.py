"""A new run from a run's checkpoint with changed settings, and what may change in a run that is resumed. The
source.json of a fork names its parent and the step."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.common.settings import Table, flatten
from lsc_engine.common.userpaths import user_path
from lsc_engine.config.load import load_run_config
from lsc_engine.config.schema import RunConfig
from lsc_engine.config.typed import parse_sets
from lsc_engine.runs.folder.checkpoints import MANIFEST, newest_good, step_name
from lsc_engine.runs.folder.classes import read_classes, write_classes
from lsc_engine.runs.folder.layout import CHECKPOINTS, PRESET, check_name, run_folder
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.read.run import Run, no_checkpoint
from lsc_engine.runs.settings import FORK_CHANGES, FORK_KEEPS, PLACE, differences
from lsc_engine.studies.plan import plan_study


def resumed_config(run: Run, sets: Sequence[str]) -> RunConfig:
    """The settings of a resumed run; `sets` may name another place of its images, or UsageError."""
    config = load_run_config(run.path / PRESET)
    changes = flatten(parse_sets(sets))
    problems = [
        f"--set {key}: a run that goes on keeps its settings; only {PLACE} may change, where the same images lie "
        f"elsewhere. With other settings: lsc-engine fork {run.id} --set {key}=…"
        for key in changes
        if key != PLACE
    ]
    if PLACE in changes and config.data.path is None:
        problems.append(f"--set {PLACE}: {run.id} found its images in the data folder; name another by --data-dir")
    if changes.get(PLACE) == "":
        problems.append(f"--set {PLACE}: name a folder")
    if problems:
        raise UsageError(*problems)
    if not changes:
        return config
    path = str(user_path(str(changes[PLACE])).absolute())
    return config.with_values({PLACE: path})


def fork_config(parent: Run, sets: Sequence[str], name: str | None) -> RunConfig:
    """The parent's settings with `sets`, under a free variant name. UsageError for what does not fit its weights."""
    if not sets:
        raise UsageError("fork: name what changes, as in --set optimizer.lr=1e-5; resume continues a run unchanged")
    before = load_run_config(parent.path / PRESET)
    plan = plan_study(parent.path / PRESET, name=parent.study, sets=sets, seeds=(parent.seed,))
    free = (f"{parent.variant}+fork{number}" for number in itertools.count(1))
    study = parent.path.parent.parent
    variant = check_name(name, "--name") if name else next(one for one in free if not (study / one).exists())
    after = plan.runs[0].config.model_copy(update={"study": parent.study, "variant": variant, "label": variant})
    problems = [
        f"--set {key}: is {old!r} in {parent.id} and cannot change in a fork; start_from in a preset takes over weights"
        for key, (old, _) in sorted(differences(before.settings(), after.settings()).items())
        if not key.startswith(FORK_CHANGES)
        or key in FORK_KEEPS
        or (key == "target.loss" and after.target.method == "ce")  # its class layer has a bias, or none
    ]
    if problems:
        raise UsageError(*problems)
    return after


def create_fork(parent: Run, config: RunConfig, at: int | None, total_steps: int, root: Path, source: Table) -> Path:
    """The fork's folder with a copy of the parent's checkpoint of step `at` (None: the newest good one). UsageError if
    there is none, or it lies behind the fork's last step."""
    found, problems = newest_good(parent.path, at)
    if found is None:
        raise UsageError(*problems, no_checkpoint(parent, at))
    if found.step >= total_steps:
        raise UsageError(
            f"fork: the checkpoint is of step {found.step} and the training ends at {total_steps}; "
            f'give more, as in --set train.duration="{2 * found.step} steps"'
        )
    lineage = {"parent": {"id": parent.id, "step": found.step}}
    if "start" in parent.source:
        lineage["start"] = parent.source["start"]
    try:
        names = read_classes(parent.path)
    except UnreadableError as error:
        raise UsageError(f"{parent.id}: {error}") from None
    folder = create_run(run_folder(root, config.run_id), config, {**source, **lineage})
    try:
        place = folder / CHECKPOINTS / step_name(found.step)
        place.mkdir(parents=True)
        # Not with the permissions of the parent's files: new files get those that the umask leaves.
        for file in (MANIFEST, *found.files):
            shutil.copyfile(found.path / file, place / file)
        if names:
            write_classes(folder, names)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise LscError(f"{folder}: the checkpoint cannot be copied: {error.strerror or error}") from error
    return folder
