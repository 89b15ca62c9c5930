"""Where things lie in a runs folder, which names are allowed, and joining that never leaves the folder.

runs/<study>/<variant>/seed-<N>/     <study> may hold one slash; the run id is this path"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

from lsc_engine.common import ids
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import natural
from lsc_engine.common.ids import LONGEST, name_fault, study_fault
from lsc_engine.common.userpaths import user_path

PRESET = "preset.toml"
SOURCE = "source.json"
CLASSES = "classes.json"
METRICS = "metrics.jsonl"
MACHINE = "machine.jsonl"
STATUS = "status.json"
LOG = "log.txt"
MIRRORS = "mirrors"
CHECKPOINTS = "checkpoints"
EMBEDDINGS = "embeddings"
NOTES = "notes.json"
CALIBRATION = "calibration.json"
CLASS_MEANS = "class_means.safetensors"
LOCK = ".lock"
TRASH = ".trash"
# The study of the tries of [tune] of a study: NAME.tune.
TRIES = ".tune"

# Names of folders that are listed: those of NAME, and such as people give them, with spaces and accents.
_READABLE = re.compile(r"[^\W_](?:[\w =.+(),&@#\u0300-\u036f-]*[\w=.+)\u0300-\u036f])?\Z")
SEED = re.compile(r"seed-(0|[1-9][0-9]{0,18})")
SHORT_MIN = 4
MAX_RUNS = 100_000
# How many folders within one whose name is not allowed are searched for runs.
_MAX_SEARCHED = 50


def check_name(name: str, what: str) -> str:
    """`name` if it may name a variant or a view, or, with a folder, a "study"; UsageError with the rule otherwise."""
    if (fault := study_fault(name) if what == "study" else name_fault(name)) is not None:
        raise UsageError(f"{what}: {fault}")
    return name


def run_id(study: str, variant: str, seed: int) -> str:
    """`study/variant/seed-N`; UsageError for names that are not allowed."""
    if seed < 0:
        raise UsageError(f"seed {seed} is not allowed: a whole number from 0")
    return ids.run_id(check_name(study, "study"), check_name(variant, "variant"), seed)


def readable(name: str) -> bool:
    """Whether a study or variant of this name is listed: also one that could not be given here."""
    return len(name) <= LONGEST and _READABLE.match(name) is not None


def split_id(identifier: str) -> tuple[str, str, int]:
    """Study, variant and seed of a run id; UsageError if it is not one."""
    parts = identifier.split("/")
    seed = SEED.fullmatch(parts[-1])
    if not 3 <= len(parts) <= 4 or seed is None:
        raise UsageError(f"{identifier!r} is not a run id: study/variant/seed-0")
    study, variant = "/".join(parts[:-2]), parts[-2]
    if not all(map(readable, parts[:-1])):
        check_name(study, "study"), check_name(variant, "variant")
    return study, variant, int(seed[1])


class LinkError(UsageError):
    """A link on the way to a run is not followed; the sentence contains its target."""


def inside(root: Path, relative: str) -> Path:
    """`root/relative`. UsageError if it leaves the root, also by a link that is not followed, or is no path."""
    if not relative or any(not c.isprintable() for c in relative):
        raise UsageError(f"{relative!r} is not a path: empty or with control characters")
    if relative.startswith(("/", "~")) or "\\" in relative or ".." in relative.split("/"):
        raise UsageError(f"{relative!r} would leave {root}")
    path = root
    tops: tuple[str, ...] = (os.path.realpath(root),)
    for part in relative.split("/"):
        path = path / part
        if path.is_symlink():
            tops, why = _through(path, tops)
            if why:
                raise LinkError(f"{path.relative_to(root)} {why}")
    return path


def _lies_in(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _through(link: Path, tops: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The folders that what lies behind a link may lie in, and why the link is not followed, or "". It may lead to a
    folder of `tops`, and anywhere if the user or root has made it; a link of another user may be a trap."""
    target = os.path.realpath(link)
    if not os.path.isdir(target):
        return tops, f"is a link to {target}, which is not {'a folder' if os.path.exists(target) else 'there'}"
    if _lies_in(os.path.realpath(link.parent), target):
        return tops, f"leads through a link to {target}, which holds it"
    if any(_lies_in(target, top) for top in tops):
        return tops, ""
    if os.lstat(link).st_uid in (os.geteuid(), 0):
        return (*tops, target), ""
    return tops, f"leads out through a link to {target}, which another user has made; --runs-dir can name that folder"


