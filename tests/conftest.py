"""Fixtures for every test: one torch thread, no colour, no user folders; signals as in a terminal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import processes
from tests.trackers import trackers as trackers  # the fixture

# Timings and bit-equality hold at one thread; the variable also reaches child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Nothing here has to outlive a power cut. Command lines in processes of their own write through to the disk as ever.
os.fsync = lambda file: None  # type: ignore[assignment]

# In the processes that tests start as in those that run them (filterwarnings in pyproject.toml).
os.environ["PYTHONWARNINGS"] = "error"

# Under nohup, or behind `&` of a script, processes inherit that these are ignored; tests send them.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGHUP else signal.default_int_handler)


# The same examples every time, however slowly they are drawn and run on a busy machine; others, drawn anew each time,
# with --hypothesis-profile new.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("new", unhurried)
settings.register_profile("same", unhurried, derandomize=True)
settings.load_profile("same")


# Files of some ten seconds of processor time and more, the longest first: with the others after them, the workers of
# pytest-xdist end at nearly the same time (--no-loadscope-reorder in the Makefile keeps this order).
LONG = (
    "training/test_compiling", "training/test_stages", "training/test_curves", "cli/test_streams",
    "faults/test_waiting", "tui/test_compare", "tui/test_new", "cli/test_no_home", "cli/test_data_cli",
    "benchmarks/test_bench", "faults/test_together", "training/test_pictures", "training/test_devices",
    "training/test_processes", "e2e/test_typing", "faults/test_signals", "tui/test_embeddings",
    "faults/test_readers", "e2e/test_terminal", "cli/test_detached", "tui/test_form_runs", "tui/test_hostile",
    "cli/test_look_cli", "tui/test_app", "tui/test_demo", "faults/test_mirrors", "faults/test_resume",
    "training/test_loop", "training/test_step", "cli/test_train_cli", "faults/test_storage", "tui/test_closing",
    "cli/test_watching", "training/test_embeddings", "vectors/test_systems", "runs/test_foreign",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    places = {tests / f"{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """What conftest files set in the environment is set; no test has changed it."""
    processes.loaded_in()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before, at_broken_pipe = dict(os.environ), signal.getsignal(signal.SIGPIPE)
    for name in ("LSC_RUNS", "LSC_DATA", "LSC_PRESETS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    # The viewer, started in this process, runs no plugins from then on.
    monkeypatch.setattr("lsc_engine.registry.Registry.names_only", False)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    yield
    # The command line, run in this process, ends it at a broken pipe from then on, and prepares the environment of its
    # children for good.
    signal.signal(signal.SIGPIPE, at_broken_pipe)
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
