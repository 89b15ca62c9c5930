"""Closing the viewer while something is at work in a thread leaves nothing behind: no coroutine that nobody awaits."""

from __future__ import annotations

import gc
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from comparable import make_comparable
from presets_for_tests import lay_out
from tui_helpers import make_app, settle

from lsc_tui.app import LscApp
from tests.waiting import pause_until, wait_until

WORK = {
    "verdicts": (),
    "note": ("g", "down", "n", "x", "enter"),
    "preset of a run": ("g", "down", "r"),
    "metrics as a file": ("g", "down", "e", "c", "enter"),
    "compared runs": ("g", "enter"),
    "saved view": ("g", "enter", "w", "enter"),
    "list of presets": ("4",),
    "check of a form": ("4", "enter"),
    "file of vectors": ("5", "slash", *"file:none.csv", "enter"),
    "report of a study": ("g", "enter", "e", "r", "enter"),
    "tag": ("g", "down", "t", "x", "enter"),
}


@pytest.mark.slow
@pytest.mark.parametrize("keys", WORK.values(), ids=WORK.keys())
async def test_what_a_thread_tells_a_closed_viewer_is_dropped(
    keys: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, monkeypatch)
    make_comparable(tmp_path / "runs", tmp_path / "fig1a.toml")
    closed, outcome = threading.Event(), threading.Event()
    call_soon = LscApp.call_soon

    def held_back(self: LscApp, *args: Any) -> None:
        """Every thread has something to tell only once the viewer is closed."""
        outcome.set()
        closed.wait(60)
        call_soon(self, *args)

    before = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app = make_app(tmp_path / "runs")
        if not keys:
            monkeypatch.setattr(LscApp, "call_soon", held_back)
        async with app.run_test(size=(160, 48)) as pilot:
            if keys:
                await settle(app, pilot)
                monkeypatch.setattr(LscApp, "call_soon", held_back)
                await pilot.press(*keys)
            await pause_until(pilot, outcome.is_set)
            await pilot.press("q")
        closed.set()
        names = ("standing", "collector", "report")
        mine = [thread for thread in threading.enumerate() if thread not in before and thread.name in names]
        wait_until(lambda: not any(thread.is_alive() for thread in mine))
        gc.collect()
    assert [str(w.message) for w in caught if "never awaited" in str(w.message)] == []


async def test_no_verdict_is_begun_after_the_viewer_was_closed(tmp_path: Path) -> None:
    make_comparable(tmp_path / "runs", tmp_path / "fig1a.toml")
    app = make_app(tmp_path / "runs")
    async with app.run_test(size=(160, 48)) as pilot:
        await settle(app, pilot)
    app.verdicts._known.clear()
    views = list(app.store.runs.values())
    begun = threading.active_count()
    app.verdicts.request([views], lambda act: act(), lambda: None)
    assert threading.active_count() == begun
    assert not app.verdicts.whole([views])
