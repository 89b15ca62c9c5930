"""A vector system of one class is found by name, counted, listed and decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors import VectorSystem, n_min, system
from lsc_engine.vectors.registry import facts, fault, listed, suggested


class Axes(VectorSystem):
    """The unit vectors e_1 ... e_n."""

    pattern: ClassVar[str] = "unit_vectors"
    listed: ClassVar[tuple[str, ...]] = ("unit_vectors",)

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        self.count, self.support, self.max_cosine = n, 1, 0.0 if n > 1 else -1.0

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return index.unsqueeze(-1), torch.ones((*index.shape, 1))

    def nearest(self, z: Tensor) -> Tensor:
        return z.argmax(1)


@pytest.fixture
def unit_vectors() -> Iterator[None]:
    classes = dict(SYSTEMS.built_in)
    SYSTEMS._classes["unit_vectors"] = Axes
    # Computed once otherwise.
    vars(SYSTEMS).pop("built_in", None)
    yield
    del SYSTEMS._classes["unit_vectors"]
    vars(SYSTEMS).pop("built_in", None)
    assert dict(SYSTEMS.built_in) == classes


@pytest.mark.usefixtures("unit_vectors")
def test_one_class_is_a_system_everywhere() -> None:
    assert "unit_vectors" in listed()
    assert "unit_vectors" in suggested()
    assert fault("unit_vectors") is None
    assert n_min("unit_vectors", 12) == 12
    known = facts("unit_vectors", 12)
    assert (known.count, known.min_angle_deg, known.decode, known.neighbours) == (
        12,
        pytest.approx(90),
        "structure",
        None,
    )
    made = system("unit_vectors", 5)
    index = torch.arange(5)
    assert torch.equal(made.vectors(index), torch.eye(5))
    assert torch.equal(made.nearest(made.vectors(index)), index)


def test_without_the_class_its_name_is_unknown() -> None:
    assert fault("unit_vectors") is not None
