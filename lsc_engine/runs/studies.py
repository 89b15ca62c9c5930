"""Studies of a runs folder: the preset that each was started from, and finding one by its name. Torch-free.

    runs/.studies/<study>.toml  the preset as it was started, options of the command line included
    runs/<study>/report/        what `lsc-engine report` writes where no other folder is named

Tries of [tune] lie in the study `NAME.tune`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsc_engine.errors import LscError, UsageError, did_you_mean
from lsc_engine.runs import layout
from lsc_engine.runs.files import MAX_TOML, UnreadableError, read_bytes, read_toml, replace_file
from lsc_engine.runs.run import Run, list_runs
from lsc_engine.runs.settings import differences
from lsc_engine.runs.study import StudyRun, create_study, free_name, look_at_study
from lsc_engine.textfiles import decoded
from lsc_engine.userpaths import user_path

if TYPE_CHECKING:
    from lsc_engine.config import Preset, StudyPlan

STUDIES = ".studies"


@dataclass(frozen=True)
class Study:
    """A study of one runs folder and its runs, in order of their ids; none where its kind does not train."""

    name: str
    root: Path
    runs: tuple[Run, ...]

    @property
    def path(self) -> Path:
        """The study's folder."""
        return self.root / self.name

    @property
    def preset_path(self) -> Path:
        """Where its preset is kept."""
        return self.root / STUDIES / f"{self.name}.toml"

    def preset(self) -> Preset | None:
        """The preset it was started from; None where there is none or it cannot be read (`preset_problem`)."""
        return self._read()[0]

    @property
    def preset_problem(self) -> str | None:
        """Why `preset` is None, as a sentence; None where it is not."""
        return self._read()[1]

    def _read(self) -> tuple[Preset | None, str | None]:
        from lsc_engine.config import check_text

        try:
            text = decoded(read_bytes(self.preset_path, MAX_TOML))
        except UnreadableError as error:
            return None, str(error)
        except ValueError as error:
            return None, f"{self.preset_path.name} {error}"
        preset, faults, _ = check_text(text, self.name)
        return preset, faults[0].sentence(self.preset_path.name) if preset is None else None


def in_order(runs: Iterable[Run], preset: Preset | None) -> list[Run]:
    """Runs of one study in the order of its preset's variants, seeds rising; `NAME+lr=0.001` after NAME, variants it
    does not know last."""
    order = {variant.name: place for place, variant in enumerate(preset.variants)} if preset else {}

    def place(name: str) -> int:
        return order.get(name, order.get(name.partition("+")[0], len(order)))

    return sorted(runs, key=lambda run: (place(run.variant), run.variant, run.seed))


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


def list_studies(dirs: Iterable[str | Path] | None = None) -> list[Study]:
    """All studies below the runs folders, those of tries left out, by name; one name may lie in several folders."""
    found: dict[tuple[str, Path], list[Run]] = {}
    for run in list_runs(dirs):
        if run.root is not None:
            found.setdefault((run.study, run.root), []).append(run)
    for root in layout.runs_dirs(dirs):
        for pattern in ("*.toml", "*/*.toml"):
            for file in sorted((root / STUDIES).glob(pattern)):
                name = str(file.relative_to(root / STUDIES).with_suffix(""))
                if (
                    (root / name).is_dir()
                    and all(layout.NAME.fullmatch(part) for part in name.split("/"))
                    and layout.stays_inside(root, file)
                ):
                    found.setdefault((name, root), [])
    studies = [
        Study(name, root, tuple(runs)) for (name, root), runs in found.items() if not name.endswith(layout.TRIES)
    ]
    return sorted(studies, key=lambda study: (study.name, str(study.root)))


def find_study(ref: str, dirs: Iterable[str | Path] | None = None) -> Study:
    """The study called `ref`, in full or by what stands behind its slash, or whose folder it is. UsageError with the
    nearest names where there is none or there are several."""
    roots = layout.runs_dirs(dirs)
    known = list_studies(roots)
    wanted = ref.rstrip("/")
    hits = [study for study in known if study.name == wanted]
    hits = hits or [study for study in known if study.name.rpartition("/")[2] == wanted]
    hits = hits or [study for study in known if study.path.resolve() == user_path(wanted).resolve()]
    if len({study.name for study in hits}) == 1:
        return hits[0]
    if hits:
        raise UsageError(f"{ref!r} names {len(hits)} studies: {', '.join(study.name for study in hits)}")
    where = ", ".join(str(root) for root in roots)
    if not known:
        raise UsageError(f"{ref!r} names no study: there are none in {where}")
    near = did_you_mean(wanted, sorted({s.name for s in known} | {s.name.rpartition("/")[2] for s in known}))
    raise UsageError(f"{ref!r} names no study in {where}" + (f": {near}" if near else ""))


def tries_of(study: Study) -> tuple[Run, ...]:
    """The runs of the study's tries, in order of their ids."""
    return tries_in(study.root, study.name)


def tries_beside(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The tries of the studies of these runs, from the same runs folders."""
    studies = dict.fromkeys((run.root, run.study) for run in runs if run.root is not None)
    return tuple(run for root, study in studies if root is not None for run in tries_in(root, study))


def tries_in(root: Path, study: str) -> tuple[Run, ...]:
    """The tries of a study of that name in a runs folder, in order of their ids; without looking at other studies."""
    name = f"{study}{layout.TRIES}"
    found = []
    for folder in sorted((root / name).glob("*/seed-*")):
        identifier = f"{name}/{folder.parent.name}/{folder.name}"
        named = layout.NAME.fullmatch(folder.parent.name) and layout.SEED.fullmatch(folder.name)
        if named and folder.is_dir() and layout.stays_inside(root, folder):
            found.append(Run(folder, identifier, root))
    return tuple(found)
