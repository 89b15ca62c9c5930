"""Pictures of every screen in states rarely looked at: no run, one, a failed one, 250, eleven variants, long names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from presets_for_tests import lay_out
from samples import PRESET, make_study
from textual.pilot import Pilot
from tui_helpers import make_app, settle

from lsc_tui.screens.new_run.screen import NewScreen
from lsc_tui.screens.vectors import systems
from lsc_tui.services.form_check import Sizes
from tests.waiting import pause_until

TRACEBACK = """Traceback (most recent call last):
  File "lsc_engine/training/execute.py", line 96, in execute
    trainer.run()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 41.2 GB. GPU 2 has a total capacity of 79.1 GB
"""
LONG = (
    "résumé of the smallest dimension, shuffled and trained again from the fourth checkpoint",
    "類別向量の最小次元" * 5,
)


def empty(root: Path) -> None:
    root.mkdir()


def one(root: Path) -> None:
    make_study(root, [("V21-min", 0, "finished", 200, 0.1)])


def failed(root: Path) -> None:
    made = make_study(root, [("A-384", 0, "finished", 200, 0.24), ("V21-384", 0, "failed", 60, 0.2)])
    log = made["lsc-2025/fig9/V21-384/seed-0"] / "log.txt"
    log.write_text(f"{log.read_text()}{TRACEBACK}")


def many(root: Path) -> None:
    one(root)
    (made,) = root.rglob("seed-0")
    for number in range(250):
        shutil.copytree(made, root / f"study-{number // 10:02}/V21-min/seed-{number % 10}")
    shutil.rmtree(root / "lsc-2025")


def variants(root: Path, names: list[tuple[str, str]], study: str) -> None:
    """Finished runs of variants with these names and labels."""
    head, *_ = PRESET.read_text().partition("[[variants]]")
    rows = [
        f'[[variants]]\nname = "{name}"\nlabel = "{label}"\noptimizer.lr = {number + 1}e-4\n'
        for number, (name, label) in enumerate(names)
    ]
    preset = root.parent / "preset.toml"
    preset.write_text(head.replace("A-384", names[0][0]) + "\n".join(rows))
    ends = [(name, 0, "finished", 200, 0.1 + 0.02 * number) for number, (name, _) in enumerate(names)]
    make_study(root, ends, name=study, preset=preset)


def eleven(root: Path) -> None:
    variants(root, [(f"lr-{number}", f"V21 n_min, rate {number}e-4") for number in range(1, 12)], "rates")


def long(root: Path) -> None:
    names = [(f"variant-{'of-many-words-' * 4}{number}", label) for number, label in enumerate(LONG)]
    variants(root, names, "a-study-whose-name-says-everything-about-it/the-smallest-dimension-of-all-systems")


async def runs(pilot: Pilot[Any]) -> None:
    pass


async def monitor(pilot: Pilot[Any]) -> None:
    await pilot.press("G", "enter", "2")


async def compare(pilot: Pilot[Any]) -> None:
    await pilot.press("asterisk", "c", "3")


async def form(pilot: Pilot[Any]) -> None:
    await pilot.press("G", "N")
    await pause_until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
    screen = cast(NewScreen, pilot.app.screen)
    await pause_until(pilot, lambda: screen.preset_list.infos and not screen.checking and screen._logout)


async def vectors(pilot: Pilot[Any]) -> None:
    await pilot.press("5")


CASES = [(state, screen) for state in (empty, one, failed, many, eleven, long) for screen in (runs, monitor, compare)]
CASES += [(one, form), (eleven, form), (long, form), (empty, vectors), (long, vectors)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """The runs folder of a state, made once."""
    made: dict[Any, Path] = {}

    def of(state: Callable[[Path], None]) -> Path:
        if state not in made:
            made[state] = tmp_path_factory.mktemp(state.__name__) / "runs"
            state(made[state])
        return made[state]

    return of


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize(("state", "screen"), CASES, ids=[f"{s.__name__}-{w.__name__}" for s, w in CASES])
def test_state(
    folders: Callable[[Any], Path], snap_compare: Any, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int],
    state: Callable[[Path], None], screen: Any,
) -> None:  # fmt: skip
    folder = folders(state)
    monkeypatch.setenv("HOME", str(folder.parent))
    lay_out(folder.parent, monkeypatch)
    # Parameters are counted by another process, at a time of its own.
    monkeypatch.setattr(Sizes, "ask", lambda self, outcome, data_dir: None)
    # What other tests have counted.
    monkeypatch.setattr(systems, "CROWDING", {})
    monkeypatch.setattr(systems, "HISTOGRAMS", {})
    app = make_app(folder)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await screen(pilot)
        await settle(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)
