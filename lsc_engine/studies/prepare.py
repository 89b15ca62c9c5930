"""The folders of a planned study: what is new, what goes on, what is done, and what stands in the way.

The same command again goes on where it stopped. Other settings under the same study name are refused with the
difference and a name that would do; everything is looked at before the first folder is created.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lsc_engine.errors import LscError, UsageError
from lsc_engine.runs.files import UnreadableError, read_toml, replace_file
from lsc_engine.runs.folder import layout
from lsc_engine.runs.folder.layout import PRESET, SEED, STATUS, check_name, check_study, run_folder
from lsc_engine.runs.folder.lock import holder
from lsc_engine.runs.folder.status import Status, read_status
from lsc_engine.runs.folder.writer import RunSettings, create_run
from lsc_engine.runs.read.run import images_place, moved_from
from lsc_engine.runs.read.studies import STUDIES, Study
from lsc_engine.runs.settings import PLACE, differences, parse, settings_of

if TYPE_CHECKING:
    from lsc_engine.config import StudyPlan

_SHOWN_DIFFERENCES = 8
C = TypeVar("C", bound=RunSettings, covariant=True)


class PlannedRun(Protocol[C]):
    """A run of a plan (config.RunPlan)."""

    @property
    def id(self) -> str: ...
    @property
    def config(self) -> C: ...
    @property
    def needs(self) -> tuple[str, ...]: ...


class Plan(Protocol[C]):
    """A plan of a study (config.StudyPlan)."""

    @property
    def study(self) -> str: ...
    @property
    def runs(self) -> tuple[PlannedRun[C], ...]: ...


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A run of a study and what is to be done: "new" (it had no folder), "resume", "busy" (another process trains it)
    or "done" (finished, or diverged: the same again would diverge again).

    `moved_from`: where its images were when `config` names another place for them; `like`: the folder of a run of the
    study that has the same images, to compare with.
    """

    id: str
    folder: Path
    config: Any
    needs: tuple[str, ...]
    action: str
    status: Status | None = None
    moved_from: str | None = None
    like: Path | None = None


def look_at_study(plan: Plan[Any], root: Path) -> tuple[StudyRun, ...]:
    """What is to be done for every run of the plan; creates nothing.

    UsageError, one sentence per fault: folders that are not ours, other settings under this study name.
    """
    check_study(plan.study)
    root = Path(root)
    faults: list[str] = []
    found: list[StudyRun] = []
    places: dict[str, str | None] = {}
    for run in plan.runs:
        folder = run_folder(root, run.id)
        fault = _fault(run, folder, plan.study, root)
        if fault is not None and fault not in faults:
            faults.append(fault)
        status = read_status(folder) if _is_run(folder) else None
        action = "new" if status is None else _action(folder, status)
        places[run.id] = images_place(parse(run.config.to_toml()))
        moved = None if action == "new" else moved_from(folder, places[run.id])
        found.append(StudyRun(run.id, folder, run.config, tuple(run.needs), action, status, moved))
    if faults:
        raise UsageError(*faults)
    return tuple(replace(run, like=_like(run, found, places)) for run in found)


def _like(run: StudyRun, runs: Iterable[StudyRun], places: Mapping[str, str | None]) -> Path | None:
    """A run whose images this one must have: of the study, with images that have moved, or another seed of the
    variant."""
    place = places[run.id]
    moved = (other.folder for other in runs if other.moved_from is not None and places[other.id] == place)
    kin = (folder for folder in _kin(run.folder) if run.action == "new" or moved_from(folder, place) is not None)
    return next((folder for folder in (*moved, *kin) if folder != run.folder), None)


def create_study(plan: Plan[Any], root: Path, source: Mapping[str, Any]) -> tuple[StudyRun, ...]:
    """`look_at_study`, then create the folders of the new runs in state `queued`. `source` goes into source.json.

    Folders that another process creates at the same moment are taken as they are; UsageError where their settings are
    others.
    """
    runs = look_at_study(plan, root)
    raced = False
    for run in runs:
        if run.action == "new":
            try:
                create_run(run.folder, run.config, source)
            except UsageError:
                raced = True
                if not _is_run(run.folder):
                    raise
    return look_at_study(plan, root) if raced else runs


