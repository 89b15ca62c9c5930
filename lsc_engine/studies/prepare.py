"""The folders of a planned study: which runs are new, go on or are done, and what stands in the way.

    runs/.studies/<study>.toml  the preset as it was started, options of the command line included

The same command again goes on where it stopped. Other settings under the same study name are refused with the
difference and a name that is free. Everything is checked before the first folder is created."""

from __future__ import annotations

import contextlib
import itertools
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError, exclusive_lock, read_toml, replace_file, writing
from lsc_engine.common.settings import lookup
from lsc_engine.config.expand import join_presets
from lsc_engine.config.load import check_text
from lsc_engine.config.schema import RunConfig
from lsc_engine.runs.folder import layout
from lsc_engine.runs.folder.layout import PRESET, SEED, STATUS, TRIES
from lsc_engine.runs.folder.lock import holder
from lsc_engine.runs.folder.status import Status, read_status
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.read.run import moved_from
from lsc_engine.runs.read.studies import STUDIES, Study
from lsc_engine.runs.settings import PLACE, differences, settings_of
from lsc_engine.studies.plan import RunPlan, StudyPlan, TunePlan

_SHOWN_DIFFERENCES = 8


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A run of a study and its action: "new" (no folder yet), "resume", "busy" (another process trains it) or "done"
    (finished or diverged). `moved_from`: where its images were; `like`: a run that was trained on the same images."""

    id: str
    folder: Path
    config: RunConfig
    needs: tuple[str, ...] = ()
    action: str = "new"
    status: Status | None = None
    moved_from: str | None = None
    like: Path | None = None

    @property
    def attempts(self) -> int:
        return self.status.attempt if self.status is not None else 0


def plan_actions(plan: StudyPlan | TunePlan, root: Path) -> tuple[StudyRun, ...]:
    """What is to be done for every run; creates nothing. UsageError, a sentence per fault."""
    layout.check_name(plan.study, "study")
    problems: list[str] = []
    found: list[StudyRun] = []
    for run in plan.runs:
        folder = layout.run_folder(root, run.id)
        if (problem := _problem(run, folder, plan.study, root)) is not None:
            problems.append(problem)
        status, action, moved = None, "new", None
        if _is_run(folder):
            status, moved = read_status(folder), moved_from(folder, run.config.data.path)
            action = "busy" if holder(folder) is not None else "resume"
            action = "done" if status.state in ("finished", "diverged") else action
        found.append(StudyRun(run.id, folder, run.config, run.needs, action, status, moved))
    if problems:
        raise UsageError(*dict.fromkeys(problems))

    def like(run: StudyRun) -> Path | None:
        """A run whose images this one must have: with images that have moved, or another seed of the variant."""
        place = run.config.data.path
        others = [one.folder for one in found if one.moved_from is not None and one.config.data.path == place]
        others += [one for one in seeds_of(run.folder) if run.action == "new" or moved_from(one, place) is not None]
        return next((folder for folder in others if folder != run.folder), None)

    return tuple(replace(run, like=like(run)) for run in found)


def _is_run(folder: Path) -> bool:
    return (folder / PRESET).is_file() or (folder / STATUS).is_file()


def seeds_of(folder: Path) -> list[Path]:
    """The run in `folder` if it exists, and the other seeds of its variant: they share all settings but the seed."""
    try:
        names = sorted(entry.name for entry in folder.parent.iterdir() if SEED.fullmatch(entry.name))
    except OSError:
        return []
    return [folder.parent / name for name in names if _is_run(folder.parent / name)]


def _problem(run: RunPlan, folder: Path, study: str, root: Path, free: Collection[str] = ()) -> str | None:
    """Why a run cannot be trained in `folder`; settings that are `free` may be others than those there."""
    if folder.exists() and not _is_run(folder):
        if not folder.is_dir() or any(folder.iterdir()):
            return f"{folder} exists, is not empty and is not a run: move it away, or give another --name"
        return None
    planned = settings_of(run.config.to_table())
    for seed in seeds_of(folder):
        try:
            # Whether the images at another place are the same is checked when they are opened.
            table = read_toml(seed / PRESET)
            if not table:
                raise UnreadableError(f"{PRESET} is empty")
            known = {**settings_of(table), PLACE: planned.get(PLACE)}
        except UnreadableError as error:
            return f"{seed}: {error}; delete this run, or give another --name, such as {free_name(root, study)}"
        if changed := {key: pair for key, pair in differences(known, planned).items() if key not in free}:
            texts = {key: ["not set" if one is None else repr(one) for one in pair] for key, pair in changed.items()}
            listed = [f"{key} is {old} there, {new} here" for key, (old, new) in texts.items()]
            more = len(listed) - _SHOWN_DIFFERENCES
            text = "; ".join(listed[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
            where = f"study {study!r} has run {seed.parent.name}/{seed.name} with other settings"
            return f"{where}: {text}. Give --name {free_name(root, study)}"
    return None


def free_name(root: Path, study: str) -> str:
    """A study name that no folder has yet: `study-2`, `study-3`, …"""
    names = (f"{study}-{number}" for number in itertools.count(2))
    return next(name for name in names if not (Path(root) / name).exists())


def first_actions(plan: StudyPlan, root: Path) -> tuple[StudyRun, ...]:
    """`plan_actions` of what is trained first, the tries if there are any. UsageError also if runs that follow the
    tries exist with other settings than those that the tries choose."""
    if plan.tune is not None:
        folders = ((run, layout.run_folder(root, run.id)) for run in plan.runs)
        problems = [_problem(run, folder, plan.study, root, plan.tune.grid) for run, folder in folders]
        if found := list(filter(None, problems)):
            raise UsageError(*dict.fromkeys(found))
    return plan_actions(plan.tune or plan, root)


def begin_study(plan: StudyPlan, root: Path, source: Mapping[str, Any]) -> tuple[StudyRun, ...]:
    """Create what is missing of a study, its tries first, and keep its preset. UsageError if another process has begun
    it with other settings."""
    with one_at_a_time(root / STUDIES):
        runs = first_actions(plan, root)
        write_study(root, plan.study, joined_text(plan, root))
        return create_study(plan.tune or plan, root, source, runs)


def create_study(
    plan: StudyPlan | TunePlan, root: Path, source: Mapping[str, Any], runs: tuple[StudyRun, ...] | None = None
) -> tuple[StudyRun, ...]:
    """Create the folders of the new runs (of `runs`, as `plan_actions` returned them) in state `queued`, with `source`
    in source.json. Those that another process creates at the same moment are used if their settings are the same."""
    raced, runs = False, plan_actions(plan, root) if runs is None else runs
    for run in runs:
        if run.action == "new":
            try:
                create_run(run.folder, run.config, source)
            except UsageError:
                raced = True
                if not _is_run(run.folder):
                    raise
    return plan_actions(plan, root) if raced else runs


def begun_parts(root: Path, study: str) -> int | None:
    """train.parts of the runs of a study that has begun, 1 if they have none; None for a study without runs."""
    for file in sorted((root / study).glob(f"*/seed-*/{PRESET}")):
        with contextlib.suppress(UnreadableError):
            parts = lookup(read_toml(file), "train.parts")
            return parts if isinstance(parts, int) else 1
    return None


def write_study(root: Path, study: str, text: str) -> Path:
    """Keep the preset of a study in its runs folder. Returns the study's folder; LscError if it cannot be written."""
    folder = layout.inside(Path(root), layout.check_name(study, "study"))
    file = Study(study, Path(root), ()).preset_path
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode())
    return folder


