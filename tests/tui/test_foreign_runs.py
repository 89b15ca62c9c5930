"""Logs of other tools in the same screens as our runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comparable import make_comparable
from textual.pilot import Pilot
from tui_helpers import make_app, open_app, settle, text_of

from lsc_tui.data.poller import Poller
from lsc_tui.screens.compare.screen import CompareScreen


def test_the_poller_follows_a_log_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "exp" / "a" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,train_loss,val_acc\n1,2.0,0.25\n")
    poller = Poller([tmp_path], lambda: None, hardware=False)
    poller.subscribe({"0:exp/a": frozenset({"train/loss"})})
    poller.round()
    update = poller.take()
    view = update.runs["0:exp/a"]
    assert (view.read_only, view.state, view.last("train/loss"), view.last("val/accuracy")) == (
        True,
        "running",
        2.0,
        0.25,
    )
    with path.open("a") as out:
        out.write("2,1.5,0.5\n")
    poller._next_look = 0.0
    poller.round()
    update = poller.take()
    assert update.curves["0:exp/a"].curves["train/loss"].value.tolist() == [2.0, 1.5]
    assert (update.runs["0:exp/a"].status.step, update.runs["0:exp/a"].trend) == (2, (2.0, 1.5))


async def test_keys_that_act_name_the_origin(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "exp" / "a" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,train_loss\n1,2.0\n2,1.0\n")
    async with open_app(tmp_path / "runs") as (app, pilot):
        app.poller.stop()
        for key in "SRDntNF":
            await pilot.press(key)
            assert f"{key}: a csv log of another tool is only read" in text_of(app), key
            await pilot.press("escape")
    assert [path] == [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]


def test_a_long_log_is_shown_by_a_sample_first(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    count = 150_000  # 6 MB
    path.write_text("step,train_loss\n" + "".join(f"{step},{step / count:.30f}\n" for step in range(count)))
    poller = Poller([tmp_path], lambda: None, hardware=False)
    poller.subscribe({"0:.": frozenset({"train/loss"})})
    poller.round()
    first = poller.take().curves["0:."]
    assert first.sampled
    step, value = first.curves["train/loss"].step, first.curves["train/loss"].value
    assert 1000 < len(step) < count / 2
    assert step[0] == 0
    assert step[-1] > 0.98 * count
    assert (value == step / count).all()
    for _ in range(100):
        if not poller.round():
            break
    poller.round()
    whole = poller.take().curves["0:."]
    assert (len(whole.curves["train/loss"].step), whole.sampled) == (count, False)


@pytest.fixture
def beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of ours, and a table of another tool that counts steps alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    make_comparable(tmp_path / "runs", tmp_path / "fig1a.toml")
    path = tmp_path / "runs" / "a" / "theirs" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,train_loss,train_acc\n" + "".join(f"{20 * i},{2 / (i + 1)},{i / 40}\n" for i in range(30)))
    return tmp_path / "runs"


async def test_a_log_of_another_tool_and_a_run_of_ours_on_one_axis(beside_ours: Path) -> None:
    async with open_app(beside_ours, size=(160, 48)) as (app, pilot):
        await pilot.press("g", "down", "space", "G", "space", "c")
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, CompareScreen)
        assert screen.found is not None
        assert {run.origin for row in screen.found.comparison.rows for run in row.runs} == {"lsc", "csv"}
        assert "theirs" in text_of(app)
        # The table has no epochs, so both are drawn by their steps.
        assert (screen.look.axis, screen.found.request.axis) == ("epoch", "step")
        for row in screen.found.comparison.rows:
            (run,) = row.runs
            drawn = screen.found.curves["train/accuracy"][row.key]
            assert drawn.x.tolist() == run.history("train/accuracy")[0].tolist()
        assert "step · " in text_of(app)
        await pilot.press("x")
        await settle(app, pilot)
        assert screen.found.request.axis == screen.look.axis == "step"


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_log_of_another_tool_in_compare_looks(beside_ours: Path, snap_compare: Any, size: tuple[int, int]) -> None:
    app = make_app(beside_ours)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await pilot.press("g", "down", "space", "G", "space", "c")
        await settle(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)


async def test_a_log_by_step_alone_is_no_log_by_epochs_in_monitor(beside_ours: Path) -> None:
    async with open_app(beside_ours, size=(160, 48)) as (app, pilot):
        app.watch_run("0:a/theirs")
        await settle(app, pilot)
        assert "step 580   loss .0667   min .0667 at 580" in text_of(app)
        assert "epoch 580" not in text_of(app)
