"""Notes and tags of a run (notes.json), and moving runs to the trash and back."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import UnreadableError, exclusive_lock, number_of, read_json, replace_json, writing
from lsc_engine.common.userpaths import user_name
from lsc_engine.runs.folder.layout import NOTES, TRASH, run_folder, stays_inside, walk

MAX_NOTE = 4000
_TAG = re.compile(r"[^\s,\x00-\x1f\x7f-\x9f]{1,60}")


@dataclass(frozen=True, slots=True)
class Note:
    """One note: Unix seconds, user, text."""

    time: float
    author: str
    text: str


def _is_tag(tag: object) -> bool:
    return isinstance(tag, str) and _TAG.fullmatch(tag) is not None and tag.isprintable()


def _parse(document: dict[str, Any]) -> tuple[list[Note], list[str]]:
    """The notes and tags of a file that may hold anything."""
    raw_notes, raw_tags = (value if isinstance(value := document.get(key), list) else [] for key in ("notes", "tags"))
    notes: list[Note] = []
    for item in raw_notes[:10_000]:
        if isinstance(item, dict) and isinstance(item.get("text"), str):
            when, author = number_of(item.get("time")) or 0.0, item.get("author")
            author = author[:200] if isinstance(author, str) else ""
            notes.append(Note(when if abs(when) < 1e12 else 0.0, author, item["text"][:MAX_NOTE]))
    return notes, list(dict.fromkeys(filter(_is_tag, raw_tags)))[:1000]


def read_notes(folder: Path) -> tuple[list[Note], list[str]]:
    """Notes and tags; both empty if there are none or the file cannot be read."""
    try:
        return _parse(read_json(folder / NOTES))
    except UnreadableError:
        return [], []


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[tuple[list[Note], list[str]]]:
    """Notes and tags to be changed in place and written back, by one process at a time. LscError."""
    try:
        # The folder itself is locked, which leaves no file; on a file system without locks the last writer wins.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LscError(f"{folder} cannot be opened: {error.strerror}") from None
    with exclusive_lock(descriptor):
        try:
            notes, tags = _parse(read_json(folder / NOTES)) if (folder / NOTES).exists() else ([], [])
        except UnreadableError as error:
            raise LscError(f"{folder}: {error}; move it away to begin anew") from None
        yield notes, tags
        with writing(folder / NOTES):
            replace_json(folder / NOTES, {"notes": [asdict(note) for note in notes], "tags": tags})


def check_note(text: str) -> None:
    """UsageError for a text that is too long for a note or holds control characters."""
    if len(text.strip()) > MAX_NOTE:
        raise UsageError(f"a note has 1 to {MAX_NOTE} characters")
    if not all(c.isprintable() or c in "\n\t" for c in text.strip()):
        raise UsageError("a note holds no control characters")


def add_note(folder: Path, text: str) -> None:
    """Add a note; UsageError if it is empty, too long or holds control characters."""
    if not text.strip():
        raise UsageError(f"a note has 1 to {MAX_NOTE} characters")
    change_note(folder, None, text)


def change_note(folder: Path, old: str | None, text: str) -> None:
    """Replace the newest note that reads `old`, or remove it for an empty `text`; None adds one. UsageError as for
    `add_note`, or if the old one is gone."""
    text = text.strip()
    check_note(text)
    new = [Note(time.time(), user_name(), text)] if text else []
    with _changing(folder) as (notes, _):
        place = next((i for i in reversed(range(len(notes))) if notes[i].text == old), len(notes))
        if place == len(notes) and old is not None:
            raise UsageError("this note has been changed or taken away meanwhile")
        notes[place : place + 1] = new


def check_tag(tag: str) -> None:
    """UsageError for a tag with spaces, commas or control characters, or a leading minus."""
    if not _is_tag(tag) or tag.startswith("-"):
        allowed = "1 to 60 printable characters without spaces and commas, the first not a minus"
        raise UsageError(f"tag {tag!r} is not allowed: {allowed}")


def add_tag(folder: Path, tag: str) -> None:
    """Add a tag that `check_tag` accepts."""
    check_tag(tag)
    with _changing(folder) as (_, tags):
        if tag not in tags:
            tags.append(tag)


def remove_tag(folder: Path, tag: str) -> None:
    """Remove a tag; UsageError if the run has no such tag."""
    with _changing(folder) as (_, tags):
        if tag not in tags:
            raise UsageError(f"there is no tag {tag!r} to take away. Tags: {', '.join(tags) or 'none'}")
        tags.remove(tag)


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`, links not followed."""
    total = 0
    for top, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(top, name)).st_size
    return total


def move_to_trash(root: Path, identifier: str, folder: Path) -> Path:
    """Move a run to `.trash`; its new place. UsageError for a folder outside `root`, LscError if that fails."""
    if folder.is_symlink() or not stays_inside(root, folder) or folder.resolve() == root.resolve():
        where = f", but in {folder.resolve()}; --runs-dir can name the folder it lies in" if folder.exists() else ""
        raise UsageError(f"{folder} does not lie in {root}{where}")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    try:
        for number in itertools.count():
            place = root / TRASH / f"{stamp}-{number}" / identifier
            with contextlib.suppress(FileExistsError):
                place.parent.mkdir(parents=True)
                break
        os.rename(folder, place)
    except OSError as error:
        raise LscError(f"{folder} cannot be moved to {root / TRASH}: {error.strerror}") from None
    _remove_empty(folder.parent, root)
    return place


def trashed(root: Path) -> list[tuple[str, Path]]:
    """Run id and folder of what lies in the trash of a runs folder, last deleted first."""
    try:
        stamps = sorted((path for path in (root / TRASH).iterdir() if not path.is_symlink()), reverse=True)
    except OSError:
        return []
    return [found for stamp in stamps for found in walk(stamp)]


def restore(root: Path, identifier: str, place: Path) -> Path:
    """Move a run of the trash back; its folder. UsageError if its place is taken, LscError if that fails."""
    folder = run_folder(root, identifier)
    if place.is_symlink() or not stays_inside(root / TRASH, place):
        raise UsageError(f"{place} does not lie in {root / TRASH}")
    if os.path.lexists(folder):
        raise UsageError(f"{identifier} is there again, and is not overwritten by the one in the trash")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(place, folder)
    except OSError as error:
        raise LscError(f"{place} cannot be moved to {folder}: {error.strerror}") from None
    _remove_empty(place.parent, root / TRASH)
    return folder


def _remove_empty(folder: Path, top: Path) -> None:
    with contextlib.suppress(OSError):
        while folder != top and stays_inside(top, folder):
            folder.rmdir()
            folder = folder.parent
