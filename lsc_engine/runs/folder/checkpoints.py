"""Checkpoint folders: their names, their manifest, and which of them is good. The tensors are written by training.

checkpoints/step-00001000/   model.safetensors, state.pt, ...   manifest.json (sizes, sha256) written last"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lsc_engine.common.safe_io import UnreadableError, blocks, fsync_folder, number_of, opened, read_json, replace_json
from lsc_engine.runs.folder.layout import CHECKPOINTS

MANIFEST = "manifest.json"
_STEP = re.compile(r"step-(\d{8,18})")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_FILES = 1000


def step_name(step: int) -> str:
    """`step-00001000`."""
    return f"step-{step:08d}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder with size and sha256 of its files; `problem`: why it is unfinished or damaged."""

    path: Path
    step: int
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    written: float | None = None
    """When the manifest was written, Unix seconds."""
    problem: str | None = None

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.files.values())


def sha256_file(path: Path) -> tuple[int, str]:
    """Size and sha256 of a regular file. UnreadableError if it cannot be read."""
    digest, size = hashlib.sha256(), 0
    with opened(path) as descriptor:
        for block in blocks(descriptor):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


@contextlib.contextmanager
def new_checkpoint(run_folder: Path, step: int, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A folder to write a checkpoint's files into. On leaving the block it is flushed, hashed, given its manifest and
    renamed to `step-<step>`; nothing stays of a failed one. Raises OSError, and what `check` raises, which is called
    before anything is removed or renamed."""
    parent = Path(run_folder) / CHECKPOINTS
    parent.mkdir(exist_ok=True)
    check()
    sweep(run_folder)
    final, old = parent / step_name(step), parent / f".old-{step_name(step)}"
    fresh = parent / f".new-{step_name(step)}-{secrets.token_hex(4)}"
    fresh.mkdir()
    try:
        yield fresh
        files = {}
        for path in sorted(fresh.iterdir()):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            try:
                size, digest = sha256_file(path)
            except UnreadableError as error:
                raise OSError(errno.EIO, str(error)) from None
            files[path.name] = {"size": size, "sha256": digest}
        replace_json(fresh / MANIFEST, {"step": step, "written": time.time(), "files": files})
        check()
        # A damaged checkpoint of the same step gives way; a good one is the same training state, written again.
        if final.exists():
            os.rename(final, old)
        os.rename(fresh, final)
        fsync_folder(parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(run_folder: Path) -> None:
    """Remove what a killed save left behind; a whole checkpoint that was being replaced gets its name back."""
    parent = Path(run_folder) / CHECKPOINTS
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            path = Path(entry.path)
            if entry.name.startswith(".old-") and not (parent / entry.name[5:]).exists():
                os.rename(path, parent / entry.name[5:])
            elif entry.name.startswith((".new-", ".old-")):
                shutil.rmtree(path, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in `path` by its manifest and sizes, nothing hashed; never raises: see `problem`."""
    match = _STEP.fullmatch(path.name)
    step = int(match[1]) if match else 0
    try:
        manifest = read_json(path / MANIFEST)
    except UnreadableError as error:
        return Checkpoint(path, step, problem=f"{path.name}: {error}")
    listed = manifest.pop("files", None)
    if not isinstance(listed, dict) or not 0 < len(listed) <= _MAX_FILES or manifest.get("step") != step:
        return Checkpoint(path, step, problem=f"{path.name}: {MANIFEST} does not belong to this checkpoint")
    files: dict[str, tuple[int, str]] = {}
    for name, entry in listed.items():
        size, digest = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if not _FILE.fullmatch(name) or type(size) is not int or not isinstance(digest, str):
            return Checkpoint(path, step, problem=f"{path.name}: {MANIFEST} is damaged")
        files[name] = (size, digest)
    written = number_of(manifest.get("written"))
    written = written if written is not None and abs(written) < 1e12 else None
    return Checkpoint(path, step, files, written, _size_problem(path, files))


def _size_problem(path: Path, files: Mapping[str, tuple[int, str]]) -> str | None:
    for name, (size, _) in files.items():
        try:
            found = os.stat(path / name).st_size
        except OSError:
            return f"{path.name}: {name} is not there"
        if found != size:
            return f"{path.name}: {name} has {found} bytes, {size} were written"
    return None


def verify(checkpoint: Checkpoint) -> str | None:
    """None if every file has the size and sha256 of the manifest; otherwise a sentence with the first fault."""
    if checkpoint.problem is not None:
        return checkpoint.problem
    for name, written in checkpoint.files.items():
        try:
            found = sha256_file(checkpoint.path / name)
        except UnreadableError as error:
            return f"{checkpoint.path.name}: {error}"
        if found != written:
            return f"{checkpoint.path.name}: {name} is not what was written (sha256 differs)"
    return None


def list_checkpoints(run_folder: Path) -> list[Checkpoint]:
    """The checkpoints of a run in rising order of steps, unfinished and damaged ones included; nothing hashed."""
    found: list[Checkpoint] = []
    with contextlib.suppress(OSError), os.scandir(Path(run_folder) / CHECKPOINTS) as entries:
        folders = [Path(e) for e in entries if _STEP.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
        found = sorted(map(read_checkpoint, folders), key=lambda checkpoint: checkpoint.step)
    return found


def newest_good(run_folder: Path, at: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint whose hashes hold (of step `at`), and a sentence for each newer one passed over."""
    problems: list[str] = []
    for checkpoint in reversed(list_checkpoints(run_folder)):
        if at is None or checkpoint.step == at:
            if (problem := verify(checkpoint)) is None:
                return checkpoint, problems
            problems.append(problem)
    return None, problems