def joined_text(plan: StudyPlan, root: Path) -> str:
    """The preset to keep, with what earlier commands began. UsageError if its tries are of another grid."""
    fresh = plan.to_toml()
    try:
        before = read_toml(Study(plan.study, root, ()).preset_path)
    except UnreadableError:
        return fresh
    tries = root / f"{plan.study}{TRIES}"
    old, new = before.get("tune"), tomllib.loads(fresh).get("tune")
    if isinstance(old, dict) and isinstance(new, dict) and tries.is_dir() and (changed := differences(old, new)):
        listed = "; ".join(f"{key} is {one!r} there, {other!r} here" for key, (one, other) in changed.items())
        name = free_name(root, plan.study)
        raise UsageError(f"study {plan.study!r} has tries of another [tune]: {listed}. Give --name {name}")

    def begun(variant: str) -> bool:
        if (root / plan.study / variant).is_dir():
            return True
        return tries.is_dir() and any(entry.name.startswith(f"{variant}+") for entry in tries.iterdir())

    text = join_presets(before, fresh, {run.config.variant for run in plan.runs}, begun)
    return fresh if check_text(text, plan.study)[0] is None else text


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """One process at a time, by a lock in `folder`, which is made; file systems without locks let all of them."""
    place = folder / ".lock"
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with exclusive_lock(descriptor):
        yield