def stays_inside(root: Path, path: Path) -> bool:
    """Whether `path`, all links followed, lies below `root`."""
    with contextlib.suppress(OSError, ValueError):
        return _lies_in(os.path.realpath(path), os.path.realpath(root))
    return False


def run_folder(root: Path, identifier: str) -> Path:
    """The folder of a run id, checked by `split_id` and `inside`."""
    split_id(identifier)
    return inside(root, identifier)


def launch_log(root: Path, study: str) -> Path:
    """What the detached processes of a study print, those of its tries too."""
    return root / ".launch" / f"{study.removesuffix(TRIES).replace('/', '.')}.log"


def runs_dirs(values: Iterable[str | Path] | None = None) -> list[Path]:
    """The runs folders of the command line, each once, else `$LSC_RUNS`, else `./runs`; the first is one's own."""
    chosen = {os.path.realpath(path): path for path in map(user_path, values or ())}
    return [*chosen.values()] or [user_path(os.environ.get("LSC_RUNS") or "runs")]


def _entries(folder: Path) -> tuple[list[str], list[str], bool]:
    """Names that may be studies, variants or seeds, other names, and whether a run's files lie here. OSError."""
    names, others, files = list[str](), list[str](), False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in (PRESET, STATUS):
                files = True
            elif not entry.name.startswith(".") and (entry.is_symlink() or entry.is_dir()):
                (names if readable(entry.name) else others).append(entry.name)
    return sorted(names, key=natural), sorted(others, key=natural), files


def _holds_runs(folder: Path, depth: int = 3) -> bool:
    """Whether files of a run lie in a folder whose name is not allowed, as far as a short search finds out."""
    with contextlib.suppress(OSError):
        names, others, files = _entries(folder)
        below = [folder / name for name in (*names, *others)[:_MAX_SEARCHED] if not (folder / name).is_symlink()]
        return files or (depth > 0 and any(_holds_runs(path, depth - 1) for path in below))
    return False


def walk(root: Path, skipped: list[str] | None = None) -> Iterator[tuple[str, Path]]:
    """Run ids and folders below `root`, in order, at most `MAX_RUNS`; a folder counts by its place and name, so damaged
    runs are listed too. `skipped` gets a sentence for everything that may hold runs and is passed over."""
    return islice(_walk(root, "", (os.path.realpath(root),), skipped), MAX_RUNS)


def _walk(root: Path, prefix: str, tops: tuple[str, ...], skipped: list[str] | None) -> Iterator[tuple[str, Path]]:
    depth = prefix.count("/") + 1 if prefix else 0
    sentences = skipped if skipped is not None else []
    try:
        names, others, files = _entries(root / prefix)
    except OSError as error:
        if prefix:
            sentences.append(f"{prefix} cannot be read: {error.strerror}")
        return
    if files:
        sentences.append(f"{prefix or root} has the files of a run, but runs lie in study/variant/seed-N")
    if skipped is not None:
        rule = "it has to begin with a letter or digit and to hold no control or quoting characters"
        folders = (f"{prefix}/{name}".lstrip("/") for name in others)
        sentences += [f"{it} has runs, but its name is not allowed: {rule}" for it in folders if _holds_runs(root / it)]
    for name in names:
        relative = f"{prefix}/{name}".lstrip("/")
        path, within = root / relative, tops
        if path.is_symlink():
            within, why = _through(path, tops)
            if why:
                sentences += [] if os.path.isfile(path) else [f"{relative} {why}"]
                continue
        if depth >= 2 and SEED.fullmatch(name):
            yield relative, path
        elif depth < 3:
            yield from _walk(root, relative, within, skipped)


def digest(identifier: str) -> str:
    """The sha256 of a run id, in hex: its beginning is the short id."""
    return hashlib.sha256(identifier.encode("utf-8", "replace")).hexdigest()


def short_ids(identifiers: Iterable[str]) -> dict[str, str]:
    """Per run id the first hex digits of its sha256, at least four and as many as distinguish them."""
    digests = sorted((digest(identifier), identifier) for identifier in set(identifiers))
    pairs = (enumerate(zip(one, other, strict=True)) for (one, _), (other, _) in pairwise(digests))
    shared = [next((place for place, (a, b) in pair if a != b), SHORT_MIN) for pair in pairs]
    return {
        identifier: hashed[: max(SHORT_MIN, before + 1, after + 1)]
        for (hashed, identifier), before, after in zip(digests, [0, *shared], [*shared, 0], strict=False)
    }
