"""Where things lie in a runs folder, which names are allowed, and joining that never leaves the folder.

    runs/<study>/<variant>/seed-<N>/     <study> may hold one slash: folder/stem

The run id is the path below the runs folder. Its short id is the beginning of the sha256 of the run id.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lsc_engine.errors import UsageError
from lsc_engine.userpaths import user_path

PRESET = "preset.toml"
SOURCE = "source.json"
CLASSES = "classes.json"
METRICS = "metrics.jsonl"
STATUS = "status.json"
LOG = "log.txt"
CHECKPOINTS = "checkpoints"
EMBEDDINGS = "embeddings"
NOTES = "notes.json"
CLASS_MEANS = "class_means.safetensors"
LOCK = ".lock"
TRASH = ".trash"
# The study of the tries of [tune] of a study: NAME.tune.
TRIES = ".tune"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9=._+-]*")
SEED = re.compile(r"seed-(0|[1-9][0-9]{0,18})")
SHORT_MIN = 4
MAX_NAME = 200
MAX_RUNS = 100_000


def check_name(name: str, what: str) -> str:
    """`name` if it may be a file name of ours; UsageError with the rule otherwise."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(
            f'{what} {name!r} is not allowed: letters, digits and "=._+-", beginning with a letter or digit, '
            f"at most {MAX_NAME} characters"
        )
    return name


def check_study(study: str) -> str:
    """`study` if it is a name or folder/name; UsageError otherwise."""
    parts = study.split("/")
    if len(parts) > 2:
        raise UsageError(f"study {study!r} is not allowed: at most one slash, as in folder/name")
    for part in parts:
        check_name(part, "study")
    return study


def run_id(study: str, variant: str, seed: int) -> str:
    """`study/variant/seed-N`; UsageError for names that are not allowed."""
    if seed < 0:
        raise UsageError(f"seed {seed} is not allowed: a whole number from 0")
    return f"{check_study(study)}/{check_name(variant, 'variant')}/seed-{seed}"


def split_id(identifier: str) -> tuple[str, str, int]:
    """Study, variant and seed of a run id; UsageError if it is not one."""
    parts = identifier.split("/")
    seed = SEED.fullmatch(parts[-1])
    if not 3 <= len(parts) <= 4 or seed is None:
        raise UsageError(f"{identifier!r} is not a run id: study/variant/seed-0")
    check_study("/".join(parts[:-2]))
    check_name(parts[-2], "variant")
    return "/".join(parts[:-2]), parts[-2], int(seed[1])


def inside(root: Path, relative: str) -> Path:
    """`root/relative`, refused with UsageError if it is absolute, climbs out, holds control characters or passes
    through a link that leads out of `root` (the root itself may be a link)."""
    if not relative or any(not c.isprintable() for c in relative):
        raise UsageError(f"{relative!r} is not a path: empty or with control characters")
    if relative.startswith(("/", "~")) or "\\" in relative or ".." in relative.split("/"):
        raise UsageError(f"{relative!r} would leave {root}")
    path = root / relative
    if not stays_inside(root, path):
        raise UsageError(f"{relative!r} leads out of {root} through a link")
    return path


def stays_inside(root: Path, path: Path) -> bool:
    """Whether `path`, all links followed, lies below `root`."""
    try:
        resolved = os.path.realpath(path)
        top = os.path.realpath(root)
    except (OSError, ValueError):
        return False
    return resolved == top or resolved.startswith(top.rstrip("/") + "/")


def run_folder(root: Path, identifier: str) -> Path:
    """The folder of a run id, checked by `split_id` and `inside`."""
    split_id(identifier)
    return inside(root, identifier)


def launch_log(root: Path, study: str) -> Path:
    """What the detached processes of a study print, those of its tries too."""
    return root / ".launch" / f"{study.removesuffix(TRIES).replace('/', '.')}.log"


def runs_dirs(values: Iterable[str | Path] | None = None) -> list[Path]:
    """The runs folders named on the command line, else `$LSC_RUNS`, else `./runs`; the first is one's own."""
    chosen = [user_path(value) for value in values or ()]
    return chosen or [user_path(os.environ.get("LSC_RUNS") or "runs")]


def _folders(folder: Path) -> list[str]:
    """Names in `folder` that may be studies, variants or seeds, in order; links only where they stay inside."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if NAME.fullmatch(e.name) and (e.is_symlink() or e.is_dir()))
    except OSError:
        return []


def _may_follow(root: Path, link: Path) -> bool:
    """Whether a link leads to another folder of `root`, and not to one that it lies in."""
    return stays_inside(root, link) and link.is_dir() and not stays_inside(link, link.parent)


def walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Run ids and folders below `root`, in order, at most `MAX_RUNS`.

    A folder counts as a run by its place and name (study/variant/seed-N), so that damaged runs are seen too.
    """
    found = 0
    pending = [""]
    while pending:
        prefix = pending.pop()
        depth = prefix.count("/") + 1 if prefix else 0
        below: list[str] = []
        for name in _folders(root / prefix):
            relative = f"{prefix}/{name}" if prefix else name
            path = root / relative
            if path.is_symlink() and not _may_follow(root, path):
                continue
            if depth >= 2 and SEED.fullmatch(name):
                yield relative, path
                found += 1
                if found >= MAX_RUNS:
                    return
            elif depth < 3:
                below.append(relative)
        pending.extend(reversed(below))


def digest(identifier: str) -> str:
    """The sha256 of a run id, in hex: its beginning is the short id."""
    return hashlib.sha256(identifier.encode("utf-8", "replace")).hexdigest()


def _first_difference(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))


def short_ids(identifiers: Iterable[str]) -> dict[str, str]:
    """Per run id the first hex digits of its sha256, at least four and as many as tell them apart."""
    digests = sorted((digest(i), i) for i in set(identifiers))
    short: dict[str, str] = {}
    for position, (hashed, identifier) in enumerate(digests):
        length = SHORT_MIN
        for neighbour in digests[max(position - 1, 0) : position + 2]:
            if neighbour[1] != identifier:
                length = max(length, _first_difference(hashed, neighbour[0]) + 1)
        short[identifier] = hashed[:length]
    return short
