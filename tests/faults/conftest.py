"""One starting process, and one straight run to compare with, for all tests of faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import PHASES, Server, outcome, place, train


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="session")
def straight(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the run that nothing happened to."""
    folder: Path = place(tmp_path_factory.mktemp("straight"))
    assert train(server, folder, setup=PHASES).wait() == 0
    return outcome(folder)
