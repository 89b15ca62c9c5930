"""What `check` and `run` report on the folders of a data set before training. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lsc_engine.config.schema import Data
from lsc_engine.data.class_folders import FolderError, layout_notes
from lsc_engine.data.dataset import Place, Selection, data_set, denied_sentence
from lsc_engine.data.datasets.image_folders import ImageFolders
from lsc_engine.data.listing import Split


@contextmanager
def with_key(data: Data) -> Iterator[None]:
    """A FolderError in the block gets the key of the preset that names the folder."""
    try:
        yield
    except FolderError as error:
        key = "data.dataset" if data.path is None else "data.path"
        raise FolderError(*(f"{key}: {sentence}" for sentence in error.faults)) from None


def data_notes(data: Data, data_dir: Place = None) -> list[str]:
    """Sentences on what the folders of `data` hold and training does not use, or uses otherwise than it may seem.

    FolderError, with the key, for folders that cannot be read and links to nothing where classes are expected.
    """
    chosen = data_set(data.dataset)
    if not chosen.image_files:
        return []
    root = chosen.locate(data_dir, data.path)
    if root is None:
        if data.path is not None and (denied := denied_sentence(data.path)) is not None:
            raise FolderError(denied)
        return []
    with with_key(data):
        return layout_notes(data.dataset, root, unique=data.labels == "unique", skip_bad=bool(data.skip_bad))


def bad_notes(data: Data, data_dir: Place = None) -> list[str]:
    """Sentences on images that cannot be used, by a look at every file without decoding it, and on those that were
    found when all of them were decoded. FolderError as `data_notes`."""
    chosen = data_set(data.dataset)
    root = chosen.locate(data_dir, data.path) if chosen.image_files else None
    if root is None:
        return []
    unique, skip = data.labels == "unique", bool(data.skip_bad)
    notes = []
    for name in ("train",) if unique else ("train", "val"):
        split = Split(data.dataset, root, name, unique, data_dir, data.classes)
        with with_key(data):
            files = split.files(skip_bad=skip, look="rights")
        if files is None:
            continue
        known = split.known_bad(files)
        bad = split.bad_in_use(files, known or ())
        if bad and skip:
            total = len(files) + len(files.bad)
            notes.append(f"data.skip_bad: {len(bad):,} of {total:,} images in {files.base} are left out")
        elif bad:
            notes.append(split.report(files, bad))
        if skip and known is None:
            notes.append(f"{files.base}: which images cannot be read is known once all were decoded, before training")
    return notes


def known_shortfall(data: Data, data_dir: Place = None) -> str | None:
    """A sentence where a data set of known size lacks images; None where it is whole, not found, or data.skip_bad
    trains on what is there. FolderError as `data_notes`."""
    chosen = data_set(data.dataset)
    if data.skip_bad or not isinstance(chosen, ImageFolders):
        return None
    with with_key(data):
        return chosen.shortfall(Selection.of(data, data_dir))
