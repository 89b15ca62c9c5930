"""One straight run to compare with, for all tests of faults; none of their processes outlives its test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import PHASES, end_all, outcome, place, train


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the run that nothing happened to."""
    folder: Path = place(tmp_path_factory.mktemp("straight"))
    assert train(folder, setup=PHASES).wait() == 0
    return outcome(folder)