def free_name(root: Path, study: str) -> str:
    """A study name that no folder has yet: `study-2`, `study-3`, …"""
    stem, number = study, 2
    while (Path(root) / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def _is_run(folder: Path) -> bool:
    return (folder / PRESET).is_file() or (folder / STATUS).is_file()


def _action(folder: Path, status: Status) -> str:
    if status.state in ("finished", "diverged"):
        return "done"
    return "busy" if holder(folder) is not None else "resume"


def _fault(run: PlannedRun[Any], folder: Path, study: str, root: Path) -> str | None:
    """Why this run cannot be created or continued, as a sentence; None when it can."""
    if folder.exists() and not _is_run(folder):
        if not folder.is_dir() or any(folder.iterdir()):
            return f"{folder} exists, is not empty and is not a run: move it away, or give another --name"
        return None
    planned = settings_of(parse(run.config.to_toml()))
    for kin in _kin(folder):
        try:
            # Whether the images at another place are the same is looked at when they are opened.
            known = {**settings_of(read_toml(kin / PRESET)), PLACE: planned.get(PLACE)}
        except UnreadableError as error:
            return f"{kin}: {error}; delete this run, or give another --name, such as {free_name(root, study)}"
        changed = differences(known, planned)
        if changed:
            return _refusal(study, kin, changed, free_name(root, study))
    return None


def _kin(folder: Path) -> Iterable[Path]:
    """The run itself if it exists, and the other seeds of its variant: they share all settings but the seed."""
    try:
        names = sorted(entry.name for entry in folder.parent.iterdir() if SEED.fullmatch(entry.name))
    except OSError:
        return []
    return [folder.parent / name for name in names if _is_run(folder.parent / name)]


def _refusal(study: str, kin: Path, changed: Mapping[str, tuple[Any, Any]], name: str) -> str:
    listed = [f"{key} is {_shown(old)} there, {_shown(new)} here" for key, (old, new) in changed.items()]
    more = len(listed) - _SHOWN_DIFFERENCES
    text = "; ".join(listed[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
    check_name(name.rpartition("/")[2], "study")
    return f"study {study!r} has run {kin.parent.name}/{kin.name} with other settings: {text}. Give --name {name}"


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def write_study(root: Path, study: str, text: str) -> Path:
    """Keep the preset of a study in its runs folder. Returns the study's folder; LscError where it cannot be
    written."""
    folder = layout.inside(Path(root), layout.check_study(study))
    file = Study(study, Path(root), ()).preset_path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode())
    except OSError as error:
        raise LscError(f"{file} cannot be written: {error.strerror or error}") from None
    return folder


def begin_study(plan: StudyPlan, root: Path, source: Mapping[str, Any]) -> tuple[StudyRun, ...]:
    """Create what is missing of a study that is to be trained (its tries, where it has any) and keep its preset.

    Of processes that begin one study at once each finds what the others have made: UsageError, with the difference,
    where their settings are others.
    """
    with _alone(root):
        look_at_study(plan.tune or plan, root)
        write_study(root, plan.study, joined_text(plan, root))
        return create_study(plan.tune or plan, root, source)


def joined_text(plan: StudyPlan, root: Path) -> str:
    """The preset to keep of a study: that of `plan`, with the variants and seeds that were begun before by commands
    that named others. UsageError where its tries are those of another grid."""
    from lsc_engine.config.joining import join_presets

    fresh = plan.to_toml()
    kept = Study(plan.study, root, ()).preset_path
    try:
        before = read_toml(kept)
    except UnreadableError:
        return fresh
    tries = root / f"{plan.study}{layout.TRIES}"

    def begun(variant: str) -> bool:
        if (root / plan.study / variant).is_dir():
            return True
        return tries.is_dir() and any(entry.name.startswith(f"{variant}+") for entry in tries.iterdir())

    old, new = before.get("tune"), tomllib.loads(fresh).get("tune")
    if isinstance(old, dict) and isinstance(new, dict) and tries.is_dir():
        changed = differences(old, new)
        if changed:
            told = "; ".join(f"{key} is {one!r} there, {other!r} here" for key, (one, other) in changed.items())
            raise UsageError(
                f"study {plan.study!r} has tries of another [tune]: {told}. Give --name {free_name(root, plan.study)}"
            )
    text = join_presets(before, fresh, {run.config.variant for run in plan.runs}, begun)
    from lsc_engine.config import check_text

    return fresh if check_text(text, plan.study)[0] is None else text


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One process at a time makes the folders of studies; where a file system has no locks, all do."""
    place = root / STUDIES / ".lock"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise LscError(f"{place} cannot be written: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
