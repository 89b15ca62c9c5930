"""Settings as a preset gives them, and small image folders in the layout of the real data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest


@dataclass(frozen=True)
class Settings:
    dataset: str
    labels: str = "class"
    classes: int | None = None
    image_size: int | None = None
    path: str | None = None
    skip_bad: bool | None = None


@pytest.fixture
def settings() -> type[Settings]:
    return Settings


def picture(number: int, width: int = 40, height: int = 32) -> np.ndarray:
    """A picture whose upper left colour tells its number."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write ROOT/SPLIT/CLASS/NAME pictures: image_folder("root", {"train": {"cat": ["a.JPEG", …]}})."""
    from PIL import Image

    def make(name: str, splits: dict[str, dict[str, list[str]]], size: tuple[int, int] = (40, 32)) -> Path:
        root = tmp_path / name
        number = 0
        for split, classes in splits.items():
            for label, files in classes.items():
                folder = root / split / label
                folder.mkdir(parents=True, exist_ok=True)
                for file in files:
                    number += 1
                    Image.fromarray(picture(number, *size)).save(folder / file)
        return root

    return make
