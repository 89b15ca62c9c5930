"""Labels of one data set in the terms of another, by the names of the classes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lsc_engine.data.batches import eval_batches
from lsc_engine.data.class_folders import labels_of, without
from lsc_engine.data.named import by_name
from lsc_engine.data.source import ImageSource, StreamedSource, TensorSource
from lsc_engine.runs.folder.classes import changed_classes, read_classes, write_classes

CPU = torch.device("cpu")
# Image i is grey i and has the label LABELS[i].
LABELS = [0, 0, 1, 2, 2, 3, 1]


class Greys:
    channels, size = 3, 4

    def read(self, index: Tensor) -> Tensor:
        return index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()


def held() -> ImageSource:
    return TensorSource(Greys().read(torch.arange(len(LABELS))), torch.tensor(LABELS), classes=4, device=CPU)


def streamed() -> ImageSource:
    return StreamedSource(Greys(), torch.tensor(LABELS), images=len(LABELS), classes=4, device=CPU)


def seen(source: ImageSource) -> list[tuple[int, int]]:
    """(number of the image, label) in the order of the source, as an evaluation reads it."""
    found = []
    for batch in eval_batches(source, torch.arange(source.images), 3, workers=0):
        greys = ((batch.images[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()
        found += list(zip(greys, batch.labels.tolist(), strict=True))
    return found


@pytest.mark.parametrize("made", [held, streamed])
def test_images_have_the_labels_of_their_names(made: Callable[[], ImageSource]) -> None:
    source = made()
    source.class_names = ("a", "b", "c", "d")
    other, found = by_name(source, ("d", "x", "b"))
    assert seen(other) == [(2, 2), (5, 0), (6, 2)]
    assert found == [-1, 2, -1, 0]
    assert without(source.class_names, ("d", "x", "b")) == ["a", "c"]
    assert (other.classes, other.class_names) == (3, ("d", "x", "b"))
    whole, _ = by_name(source, ("d", "x", "b"), keep=True)
    assert seen(whole) == [(0, 3), (1, 3), (2, 2), (3, 4), (4, 4), (5, 0), (6, 2)]
    assert whole.class_names == ("d", "x", "b", "a", "c")


@pytest.mark.parametrize("made", [held, streamed])
def test_the_same_names_are_the_same_source(made: Callable[[], ImageSource]) -> None:
    source = made()
    source.class_names = ("a", "b", "c", "d")
    assert by_name(source, source.class_names)[0] is source
    nothing, found = by_name(source, ("x", "y"))
    assert (nothing.images, found) == (0, [-1, -1, -1, -1])


def test_names_that_differ_in_their_unicode_form_alone_are_one_unless_both_are_classes() -> None:
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    assert labels_of([nfd, "x"], ["x", nfc]) == [1, 0]
    assert labels_of([nfc, nfd], [nfd, nfc]) == [1, 0]
    # Hangul: three letters, or one syllable; one of two such classes would be a guess for a third spelling.
    assert labels_of(["\u1100\u1161\u11a8"], ["\uac01"]) == [0]
    assert labels_of(["\u212b"], ["\u00c5", "A\u030a"]) == [-1]
    assert changed_classes([nfc, "x"], [nfd, "x"]) is None


def test_what_changed_is_told() -> None:
    assert changed_classes(["a", "b"], ["b", "a"]) == "the same names in another order"
    assert changed_classes(["a", "b"], ["a", "b", "c"]) == "new: c"
    assert changed_classes(["a", "b"], ["x", "b"]) == "new: x; not there any more: a"
    many = [str(number) for number in range(1000)]
    assert changed_classes([], many) == "new: 0, 1, 2, 3, 4, 5 and 994 more"
    assert labels_of(many, many[::-1]) == list(range(999, -1, -1))


def test_names_come_back_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path
    assert read_classes(folder) == ()
    names = ("日本", "a\nb", 'q"uote', os.fsdecode(b"\xff\xfe"), "", "🐝", "e\u0301")
    write_classes(folder, names)
    assert read_classes(folder) == names
    long = tuple(f"class number {number:,} of very many" * 3 for number in range(100_000))
    write_classes(folder, long)
    assert read_classes(folder) == long
