"""Studies of a runs folder: finding one by its name, and the preset that it was started from, options of the command
line included, in runs/.studies/<study>.toml. Tries of [tune] lie in the study `NAME.tune`. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.ids import study_fault
from lsc_engine.common.safe_io import MAX_TOML, UnreadableError, decoded, read_bytes
from lsc_engine.common.settings import lookup
from lsc_engine.common.userpaths import user_path
from lsc_engine.runs.folder import layout
from lsc_engine.runs.read.run import Run, list_runs, open_run

if TYPE_CHECKING:
    from lsc_engine.config.preset import Preset

STUDIES = ".studies"


@dataclass(frozen=True)
class Study:
    """A study of one runs folder and its runs, in order of their ids; none where its kind does not train."""

    name: str
    root: Path
    runs: tuple[Run, ...]

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def preset_path(self) -> Path:
        return self.root / STUDIES / f"{self.name}.toml"

    def preset(self) -> Preset | None:
        """The preset it was started from; None if it is missing or cannot be read."""
        return self.preset_or_problem()[0]

    def preset_or_problem(self) -> tuple[Preset | None, str | None]:
        """The preset it was started from, or why it cannot be read."""
        from lsc_engine.config.load import check_text

        try:
            text = decoded(read_bytes(self.preset_path, MAX_TOML))
        except UnreadableError as error:
            return None, str(error)
        except ValueError as error:
            return None, f"{self.preset_path.name} {error}"
        preset, faults, _ = check_text(text, self.name)
        return preset, faults[0].sentence(self.preset_path.name) if preset is None else None


def in_order(runs: Iterable[Run], preset: Preset | None) -> list[Run]:
    """Runs of one study in the order of the variants, `NAME+lr=0.001` after NAME, unknown ones last."""
    order = {variant.name: place for place, variant in enumerate(preset.variants)} if preset else {}

    def place(name: str) -> int:
        return order.get(name, order.get(name.partition("+")[0], len(order)))

    return sorted(runs, key=lambda run: (place(run.variant), run.variant, run.seed))


def list_studies(dirs: Iterable[str | Path] | None = None) -> list[Study]:
    """All studies below the runs folders, those of tries left out, by name; one name may lie in several folders."""
    found: dict[tuple[str, Path], list[Run]] = {}
    for run in list_runs(dirs):
        if run.root is not None:
            found.setdefault((run.study, run.root), []).append(run)
    for root in layout.runs_dirs(dirs):
        kept = root / STUDIES
        for file in [*sorted(kept.glob("*.toml")), *sorted(kept.glob("*/*.toml"))]:
            name = str(file.relative_to(kept).with_suffix(""))
            if (root / name).is_dir() and study_fault(name) is None and layout.stays_inside(root, file):
                found.setdefault((name, root), [])
    studies = [Study(*key, tuple(runs)) for key, runs in found.items() if not key[0].endswith(layout.TRIES)]
    return sorted(studies, key=lambda study: (study.name, str(study.root)))


def find_study(ref: str, dirs: Iterable[str | Path] | None = None) -> Study:
    """The study called `ref`, in full or by what stands behind its slash, or whose folder it is. UsageError with the
    nearest names if there is none or there are several."""
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
    raise UsageError(f"{ref!r} names no study in {where}; {near}")


def tries_of(study: Study) -> tuple[Run, ...]:
    """The runs of the study's tries, in order of their ids; other studies are not looked at."""
    name, root = f"{study.name}{layout.TRIES}", study.root
    found = []
    for folder in sorted((root / name).glob("*/seed-*")):
        identifier = f"{name}/{folder.parent.name}/{folder.name}"
        named = layout.readable(folder.parent.name) and layout.SEED.fullmatch(folder.name)
        if named and folder.is_dir() and layout.stays_inside(root, folder):
            found.append(Run(folder, identifier, root))
    return tuple(found)


def tries_beside(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The tries of the studies of these runs, from the same runs folders."""
    studies = dict.fromkeys(Study(run.study, run.root, ()) for run in runs if run.root is not None)
    return tuple(run for study in studies for run in tries_of(study))


class Cost(NamedTuple):
    """Steps and seconds of training."""

    steps: float
    seconds: float


def cost_of(run: Run) -> Cost:
    """Steps done and seconds of training over all attempts, from the metrics."""
    ends = [(float(step[-1]), float(time[-1])) for step, _, _, time in map(run.axes, run.metric_names()) if len(step)]
    steps, seconds = zip(*ends, strict=True) if ends else ((), ())
    return Cost(max(steps, default=0.0), max((time for time in seconds if not math.isnan(time)), default=0.0))


def stages_of(run: Run) -> tuple[list[Run], list[str]]:
    """Every run that this one needs, directly or through others, each once; and the ids that are not found."""
    from lsc_engine.config.schema import references

    found: dict[str, Run] = {}
    missing: list[str] = []
    pending = [reference.ref for reference in references(partial(lookup, run.config))]
    while pending:
        name = pending.pop()
        if name in found or name in missing or name == run.id:
            continue
        try:
            found[name] = open_run(name, [run.root] if run.root is not None else None)
        except UsageError:
            missing.append(name)
            continue
        pending += [reference.ref for reference in references(partial(lookup, found[name].config))]
    return list(found.values()), missing
